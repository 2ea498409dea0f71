"""A client's circuits and checks as plain values for a message, and back with every check.

The names are those of ``fedcircuit.messages``; a few kilobytes, no data, nothing unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from torch import Tensor

from fedcircuit.circuits.checks import Status, Validity
from fedcircuit.messages import MASKS, MASKS_FOUND, MASKS_UNITS, VALIDITY

MessageValue = bytes | int | str | list[bool]
_KINDS: dict[str, tuple[type, ...]] = {"size": (int,), "constant": (bool,)}


@dataclass(frozen=True)
class SentCircuits:
    """Circuits a client found on its own data.

    Parameters
    ----------
    masks, found
        ``[classes, units]`` bool, and ``[classes]`` bool.
    validity
        The client's own checks, one a class; None where it sent none.
    """

    masks: Tensor
    found: Tensor
    validity: tuple[Validity, ...] | None


def to_message(
    masks: Tensor, found: Tensor, validity: Sequence[Validity] | None = None
) -> dict[str, MessageValue]:
    """Entries of the side channel that hold a client's circuits.

    Parameters
    ----------
    masks, found
        ``[classes, units]`` bool, and ``[classes]`` bool.
    validity
        One a class, or None.
    """
    entries: dict[str, MessageValue] = {
        MASKS: np.packbits(masks.cpu().numpy(), axis=-1).tobytes(),
        MASKS_FOUND: [bool(value) for value in found],
        MASKS_UNITS: int(masks.shape[1]),
    }
    if validity is not None:
        entries[VALIDITY] = json.dumps([_plain(one) for one in validity], allow_nan=False)
    return entries


def as_scalars(entries: Mapping[str, MessageValue]) -> dict[str, bytes | str]:
    """The same entries as bytes and text alone: what metrics of Flower's legacy API can hold.

    There a number is taken for a metric that may be averaged, and a list is not allowed.
    """
    out: dict[str, bytes | str] = {}
    for name, value in entries.items():
        if isinstance(value, list):
            out[name] = bytes(value)
        else:
            out[name] = str(value) if isinstance(value, int) else value
    return out


def from_message(
    entries: Mapping[str, object], *, n_classes: int, n_units: int
) -> SentCircuits | None:
    """The circuits in a side channel; None where it holds none.

    Raises
    ------
    ValueError
        If what was sent does not fit the model: number of units or classes, or malformed checks.
    """
    if MASKS not in entries:
        return None
    packed, found, units = (entries.get(key) for key in (MASKS, MASKS_FOUND, MASKS_UNITS))
    if isinstance(found, bytes):  # as_scalars
        found = [bool(value) for value in found]
    if units not in (n_units, str(n_units)):
        raise ValueError(f"circuits were sent for {units} units, the model has {n_units}")
    if not isinstance(found, Sequence) or len(found) != n_classes:
        raise ValueError(f"{MASKS_FOUND} must list {n_classes} classes, got {found!r}")
    width = (n_units + 7) // 8
    if not isinstance(packed, bytes) or len(packed) != n_classes * width:
        size = len(packed) if isinstance(packed, bytes) else type(packed).__name__
        raise ValueError(f"{MASKS} must hold {n_classes * width} bytes, got {size}")
    bits = np.frombuffer(packed, np.uint8).reshape(n_classes, width)
    masks = torch.from_numpy(np.unpackbits(bits, axis=-1, count=n_units).astype(bool))
    here = torch.tensor([bool(value) for value in found], dtype=torch.bool)
    return SentCircuits(masks & here[:, None], here, _validity(entries.get(VALIDITY), n_classes))


def _plain(one: Validity) -> dict[str, object]:
    """A validity as JSON can hold it: NaN, which JSON has not, becomes null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(one).items()
    }


def _validity(text: object, n_classes: int) -> tuple[Validity, ...] | None:
    if text is None:
        return None
    try:
        rows = json.loads(text) if isinstance(text, str) else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{VALIDITY} is not JSON: {error}") from error
    if not isinstance(rows, list) or len(rows) != n_classes:
        raise ValueError(f"{VALIDITY} must be a JSON list of {n_classes} objects")
    return tuple(_one(row) for row in rows)


def _one(row: object) -> Validity:
    known = {field.name for field in fields(Validity)}
    if not isinstance(row, dict) or not {"status", "reason"} <= set(row) <= known:
        raise ValueError(f"a {VALIDITY} entry must be an object with fields of Validity: {row!r}")
    if row["status"] not in list(Status):
        raise ValueError(f"status must be one of {[str(s) for s in Status]}, got {row['status']!r}")
    values: dict[str, object] = {"status": Status(row["status"]), "reason": str(row["reason"])}
    for name, value in row.items():
        if name in values:
            continue
        kinds = _KINDS.get(name, (int, float))
        if value is not None and type(value) not in kinds:
            words = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{name} of a {VALIDITY} entry must be {words}, got {value!r}")
        if name in _KINDS:
            values[name] = value
        else:
            values[name] = math.nan if value is None else float(value)
    return Validity(**values)  # type: ignore[arg-type]  # each value was checked above
