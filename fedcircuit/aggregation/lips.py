"""Transient sparsity in the download (LIPS, arXiv 2506.00932): which entries a client receives.

Every ``period`` rounds clients start from the global model with a part of its middle layers set to
zero. Nothing keeps the zeros: local training fills them again. What is computed here follows the
paper's released code of 2025 (repository QiaoXiao7282/LIPS), but for its defects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit.learning import Weights

Schedule = Literal["linear", "cosine", "const"]
Score = Literal["magnitude", "sensitivity", "random", "low"]
Scope = Literal["per_layer", "global"]
Side = Literal["server", "client"]
Reset = Literal["zero", "init"]
Kept = Mapping[str, NDArray[np.bool_]]  # name of a tensor -> the entries that are sent as they are
Include = Callable[[str, nn.Module], bool]

_ROUNDING = 1e-9  # 0.3 of 10 entries are 3, whatever the product of the two floats is
_FIRST_MASKED = 2  # Flower's number of the first round that may be masked: there i is 0


@dataclass(frozen=True)
class LipsSettings:
    """When the download is masked, how much of it, and by which score.

    Parameters
    ----------
    period
        Every how many rounds the download is masked.
    d0
        Share of entries kept in the first masked round, in (0, 1]; 1 masks nothing.
    schedule
        How the share grows to 1 over the run: ``linear``, ``cosine`` (slow, fast, slow), or
        ``const`` for not at all.
    score
        Which entries are kept, those with the highest score: ``magnitude`` |w|, ``sensitivity``
        |g w| with the client's own last gradient g, ``random``, or ``low`` -|w|. The last two are
        controls.
    scope
        Whether the share is kept in every layer or in all of them together.
    side
        Who masks. The server makes one mask for all clients; it does not know the gradients, so
        ``sensitivity`` runs on the clients. None is the server wherever it can.
    reset
        What the other entries become: zero, or their initial value.
    sync_bn
        False lets every client keep its own batch norm and biases (all tensors with fewer than
        two dimensions), as the released code does without meaning to.
    personalised_eval
        Clients measure the model they have trained on their own test samples.

    Raises
    ------
    ValueError
        If a value is out of its range, or the settings contradict each other.
    """

    period: int = 5
    d0: float = 0.5
    schedule: Schedule = "linear"
    score: Score = "magnitude"
    scope: Scope = "per_layer"
    side: Side | None = None
    reset: Reset = "zero"
    sync_bn: bool = True
    personalised_eval: bool = False

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period must be >= 1 round, got {self.period}")
        if not 0.0 < self.d0 <= 1.0:
            raise ValueError(f"d0 must lie in (0, 1], got {self.d0}; 1 masks nothing")
        for name, known in (
            ("schedule", Schedule),
            ("score", Score),
            ("scope", Scope),
            ("reset", Reset),
        ):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"{name} must be one of {get_args(known)}, got {getattr(self, name)!r}"
                )
        if self.side not in (None, *get_args(Side)):
            raise ValueError(f"side must be one of {get_args(Side)}, got {self.side!r}")
        if self.side == "server" and self.score == "sensitivity":
            raise ValueError(
                "score 'sensitivity' needs the clients' gradients, which the server does not have; "
                "use side 'client', or score 'magnitude'"
            )
        if self.on_clients and self.reset == "init":
            raise ValueError(
                "reset 'init' needs the initial weights, which clients do not keep; use reset "
                "'zero', or a score that the server can make with side 'server'"
            )

    @property
    def on_clients(self) -> bool:
        """Whether every client makes its own mask."""
        return self.side == "client" or (self.side is None and self.score == "sensitivity")

    def density(self, server_round: int, n_rounds: int) -> float:
        """Share of the entries that the download of a round keeps; 1 where it is not masked.

        Round 1 has nothing to mask yet; the download of Flower's round r belongs to the released
        code's aggregation i = r - 2.

        Parameters
        ----------
        server_round
            1-based, as in Flower.
        n_rounds
            Rounds of the whole run, the T of the schedule.
        """
        i = server_round - _FIRST_MASKED
        if i < 0 or i % self.period:
            return 1.0
        return min(1.0, self.d0 + (1.0 - self.d0) * _grown(self.schedule, i / n_rounds))


def _grown(schedule: Schedule, done: float) -> float:
    """Share of the way from d0 to 1, after a share of the rounds."""
    if schedule == "const":
        return 0.0
    return done if schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * min(1.0, done)))


def middle_layers(weights: Weights) -> tuple[str, ...]:
    """Tensors with two or more dimensions, without the first and the last of them."""
    return tuple(name for name, values in weights.items() if _is_weight(values))[1:-1]


def included_layers(model: nn.Module, include: Include) -> tuple[str, ...]:
    """Weights (two or more dimensions) of the modules that a function of name and module picks."""
    return tuple(
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if include(name, module)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1
    )


def local_tensors(weights: Weights) -> tuple[str, ...]:
    """Tensors that clients keep for themselves with ``sync_bn=False``: batch norm and biases."""
    return tuple(name for name, values in weights.items() if values.ndim < 2)


def _is_weight(values: NDArray[np.generic]) -> bool:
    return values.ndim > 1 and values.dtype.kind == "f"


def scores(
    weights: Weights,
    score: Score,
    *,
    gradient: Weights | None = None,
    rng: np.random.Generator | None = None,
) -> dict[str, NDArray[np.generic]]:
    """A score for every entry of the weights; higher ones are kept.

    Parameters
    ----------
    weights
        The tensors that may be masked.
    score
        See :class:`LipsSettings`.
    gradient
        For ``sensitivity``: of the same names and shapes; None is as ``magnitude``.
    rng
        For ``random``.

    Raises
    ------
    ValueError
        If ``random`` comes without a generator.
    """
    if score == "random":
        if rng is None:
            raise ValueError("score 'random' needs a generator: rng=numpy.random.default_rng(seed)")
        return {name: rng.random(values.shape) for name, values in weights.items()}
    if score == "sensitivity" and gradient is not None:
        return {name: np.abs(np.multiply(gradient[name], w)) for name, w in weights.items()}
    sign = -1.0 if score == "low" else 1.0
    return {name: np.abs(values) * np.float32(sign) for name, values in weights.items()}


def kept_entries(
    scored: Mapping[str, NDArray[np.generic]], density: float, scope: Scope = "per_layer"
) -> dict[str, NDArray[np.bool_]]:
    """The ``floor(density * n)`` entries with the highest scores, exactly as many even with ties.

    Of equal scores the earlier entries (in C order) are kept; NaN ranks last.

    Parameters
    ----------
    scored
        By name, scores of any shape.
    density
        In [0, 1].
    scope
        ``per_layer``: n is the size of each tensor; ``global``: of all together.
    """
    if scope == "global":
        flat = np.concatenate([values.ravel() for values in scored.values()] or [np.zeros(0)])
        kept = _top(flat, density)
        ends = np.cumsum([values.size for values in scored.values()])[:-1]
        parts = np.split(kept, ends)
        return {
            name: part.reshape(values.shape)
            for (name, values), part in zip(scored.items(), parts, strict=True)
        }
    return {name: _top(v.ravel(), density).reshape(v.shape) for name, v in scored.items()}


def _top(values: NDArray[np.generic], density: float) -> NDArray[np.bool_]:
    n_keep = math.floor(density * values.size + _ROUNDING)
    if n_keep >= values.size:
        return np.ones(values.size, dtype=np.bool_)
    if n_keep <= 0:
        return np.zeros(values.size, dtype=np.bool_)
    ranked = np.where(np.isnan(values), -np.inf, values)
    least = np.partition(ranked, values.size - n_keep)[values.size - n_keep]
    kept: NDArray[np.bool_] = ranked > least
    kept[np.flatnonzero(ranked == least)[: n_keep - int(kept.sum())]] = True
    return kept


def masked(
    weights: Weights, kept: Kept, initial: Weights | None = None
) -> dict[str, NDArray[np.generic]]:
    """The masked tensors alone, by name: entries that are not kept are zero, or as at the start.

    Parameters
    ----------
    weights
        Global weights.
    kept
        Entries that stay.
    initial
        Values of the others; None is zero.
    """
    result = {}
    for name, stays in kept.items():
        other = np.zeros((), weights[name].dtype) if initial is None else initial[name]
        result[name] = np.where(stays, weights[name], other).astype(weights[name].dtype, copy=False)
    return result


def packed(kept: Kept) -> bytes:
    """The entries of all tensors, in order, as packed bits."""
    parts = [stays.ravel() for stays in kept.values()]
    return np.packbits(np.concatenate(parts)).tobytes() if parts else b""


def unpacked(bits: bytes, like: Weights) -> dict[str, NDArray[np.bool_]]:
    """The inverse of :func:`packed`, for tensors of these names and shapes.

    Raises
    ------
    ValueError
        If there are not as many bits as entries.
    """
    sizes = [values.size for values in like.values()]
    expected = (sum(sizes) + 7) // 8
    if len(bits) != expected:
        raise ValueError(
            f"expected {expected} bytes for the {sum(sizes)} entries of {list(like)}, "
            f"got {len(bits)}"
        )
    flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=sum(sizes)).astype(np.bool_)
    parts = np.split(flat, np.cumsum(sizes)[:-1]) if sizes else []
    return {
        name: part.reshape(values.shape)
        for (name, values), part in zip(like.items(), parts, strict=True)
    }
