"""Options of a study's strategy against the signature of Flower's class, before anything runs."""

from __future__ import annotations

import difflib
import inspect
from math import isfinite
from typing import Any

from flwr.serverapp import strategy as flower

from fedcircuit.app.config.files import ConfigError
from fedcircuit.app.config.strategy import StrategyConfig
from fedcircuit.app.config.yaml_text import brief

CLASSES = {
    "fedavg": "FedAvg",
    "fedavgm": "FedAvgM",
    "fedprox": "FedProx",
    "fedadam": "FedAdam",
    "fedyogi": "FedYogi",
    "fedadagrad": "FedAdagrad",
    "fedmedian": "FedMedian",
    "fedtrimmedavg": "FedTrimmedAvg",
    "krum": "Krum",
    "multikrum": "MultiKrum",
    "bulyan": "Bulyan",
    "qfedavg": "QFedAvg",
}
_SET_ELSEWHERE = {"fraction_train": "strategy.fraction_train"}


def check_options(config: StrategyConfig) -> None:
    """Make sure that Flower's class takes the options of a study.

    Raises
    ------
    ConfigError
        If an option is unknown, missing, of the wrong type, or set elsewhere.
    """
    name = CLASSES[config.name]
    parameters = inspect.signature(getattr(flower, name)).parameters
    for option, value in config.options.items():
        if option in _SET_ELSEWHERE:
            raise _error(f"{option} is set by {_SET_ELSEWHERE[option]}")
        if option not in parameters:
            near = difflib.get_close_matches(str(option)[:100], parameters, n=1)
            known = [key for key, one in parameters.items() if _kind(one) is not None]
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise _error(f"{name} has no option {brief(option)}; {hint}")
        _check_value(option, value, parameters[option])
    missing = [
        key
        for key, one in parameters.items()
        if one.default is inspect.Parameter.empty and key not in config.options
    ]
    if missing:
        raise _error(f"{name} needs {', '.join(missing)}")


def _check_value(option: str, value: object, parameter: inspect.Parameter) -> None:
    kind = _kind(parameter)
    if kind is None:
        raise _error(
            f"{option} takes a function, which a study cannot hold; use observe() in a program"
        )
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int) and number,
        float: number,
        str: isinstance(value, str),
    }[kind]
    if not fits:
        raise _error(f"{option} must be of type {kind.__name__}, got {brief(value)}")
    if number and not _is_finite(value):
        raise _error(f"{option} must be a finite number, got {brief(value)}")
    if number and (option.startswith(("fraction", "min_", "num_"))):
        most = 1 if option.startswith("fraction") else 10**9
        if not 0 <= value <= most:  # type: ignore[operator]  # a number, as was checked
            raise _error(f"{option} must lie in 0..{most:,}, got {brief(value)}")


def _is_finite(value: Any) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def _kind(parameter: inspect.Parameter) -> type[bool] | type[int] | type[float] | type[str] | None:
    """The plain type that a parameter takes; None for a function."""
    annotation: Any = parameter.annotation
    for kind in (bool, int, float, str):
        if annotation is kind or annotation == kind.__name__ or type(parameter.default) is kind:
            return kind
    return None


def _error(words: str) -> ConfigError:
    return ConfigError(f"strategy.options: {words}")
