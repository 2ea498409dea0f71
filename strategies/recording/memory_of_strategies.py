"""What a strategy remembers between rounds (moments and the like), as named arrays.

Every array is named ``KIND:PATH:KEY``: the kind of its container, the attribute's dotted path from
the strategy, and the place in the container.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import Weights
from fedcircuit.records.rounds import RETURNED

_DERIVED = ("current_arrays",)  # set anew from the incoming weights in every round
_NUMBERS = ("clipping_norm",)
_INNER = "strategy"  # where Flower's wrappers keep what they wrap


def strategy_state(strategy: object) -> dict[str, NDArray[np.generic]]:
    """Copies of all arrays, lists and dicts of arrays among a strategy's attributes.

    Strategies inside it are included; numbers only where they are known to change.
    """
    return dict(_entries(strategy, ""))


def _entries(strategy: object, prefix: str) -> Iterator[tuple[str, NDArray[np.generic]]]:
    for name, value in vars(strategy).items():
        path = prefix + name
        if name in _DERIVED:
            continue
        if isinstance(value, np.ndarray):
            yield f"array:{path}:", value.copy()
        elif name in _NUMBERS and isinstance(value, (int, float)):
            yield f"number:{path}:", np.asarray(value, dtype=np.float64)
        elif isinstance(value, list) and _all_arrays(value):
            yield from ((f"list:{path}:{i}", np.array(item)) for i, item in enumerate(value))
        elif isinstance(value, dict) and _all_arrays(list(value.values())):
            yield from ((f"dict:{path}:{key}", np.array(item)) for key, item in value.items())
        elif name == _INNER and hasattr(value, "__dict__"):
            yield from _entries(value, f"{path}.")


def restore_state(strategy: object, state: Weights) -> None:
    """Give a strategy what :func:`strategy_state` took from another of its kind.

    Raises
    ------
    AttributeError
        If the strategy has no such attribute.
    """
    containers: dict[str, list[Any] | dict[str, Any]] = {}
    for name, value in state.items():
        kind, path, key = name.split(":", 2)
        if kind == "array":
            _set(strategy, path, np.array(value))
        elif kind == "number":
            _set(strategy, path, float(value))
        elif kind == "list":
            entries = containers.setdefault(path, [])
            assert isinstance(entries, list)
            entries.append(np.array(value))
        elif kind == "dict":
            named = containers.setdefault(path, {})
            assert isinstance(named, dict)
            named[key] = np.array(value)
    for path, content in containers.items():
        _set(strategy, path, content)


def returned_state(
    weights: Weights, dtypes: Mapping[str, np.dtype[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """What a strategy returned in another dtype than the initial one.

    Some give float64 for float32: the next round starts from those, the record has the cast.
    """
    return {
        f"{RETURNED}{name}": values
        for name, values in weights.items()
        if values.dtype != dtypes.get(name, values.dtype)
    }


def as_returned(weights: Weights, state: Weights) -> dict[str, NDArray[np.generic]]:
    """Recorded weights as the strategy had returned them."""
    return {name: state.get(f"{RETURNED}{name}", values) for name, values in weights.items()}


def _all_arrays(values: list[Any]) -> bool:
    # arithmetic on an array without dimensions gives a NumPy scalar
    return bool(values) and all(isinstance(value, (np.ndarray, np.generic)) for value in values)


def _set(strategy: object, path: str, value: object) -> None:
    *outer, name = path.split(".")
    for part in outer:
        strategy = getattr(strategy, part)
    getattr(strategy, name)  # a state of another strategy must not pass silently
    setattr(strategy, name, value)
