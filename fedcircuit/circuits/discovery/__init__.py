"""Discovery methods: one file per method, one protocol."""

from __future__ import annotations

import difflib
from dataclasses import fields

from fedcircuit.circuits.discovery.attribution import Attribution
from fedcircuit.circuits.discovery.fedmi import FedMI
from fedcircuit.circuits.discovery.gates import LearnedGates
from fedcircuit.circuits.discovery.protocol import Cost, Discovery, DiscoveryMethod, Task

__all__ = [
    "METHOD_NAMES",
    "Attribution",
    "Cost",
    "Discovery",
    "DiscoveryMethod",
    "FedMI",
    "LearnedGates",
    "Task",
    "discovery_method",
]

METHOD_NAMES = ("attribution", "gates", "fedmi")


def discovery_method(name: str, **options: object) -> DiscoveryMethod:
    """The method of a configuration, such as ``discovery_method("attribution", mass=0.8)``.

    Raises
    ------
    ValueError
        If the name or an option is unknown; the nearest known one is named.
    """
    classes: dict[str, type[Attribution] | type[LearnedGates] | type[FedMI]] = {
        "attribution": Attribution,
        "gates": LearnedGates,
        "fedmi": FedMI,
    }
    if name not in classes:
        raise ValueError(f"unknown discovery method {name!r}; {_hint(name, METHOD_NAMES)}")
    known = tuple(field.name for field in fields(classes[name]))
    for option in options:
        if option not in known:
            raise ValueError(f"method {name!r} has no option {option!r}; {_hint(option, known)}")
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    return classes[name](**plain)  # type: ignore[arg-type]  # values come from YAML, unchecked


def _hint(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
