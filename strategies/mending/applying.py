"""Rules applied one after the other; one that cannot be used costs the round nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcircuit.aggregation import Rule, RuleError, Setting, State, Updates
from fedcircuit.learning import Weights
from fedcircuit.records.files import in_short

Memory = dict[str, NDArray[np.generic]]  # of all rules, by ``PLACE/NAME``


@dataclass(frozen=True)
class Mend:
    """What the rules made of an average, and what they remember."""

    weights: Weights
    memory: Memory


def mend(
    rules: Sequence[Rule], updates: Updates, average: Weights, setting: Setting, memory: Memory
) -> Mend:
    """The rules in order, each taking what the one before gave.

    Raises
    ------
    RuleError
        If one cannot be used, raises anything else, or gives what is no set of weights.
    """
    weights, kept = average, Memory()
    for place, rule in enumerate(rules):
        try:
            mended, state = rule(updates, weights, setting, state_of(memory, place))
            _check(rule.name, mended, state, weights)
            found = {f"{place}/{name}": np.array(values) for name, values in state.items()}
        except RuleError:
            raise
        except Exception as error:
            raise RuleError(rule.name, f"it failed with {in_short(error)}") from error
        weights = mended
        kept.update(found)
    return Mend(weights, kept)


def state_of(memory: Mapping[str, NDArray[np.generic]], place: int) -> State:
    """What the rule at this place remembers."""
    start = f"{place}/"
    return {
        name.removeprefix(start): values
        for name, values in memory.items()
        if name.startswith(start)
    }


def _check(rule: str, mended: Weights, state: State, average: Weights) -> None:
    gave: dict[str, object] = {"weights": mended, "state": state}
    for what, given in gave.items():
        if not isinstance(given, Mapping):
            kind = type(given).__name__
            raise RuleError(rule, f"it gave its {what} as {kind}, expected arrays by name")
    if list(mended) != list(average):
        odd = sorted(set(mended) ^ set(average)) or ["their order"]
        raise RuleError(rule, f"it gave other tensors than it was given: {odd[0]}")
    for name, values in mended.items():
        known = average[name]
        one: object = values
        if not isinstance(one, np.ndarray | np.generic):
            kind = type(values).__name__
            raise RuleError(rule, f"it gave {name!r} as {kind}, expected an array of NumPy")
        if values.shape != known.shape or values.dtype != known.dtype:
            raise RuleError(
                rule,
                f"it gave {name!r} as {values.dtype} {values.shape}, "
                f"expected {known.dtype} {known.shape}",
            )
        if values is not known and not np.isfinite(values).all() and np.isfinite(known).all():
            raise RuleError(rule, f"it gave NaN or infinity in {name!r}")
