"""What a strategy remembers between rounds (moments and the like), as named arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedcircuit.learning.weights import Weights

# set anew from the incoming weights in every round, so no state of their own
_DERIVED = ("current_arrays", "current_weights", "initial_parameters")
_NUMBERS = ("clipping_norm",)


def strategy_state(strategy: object) -> dict[str, Any]:
    """Arrays, lists and dicts of arrays among the strategy's attributes, by ``KIND:NAME:KEY``."""
    state: dict[str, Any] = {}
    for name, value in vars(strategy).items():
        if name in _DERIVED or name.startswith("__"):
            continue
        if isinstance(value, np.ndarray):
            state[f"array:{name}:"] = value.copy()
        elif name in _NUMBERS and isinstance(value, (int, float)):
            state[f"number:{name}:"] = np.asarray(value, dtype=np.float64)
        elif isinstance(value, list) and _all_arrays(value):
            state.update({f"list:{name}:{i}": item.copy() for i, item in enumerate(value)})
        elif isinstance(value, dict) and _all_arrays(list(value.values())):
            state.update({f"dict:{name}:{key}": item.copy() for key, item in value.items()})
    return state


def restore_state(strategy: object, state: Weights) -> None:
    """Give a strategy what :func:`strategy_state` took."""
    lists: dict[str, list[Any]] = {}
    dicts: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        kind, attribute, key = name.split(":", 2)
        if kind == "array":
            setattr(strategy, attribute, np.array(value))
        elif kind == "number":
            setattr(strategy, attribute, float(value))
        elif kind == "list":
            lists.setdefault(attribute, []).append(np.array(value))
        else:
            dicts.setdefault(attribute, {})[key] = np.array(value)
    for attribute, content in (*lists.items(), *dicts.items()):
        setattr(strategy, attribute, content)


def _all_arrays(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, np.ndarray) for value in values)
