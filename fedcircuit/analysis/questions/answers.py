"""Four questions about circuits over a federation (arXiv 2512.23043), each against chance.

========  ====================================================  ==========================
question  pairs of circuits                                     asks
========  ====================================================  ==========================
RQ1       two classes of the same model                         does every class have its own?
RQ2       same model and class, a round and the next recorded   are circuits stable?
RQ3       same class, two clients                               do clients agree?
RQ4       same class, a client and the global model             does averaging preserve them?
========  ====================================================  ==========================

Each of RQ3 and RQ4 has its class-swap null (class c here against another class there), and
``distinctness`` compares clients by the unions of their circuits over all classes.

The global model may be in a stack several times, as ``"global"`` and ``"global:..."``: the same
weights, searched with other seeds or samples. Such versions among each other (RQ3 in scope
``global``) say nothing about clients; they are the noise ceiling of the search. A client ``k`` is
compared with version ``"global:k"`` where there is one, else with ``"global"``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedcircuit.circuits import CircuitStack
from fedcircuit.circuits.overlap import OverlapTable, Side, paired_overlaps

GLOBAL = "global"
SIGNIFICANT = 0.05  # p-value below which an overlap counts as more than chance
CONVENTIONS = ("honest", "published")
Convention = Literal["honest", "published"]
Scope = Literal["local", "global"]

_UNION = -1  # class index that stands for the union over all classes
_IndexPairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Answer:
    """One question in one layer and one round.

    Parameters
    ----------
    question
        ``RQ1`` to ``RQ4``, ``RQ3-swap``, ``RQ4-swap`` or ``distinctness``.
    scope
        ``local`` compares clients' circuits (RQ4: with the global ones), ``global`` versions of
        the global model.
    layer
        Name of the site, or ``"all"``.
    round
        The round; for RQ2 the earlier of the two; None for all rounds together.
    mean_iou, chance, adjusted
        Means over the pairs that are defined: IoU, its expectation by chance, chance-adjusted IoU.
    significant
        Share of the pairs that overlap more than by chance, p < .05.
    n, n_undefined
        Pairs in the means, and pairs without an IoU: a circuit was not found, or both are empty.
    """

    question: str
    scope: Scope
    layer: str
    round: int | None
    mean_iou: float
    chance: float
    adjusted: float
    significant: float
    n: int
    n_undefined: int


def research_questions(
    stacks: Mapping[int, CircuitStack],
    live: Mapping[int, Tensor] | None = None,
    *,
    convention: Convention = "honest",
    max_pairs: int = 5000,
) -> tuple[Answer, ...]:
    """All questions, by round, question, scope and layer.

    Questions without a single pair (RQ3 with one client, RQ2 in the last round) are left out.

    Parameters
    ----------
    stacks
        By round, the circuits of all models; only ``found`` ones count. Models may differ between
        rounds (clients are sampled), sites may not.
    live
        By round ``[models, units]`` bool: the pool of the chance level; None takes all units.
    convention
        ``"honest"``: two empty circuits have no IoU, a circuit that was not found has none, the
        pool holds live units. ``"published"``: as in the published figures of the paper, two empty
        circuits have IoU 1 and chance 1, a circuit that was not found is an empty one, the pool
        holds all units.
    max_pairs
        Most pairs of a question in a round; of more, an evenly spaced choice is taken.

    Raises
    ------
    ValueError
        If the convention is unknown, or the sites change between rounds.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    if len({stack.sites for stack in stacks.values()}) > 1:
        raise ValueError("all rounds must have the same sites; the architecture changed in between")
    published = convention == "published"
    rounds = {
        t: _Round(stacks[t], None if live is None or published else live[t], published=published)
        for t in sorted(stacks)  # integers: round 10 comes after round 9
    }
    following = dict(zip(rounds, list(rounds)[1:], strict=False))
    answers: list[Answer] = []
    for t, this in rounds.items():
        later = rounds.get(following.get(t, -1))
        for comparison in _comparisons(this.stack, None if later is None else later.stack):
            other = later if comparison.question == "RQ2" and later is not None else this
            a, b = comparison.places(max_pairs)
            if len(a):
                table = paired_overlaps(this.side(a), other.side(b), this.stack.sites)
                answers += _answers(comparison, t, table, published=published)
    return tuple(answers)


def over_rounds(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """The answers with all rounds together: means weighted by the number of pairs."""
    groups: dict[tuple[str, Scope, str], list[Answer]] = {}
    for one in answers:
        groups.setdefault((one.question, one.scope, one.layer), []).append(one)
    return tuple(
        Answer(
            *key,
            round=None,
            mean_iou=_weighted([(one.mean_iou, one.n) for one in group]),
            chance=_weighted([(one.chance, one.n) for one in group]),
            adjusted=_weighted([(one.adjusted, one.n) for one in group]),
            significant=_weighted([(one.significant, one.n) for one in group]),
            n=sum(one.n for one in group),
            n_undefined=sum(one.n_undefined for one in group),
        )
        for key, group in groups.items()
    )


def _weighted(values: Sequence[tuple[float, int]]) -> float:
    known = [(value, n) for value, n in values if n and not math.isnan(value)]
    total = sum(n for _, n in known)
    return sum(value * n for value, n in known) / total if total else math.nan


@dataclass(frozen=True)
class _Comparison:
    """Every pair of models with every pair of classes; indices into the stack or stacks."""

    question: str
    scope: Scope
    models: _IndexPairs
    classes: _IndexPairs

    def places(self, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Model and class of either side, ``[pairs, 2]`` each."""
        n = len(self.models) * len(self.classes)
        which = np.arange(n) if n <= limit else np.arange(limit) * n // limit
        models = np.array(self.models, np.int64).reshape(-1, 2)[which // max(len(self.classes), 1)]
        classes = np.array(self.classes, np.int64).reshape(-1, 2)[which % max(len(self.classes), 1)]
        return np.stack([models[:, 0], classes[:, 0]], 1), np.stack(
            [models[:, 1], classes[:, 1]], 1
        )


def _comparisons(stack: CircuitStack, later: CircuitStack | None) -> Iterator[_Comparison]:
    """The comparisons of one round; ``later`` is the next recorded one, for RQ2."""
    same = [(c, c) for c in range(stack.n_classes)]
    swapped = list(permutations(range(stack.n_classes), 2))
    rows: dict[Scope, list[int]] = {"local": [], "global": []}
    for row, model in enumerate(stack.models):
        is_global = model == GLOBAL or model.startswith(GLOBAL + ":")
        rows["global" if is_global else "local"].append(row)
    for scope, own in rows.items():
        between = list(combinations(own, 2))
        yield _Comparison(
            "RQ1", scope, [(m, m) for m in own], list(combinations(range(stack.n_classes), 2))
        )
        if later is not None:
            again = [m for m in own if stack.models[m] in later.models]
            pairs = [(m, later.models.index(stack.models[m])) for m in again]
            yield _Comparison("RQ2", scope, pairs, same)
        yield _Comparison("RQ3", scope, between, same)
        yield _Comparison("RQ3-swap", scope, between, swapped)
        yield _Comparison("distinctness", scope, between, [(_UNION, _UNION)])
    partners = [(m, k) for m in rows["local"] if (k := _partner(stack, m)) is not None]
    yield _Comparison("RQ4", "local", partners, same)
    yield _Comparison("RQ4-swap", "local", partners, swapped)


def _partner(stack: CircuitStack, client: int) -> int | None:
    """The row of the global model that a client is compared with; None if there is none."""
    for name in (f"{GLOBAL}:{stack.models[client]}", GLOBAL):
        if name in stack.models:
            return stack.models.index(name)
    return None


class _Round:
    """The circuits of one round, with the union over all classes as class -1."""

    def __init__(self, stack: CircuitStack, live: Tensor | None, *, published: bool) -> None:
        self.stack = stack
        found = stack.found.numpy()
        masks = stack.masks.numpy() & found[..., None]
        self._masks = np.concatenate([masks, masks.any(1, keepdims=True)], axis=1)
        known = np.concatenate([found, found.any(1, keepdims=True)], axis=1)
        self._found = np.ones_like(known) if published else known
        every = np.ones((len(masks), masks.shape[-1]), dtype=bool)
        self._live = every if live is None else live.numpy()

    def side(self, places: NDArray[np.int64]) -> Side:
        """One side of comparisons at ``[pairs, 2]`` models and classes."""
        models, classes = places.T
        return Side(self._masks[models, classes], self._found[models, classes], self._live[models])


def _answers(
    comparison: _Comparison, t: int, table: OverlapTable, *, published: bool
) -> Iterator[Answer]:
    """One answer a layer."""
    iou, chance, p_value = table.iou, table.chance, table.p_value
    if published:
        both_empty = np.isnan(iou)
        iou, chance, p_value = (np.where(both_empty, 1.0, v) for v in (iou, chance, p_value))
    defined = ~np.isnan(iou)
    for column, layer in enumerate(table.layers):
        here = defined[:, column]
        yield Answer(
            comparison.question,
            comparison.scope,
            layer,
            t,
            mean_iou=_mean(iou[here, column]),
            chance=_mean(chance[here, column]),
            adjusted=_mean(table.adjusted[here, column]),
            significant=_mean((p_value[here, column] < SIGNIFICANT).astype(np.float64)),
            n=int(here.sum()),
            n_undefined=int((~here).sum()),
        )


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN if nothing is (an adjusted IoU may be undefined alone)."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
