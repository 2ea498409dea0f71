"""How much of what clients say is taken: texts, names, side records and metrics are bounded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from fedcircuit import messages
from fedcircuit.records.rounds import GLOBAL, Metric

MOST_TEXT = 2_000  # characters of an error's text
MOST_NAME = 100  # characters of a client's name
MOST_METRICS = 1_000  # metrics that a client reports in a round
MOST_NUMBERS = 100_000  # numbers in all of them, lists included
MOST_EXTRA = 65_536  # bytes of one entry that is not ours
MOST_OWN = 67_108_864  # bytes of one of ours, such as masks
RESERVED = (GLOBAL, "mean of clients", "all")  # names of models in tables
_NODE = re.compile(r"node-\d+")
_OWN = (
    *messages.CLIENT_CIRCUIT_KEYS,
    messages.LIPS_KEPT,
    messages.CLASS_COUNTS,
    *messages.RULE_KEYS,
    messages.CLASS_VARIANCES,
    messages.PATH_LAYERS,
    messages.PATH_IMPORTANCE,
)


def short(text: str) -> str:
    """A text that stays short; where it is cut, its length is said."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    if len(plain) <= MOST_TEXT:
        return plain
    return f"{plain[:MOST_TEXT]} ... ({len(plain):,} characters)"


def client_name(said: object) -> str:
    """The name of the client that says it holds this partition.

    Raises
    ------
    ValueError
        If it can be no name: too long, unprintable, or one that something else has.
    """
    if isinstance(said, bool) or not isinstance(said, (int, str)):
        raise ValueError(f"a partition is a number or a text, got {type(said).__name__}")
    if isinstance(said, int) and abs(said) >= 10**20:
        raise ValueError("a partition's number must have at most 20 digits")
    name = str(said)
    if not name or len(name) > MOST_NAME:
        raise ValueError(f"a name must have 1 to {MOST_NAME} characters, got {len(name):,}")
    if not name.isprintable():
        raise ValueError(f"a name must be printable, got {name!a}")
    if name in RESERVED or _NODE.fullmatch(name):
        raise ValueError(f"the name {name!r} is taken: tables call something else so")
    return name


def kept_metrics(
    metrics: Mapping[str, Metric], extra: Mapping[str, object]
) -> tuple[dict[str, Metric], dict[str, object]]:
    """The first metrics, as many as are kept, and the side entries with a word about the others."""
    first: dict[str, Metric] = {}
    left = MOST_NUMBERS
    for name, value in list(metrics.items())[:MOST_METRICS]:
        left -= 1 if isinstance(value, (int, float, str, bytes)) else len(value)
        if left < 0:
            break
        first[name] = value
    if len(first) == len(metrics):
        return first, dict(extra)
    words = f"{len(metrics):,} metrics were reported, the first {len(first):,} are kept"
    return first, with_entry(extra, "metrics", words)


def with_entry(extra: Mapping[str, object], name: str, value: object) -> dict[str, object]:
    """Side entries and one of ours, under another name where the client uses this one."""
    while name in extra:
        name = f"fedcircuit.{name}"
    return {**extra, name: value}


def kept_extra(extra: Mapping[str, object]) -> dict[str, object]:
    """Side entries, each as it came or, where it is too large, a word about it in its place."""
    kept: dict[str, object] = {}
    for key, value in extra.items():
        size = _size(value)
        name = _bounded_name(short(str(key)), kept)
        if size > (MOST_OWN if key in _OWN else MOST_EXTRA):
            kept[name] = f"left out: {size:,} bytes"
        elif isinstance(value, str):
            kept[name] = value.encode("utf-8", "backslashreplace").decode()
        else:
            kept[name] = value
    return kept


def _bounded_name(name: str, taken: Collection[str]) -> str:
    """At most `MOST_NAME` characters, and no name that is there already."""
    bounded, number = name[:MOST_NAME], 2
    while bounded in taken:
        end = f" ({number})"
        bounded, number = name[: MOST_NAME - len(end)] + end, number + 1
    return bounded


def _size(value: object) -> int:
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, list):
        return sum(map(_size, value))
    return 8
