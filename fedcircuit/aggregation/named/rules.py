"""The table of rules: name, class, needs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fedcircuit import messages
from fedcircuit.aggregation import Rule, Setting, Updates
from fedcircuit.aggregation.drift import FedDyn, FedNova, Scaffold
from fedcircuit.aggregation.heads import (
    CCVR,
    CircuitCalibration,
    ClassCountHead,
    LivarHead,
    LogitOffsets,
    Refit,
)
from fedcircuit.aggregation.layers import (
    ConflictProjection,
    CoveredAverage,
    Fisher,
    LivarLayers,
    Ties,
    WeightMatching,
)

_RULES: tuple[type[Rule], ...] = (
    ClassCountHead,
    LivarHead,
    LivarLayers,
    CCVR,
    LogitOffsets,
    CircuitCalibration,
    Fisher,
    Ties,
    WeightMatching,
    CoveredAverage,
    ConflictProjection,
    FedNova,
    FedDyn,
    Scaffold,
)
_BY_NAME: Mapping[str, type[Rule]] = {made.name: made for made in _RULES}
RULE_NAMES = tuple(_BY_NAME)

_MOMENTS = ("n_classes", f"model|{messages.MOMENTS_SUM}", f"probe|{messages.MOMENTS_SUM}")

# What a rule needs: a field of `Setting`, or a key of the side channel that every client says.
# "a|b" is either of them. Options may ask for less: a rule that is off needs nothing.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "class-count-head": ("n_classes", messages.CLASS_COUNTS),
    "livar-head": ("n_classes", messages.CLASS_COUNTS, messages.CLASS_VARIANCES),
    "livar-layers": (messages.PATH_LAYERS, messages.PATH_IMPORTANCE),
    "ccvr": _MOMENTS,
    "logit-offsets": ("n_classes", "model", "probe"),
    "circuit-calibration": (*_MOMENTS, "model", "masks"),
    "fisher": (messages.FISHER,),
    "ties": (),
    "weight-matching": ("model",),
    "covered-average": ("n_classes", "model", "masks", messages.CLASS_COUNTS),
    "conflict-projection": ("model", "masks"),
    "fednova": (messages.LOCAL_STEPS,),
    "feddyn": (messages.FEDDYN_ALPHA,),
    "scaffold": (messages.SCAFFOLD_DELTA,),
}


def rule(name: str, **options: object) -> Rule:
    """The rule of a configuration, such as ``rule("ccvr", every=5, refit={"lr": 0.1})``.

    Raises
    ------
    ValueError
        If the name or an option is unknown, with the nearest known one; if a value is refused.
    """
    if name not in _BY_NAME:
        raise ValueError(f"unknown rule {name!r}; {_hint(name, RULE_NAMES)}")
    plain = _checked(f"rule {name!r}", _BY_NAME[name], options)
    refit = plain.get("refit")
    if isinstance(refit, Mapping):
        plain["refit"] = Refit(**_checked(f"refit of rule {name!r}", Refit, refit))
    made: Rule = _BY_NAME[name](**plain)
    return made


def lacking(name: str, updates: Updates, setting: Setting) -> tuple[str, ...]:
    """What a rule needs and a round does not have, as `NEEDS` says it; empty where it has all.

    Raises
    ------
    KeyError
        If there is no rule of this name.
    """
    return tuple(need for need in NEEDS[name] if not _met(need, updates, setting))


def _met(need: str, updates: Updates, setting: Setting) -> bool:
    known = {field.name for field in fields(setting)}
    return any(
        getattr(setting, one) is not None
        if one in known
        else all(one in update.said for update in updates.clients)
        for one in need.split("|")
    )


def _checked(what: str, made: Any, options: Mapping[str, object]) -> dict[str, Any]:
    known = tuple(field.name for field in fields(made))
    for option in options:
        if option not in known:
            raise ValueError(f"{what} has no option {option!r}; {_hint(option, known)}")
    numbers = {field.name for field in fields(made) if type(field.default) in (int, float)}
    for option, value in options.items():
        if option in numbers and isinstance(value, str):
            raise ValueError(
                f"{what} expects a number for {option!r}, got the text {value!r}; YAML reads "
                "quoted numbers, and 1e-3 without a point, as text: write 0.001 or 1.0e-3"
            )
    return dict(options)


def _hint(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
