"""How much of what clients say is taken: texts, names, side records and metrics are bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fedcircuit import messages
from fedcircuit.records.round_record import GLOBAL

MOST_TEXT = 2_000  # characters of an error's text
MOST_NAME = 100  # characters of a client's name
MOST_METRICS = 1_000  # numbers that a client reports in a round
MOST_EXTRA = 65_536  # bytes of one entry that is not ours
MOST_OWN = 67_108_864  # bytes of one of ours, such as masks
RESERVED = (GLOBAL, "mean of clients", "all")  # names of models in tables
_NODE = re.compile(r"node-\d+")
_OWN = (*messages.CLIENT_CIRCUIT_KEYS, messages.LIPS_KEPT, messages.CLASS_COUNTS)


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


def kept_metrics(metrics: Mapping[str, float]) -> tuple[dict[str, float], str | None]:
    """As many metrics as are kept, and a word about those that are not."""
    if len(metrics) <= MOST_METRICS:
        return dict(metrics), None
    first = dict(list(metrics.items())[:MOST_METRICS])
    return first, f"{len(metrics):,} metrics were reported, the first {MOST_METRICS:,} are kept"


def kept_extra(extra: Mapping[str, object]) -> dict[str, object]:
    """Side entries, each as it came or, where it is too large, a word about it in its place."""
    kept: dict[str, object] = {}
    for key, value in extra.items():
        size = _size(value)
        name = short(str(key))[:MOST_NAME]
        if size > (MOST_OWN if key in _OWN else MOST_EXTRA):
            kept[name] = f"left out: {size:,} bytes"
        elif isinstance(value, str):
            kept[name] = value.encode("utf-8", "backslashreplace").decode()
        else:
            kept[name] = value
    return kept


def _size(value: object) -> int:
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, list):
        return sum(map(_size, value))
    return 8
