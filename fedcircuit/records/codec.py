"""Weights as safetensors: every tensor in the smallest of three exact forms.

A tensor ``name`` is stored as one of

- ``name`` itself, dense;
- ``name|bits`` (uint8, ``numpy.packbits`` of "is not +0") and ``name|values``;
- ``name|gaps`` (uint16 or uint32, distances between the flat positions of the non-zero entries,
  the first from position -1) and ``name|values``.

The shape and dtype of sparse forms stand in the file's metadata under ``shapes`` as JSON. Nothing
is lost: an entry is left out only if all its bits are zero, so -0.0 and NaN are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
_SUFFIXES = ("|bits", "|gaps", "|values")


@dataclass
class Packed:
    """Tensors to be written, and the shapes of those in a sparse form."""

    tensors: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def metadata(self) -> dict[str, str]:
        """What goes into the file's metadata beside the caller's."""
        return {"shapes": json.dumps(self.shapes)}


def pack(tensors: Mapping[str, Array], into: Packed, *, prefix: str = "") -> None:
    """Add tensors, each in its smallest form, under ``prefix + name``.

    Raises
    ------
    ValueError
        If a name ends like a sparse form's.
    """
    for name, values in tensors.items():
        key = prefix + name
        if key.endswith(_SUFFIXES):
            raise ValueError(f"tensor name {key!r} ends with one of {_SUFFIXES}; rename it")
        array = np.array(values, order="C")  # a contiguous copy that keeps 0-d arrays 0-d
        form = _smallest(array)
        if form is None:
            into.tensors[key] = array
            continue
        into.tensors.update({key + suffix: part for suffix, part in form.items()})
        into.shapes[key] = (array.dtype.str, array.shape)


def _smallest(array: Array) -> dict[str, Array] | None:
    """The sparse form, or None where dense is no larger."""
    if array.size == 0 or array.dtype == np.bool_:
        return None
    bits = array.reshape(-1).view(f"u{array.dtype.itemsize}")
    positions = np.flatnonzero(bits)
    values = array.reshape(-1)[positions]
    gaps = np.diff(positions, prepend=-1)
    wide = len(gaps) > 0 and int(gaps.max()) > np.iinfo(np.uint16).max
    packed_gaps = gaps.astype(np.uint32 if wide else np.uint16)
    by_bits = (array.size + 7) // 8
    cheapest = min(by_bits, packed_gaps.nbytes)
    if cheapest + values.nbytes >= array.nbytes:
        return None
    if packed_gaps.nbytes <= by_bits:
        return {"|gaps": packed_gaps, "|values": values}
    return {"|bits": np.packbits(bits != 0), "|values": values}


def unpack(
    tensors: Mapping[str, Array], metadata: Mapping[str, str], *, prefix: str = ""
) -> dict[str, Array]:
    """The tensors under a prefix, in stored order and without the prefix."""
    shapes = json.loads(metadata.get("shapes", "{}"))
    result: dict[str, Array] = {}
    for key, stored in tensors.items():
        if not key.startswith(prefix):
            continue
        name, _, form = key.rpartition("|")
        if form == "values" and name in shapes:
            continue
        if form in ("bits", "gaps") and name in shapes:
            dtype, shape = shapes[name]
            flat = np.zeros(prod(shape), dtype=np.dtype(dtype))
            flat[_positions(stored, form, flat.size)] = tensors[name + "|values"]
            result[name[len(prefix) :]] = flat.reshape(shape)
        else:
            result[key[len(prefix) :]] = stored
    return result


def _positions(stored: Array, form: str, size: int) -> NDArray[np.int64]:
    if form == "bits":
        return np.flatnonzero(np.unpackbits(stored.astype(np.uint8), count=size))
    return np.cumsum(stored.astype(np.int64)) - 1
