"""Discovery methods by the names that a configuration gives them."""

from __future__ import annotations

import difflib
from dataclasses import fields

from fedcircuit.circuits.methods.attribution import Attribution
from fedcircuit.circuits.methods.fedmi import FedMI
from fedcircuit.circuits.methods.gates import LearnedGates
from fedcircuit.circuits.methods.integrated import Integrated
from fedcircuit.circuits.methods.iterative import Iterative
from fedcircuit.circuits.methods.leave_one_out import LeaveOneOut
from fedcircuit.circuits.methods.magnitude import Magnitude
from fedcircuit.circuits.methods.mean_activation import MeanActivation
from fedcircuit.circuits.methods.random_scores import RandomScores
from fedcircuit.circuits.search import DiscoveryMethod, size_rule

_METHODS: dict[str, type[DiscoveryMethod]] = {
    "attribution": Attribution,
    "integrated": Integrated,
    "iterative": Iterative,
    "gates": LearnedGates,
    "leave-one-out": LeaveOneOut,
    "magnitude": Magnitude,
    "mean-activation": MeanActivation,
    "random": RandomScores,
    "fedmi": FedMI,
}
METHOD_NAMES = tuple(_METHODS)


def discovery_method(name: str, **options: object) -> DiscoveryMethod:
    """The method of a configuration, such as ``discovery_method("integrated", points=8)``.

    The option ``size`` of a scored method may be plain: ``{"kind": "mass", "share": 0.8}``.

    Raises
    ------
    ValueError
        If the name or an option is unknown; the nearest known one is named.
    """
    if name not in _METHODS:
        raise ValueError(f"unknown discovery method {name!r}; {_hint(name, METHOD_NAMES)}")
    known = tuple(field.name for field in fields(_METHODS[name]))  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            raise ValueError(f"method {name!r} has no option {option!r}; {_hint(option, known)}")
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    if "size" in plain:
        plain["size"] = size_rule(plain["size"])
    made: DiscoveryMethod = _METHODS[name](**plain)
    return made


def _hint(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
