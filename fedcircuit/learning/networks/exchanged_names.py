"""How exchanged weights stand for a model's: names with prefixes, without buffers, tied weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcircuit.learning import Weights

# Parts of names that wrappers add: nn.DataParallel, torch.compile, Opacus, FSDP and checkpointing.
WRAPPERS = frozenset(
    {"module", "_orig_mod", "_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)


class NameFitError(ValueError):
    """Weights that are not those of a model.

    Parameters
    ----------
    missing, unexpected, shapes
        Names of the model's tensors that are not exchanged, exchanged names that the model does
        not have, and a word for every tensor of another shape.
    """

    def __init__(
        self, missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str]
    ) -> None:
        self.missing, self.unexpected, self.shapes = missing, unexpected, shapes
        super().__init__(
            f"model and weights do not fit: missing {list(missing)}, unexpected "
            f"{list(unexpected)}, other shapes {list(shapes)}"
        )


@dataclass(frozen=True)
class NameFit:
    """What exchanged names mean to a model.

    Parameters
    ----------
    names
        Exchanged name by the model's name; tied weights may share one.
    filled
        Buffers that are not exchanged, with the model's own values.
    """

    names: Mapping[str, str]
    filled: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    @property
    def renamed(self) -> bool:
        """Whether the names themselves differ."""
        return any(own != name for own, name in self.names.items())

    @property
    def plain(self) -> bool:
        """Whether what is exchanged is the model's ``state_dict()`` as it is."""
        return not (self.renamed or self.filled)

    def of_model(self, weights: Weights) -> dict[str, NDArray[np.generic]]:
        """Exchanged weights under the model's names, and its own buffers where none came.

        Raises
        ------
        NameFitError
            If a tensor is missing, as where clients keep it for themselves from some round on.
        """
        missing = [own for own, name in self.names.items() if name not in weights]
        if missing:
            raise NameFitError(missing, [], [])
        named = {own: weights[name] for own, name in self.names.items()}
        return {**named, **self.filled}

    def some_of_model(self, weights: Weights) -> dict[str, NDArray[np.generic]]:
        """Those of the exchanged weights that are there, under the model's names."""
        return {own: weights[name] for own, name in self.names.items() if name in weights}


def fitted(weights: Weights, model: nn.Module) -> NameFit:
    """How exchanged weights stand for a model's.

    Tried in this order: the names of ``state_dict()``; the same without what wrappers add
    (``module.``, ``_orig_mod.``, ``_module.``), wherever in a name; the same behind one prefix, of
    the weights or of the model. Buffers may be left out, and the second name of a tied weight.

    Parameters
    ----------
    weights
        Exchanged weights, by name.
    model
        The network; its own buffers stand for those that are not exchanged.

    Raises
    ------
    NameFitError
        If tensors are missing, too many, or of other shapes; told for the nearest reading.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    tied = _tied(model)
    buffers = own.keys() - tied.keys()
    best: tuple[list[str], list[str]] | None = None
    for reading in _readings(list(weights), list(own)):
        names = _with_tied(reading, tied)
        unexpected = sorted(set(weights) - set(reading.values()), key=list(weights).index)
        missing = [name for name in own if name not in names]
        if not unexpected and names and buffers.issuperset(missing):
            _check_shapes(weights, names, own)
            return NameFit(
                {name: names[name] for name in own if name in names},
                {name: own[name].detach().cpu().numpy().copy() for name in missing},
            )
        if best is None or len(missing) + len(unexpected) < sum(map(len, best)):
            best = missing, unexpected
    assert best is not None  # the first reading always is one
    raise NameFitError(*best, [])


def _readings(names: list[str], own: list[str]) -> Iterator[dict[str, str]]:
    """Exchanged name by the model's, for every way to read the names."""
    yield {name: name for name in own if name in names}
    plain, plain_own = ([_unwrapped(name) for name in which] for which in (names, own))
    if len(set(plain)) < len(plain) or len(set(plain_own)) < len(plain_own):
        return  # two tensors would have one name
    exchanged = dict(zip(plain, names, strict=True))
    yield _read(exchanged, own, plain_own)
    for prefix in _prefixes(plain, plain_own):
        yield _read({name.removeprefix(prefix): exchanged[name] for name in plain}, own, plain_own)
    for prefix in _prefixes(plain_own, plain):
        yield _read(exchanged, own, [name.removeprefix(prefix) for name in plain_own])


def _read(exchanged: Mapping[str, str], own: list[str], keys: list[str]) -> dict[str, str]:
    return {name: exchanged[key] for name, key in zip(own, keys, strict=True) if key in exchanged}


def _prefixes(long: list[str], short: list[str]) -> list[str]:
    """What stands in front of all of the long names, where the first then is a short one."""
    first = long[0] if long else ""
    found = [first[: -len(name)] for name in short if first.endswith(f".{name}")]
    return [prefix for prefix in found if all(name.startswith(prefix) for name in long)]


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _tied(model: nn.Module) -> dict[str, int]:
    """For every name of a parameter the identity of the parameter: tied ones share it."""
    return {name: id(value) for name, value in model.named_parameters(remove_duplicate=False)}


def _with_tied(reading: dict[str, str], tied: Mapping[str, int]) -> dict[str, str]:
    """The reading, and for each tied parameter that is not exchanged the name of its twin."""
    twins = {tied[own]: name for own, name in reading.items() if own in tied}
    return {**{own: twins[key] for own, key in tied.items() if key in twins}, **reading}


def _check_shapes(weights: Weights, names: Mapping[str, str], own: Mapping[str, Tensor]) -> None:
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, the model's {tuple(own[own_name].shape)}"
        for own_name, name in names.items()
        if tuple(weights[name].shape) != tuple(own[own_name].shape)
    ]
    if shapes:
        raise NameFitError([], [], shapes)
