"""Named arrays to and from a safetensors file, small where most entries are zero.

A file holds groups of arrays: ``global``, ``clients/3``, and so on. An array ``NAME`` of a group
``GROUP`` is stored as whichever of these is smallest:

- ``GROUP/dense/NAME``: the array itself;
- ``GROUP/mask/NAME`` and ``GROUP/values/NAME``: a bit for every entry in C order, 1 where the
  entry is not zero, packed by ``numpy.packbits`` (uint8); and the entries that are not zero;
- ``GROUP/gaps/NAME`` and ``GROUP/values/NAME``: the distances between the positions of those
  entries, the first from position 0 (uint8 or uint16). The largest number of the type, 255 or
  65535, says "this far and on": it is added to the distance and stands for no entry.

An entry is zero if all its bits are; -0.0 is not, and nor is any NaN, so every array comes back bit
for bit. Training that multiplies weights by a mask leaves -0.0 in about half of the places it cuts:
where that is smaller, they are no entries of mask or gaps, but ones of ``GROUP/signs/NAME``, packed
like a mask.

The file's metadata hold, under ``fedcircuit``, JSON with the shape of every array in the original
order, ``{"groups": {GROUP: {NAME: shape}}, ...}``, and what else the writer noted. It is one entry
because safetensors writes several in any order, and equal content shall give equal files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]

METADATA = "fedcircuit"  # the one entry of the metadata
PARTS = ("dense", "mask", "gaps", "values", "signs")
_MOST_BYTES = 2**30  # of one array whose parts are much smaller
_MOST_TIMES = 2000  # the same for large files: how many times the file one array may be
_ENTRY_BYTES = 100  # what one more array costs in the file's header, about
_DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "float16", "uint32", "int32", "float32",
    "uint64", "int64", "float64", "complex64",
)  # fmt: skip


def encode(values: Array) -> dict[str, Array]:
    """The smallest exact form of one array, by part: see the module.

    Raises
    ------
    TypeError
        If safetensors has no such dtype.
    """
    array = np.asarray(values, dtype=_native(values.dtype), order="C")  # 0-d stays 0-d
    flat = array.reshape(-1)
    bits = flat.view(f"u{array.dtype.itemsize}")
    forms: list[dict[str, Array]] = [{"dense": array}, *_sparse_forms(flat, bits != 0)]
    if array.dtype.kind == "f":
        cut = bits == 1 << (8 * array.dtype.itemsize - 1)  # -0.0: the bit of the sign alone
        if cut.any():
            signs: Array = np.packbits(cut)
            kept = (bits != 0) & ~cut
            forms += [{**form, "signs": signs} for form in _sparse_forms(flat, kept)]
    return min(forms, key=encoded_size)


def _sparse_forms(flat: Array, kept: NDArray[np.bool_]) -> list[dict[str, Array]]:
    """Forms that hold only the kept entries, where they are few enough to try."""
    if np.count_nonzero(kept) * flat.itemsize + _ENTRY_BYTES >= flat.nbytes:
        return []
    positions = np.flatnonzero(kept)
    values = flat[positions]
    return [
        {"mask": np.packbits(kept), "values": values},
        {"gaps": _gaps(positions, np.uint8), "values": values},
        {"gaps": _gaps(positions, np.uint16), "values": values},
    ]


def encoded_size(parts: Arrays) -> int:
    """Bytes that the parts of one array take in a file, headers included (about)."""
    return sum(part.nbytes + _ENTRY_BYTES for part in parts.values())


def decode(parts: Arrays, shape: Sequence[int], most: int = _MOST_BYTES) -> Array:
    """The array that :func:`encode` made into these parts.

    Parameters
    ----------
    parts
        Its parts, by name.
    shape
        Its shape, as the file says.
    most
        Bytes that it may take in memory: a damaged shape must not take all of it.

    Raises
    ------
    ValueError
        If the parts do not fit the shape or each other; nothing was allocated then.
    """
    size = _checked_size(shape)
    if "dense" in parts:
        if parts["dense"].shape != tuple(shape):
            raise ValueError(f"has shape {parts['dense'].shape} on disk, {tuple(shape)} by name")
        return parts["dense"]
    values = parts["values"]
    if size * values.itemsize > most:
        raise ValueError(f"claims {size:,} entries, which its file is too small for")
    packed = (size + 7) // 8
    for part in ("mask", "signs"):
        if part in parts and (parts[part].dtype != np.uint8 or parts[part].size != packed):
            raise ValueError(f"has a {part} of {parts[part].size} bytes for {size:,} entries")
    if "mask" in parts:
        positions = np.flatnonzero(np.unpackbits(parts["mask"].astype(np.uint8), count=size))
    else:
        gaps = parts["gaps"]
        if gaps.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"has gaps of dtype {gaps.dtype}")
        on = 2 ** (8 * gaps.itemsize) - 1
        positions = np.cumsum(gaps, dtype=np.int64)[gaps != on]
    if len(positions) != values.size or (len(positions) and positions[-1] >= size):
        raise ValueError(f"has {values.size} values for {len(positions)} places in {size:,}")
    flat = np.zeros(size, dtype=values.dtype)
    flat[positions] = values
    if "signs" in parts:
        flat[np.unpackbits(parts["signs"].astype(np.uint8), count=size).astype(np.bool_)] = -0.0
    return flat.reshape(tuple(shape))


def _checked_size(shape: Sequence[int]) -> int:
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"has sides {list(shape)[:8]}, which must be whole numbers >= 0")
    return prod(shape)


def _native(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The dtype in the machine's byte order."""
    if dtype.name not in _DTYPES:
        raise TypeError(
            f"safetensors holds no array of dtype {dtype}; convert it to one of "
            + ", ".join(_DTYPES)
        )
    return dtype.newbyteorder("=")


def _gaps(positions: NDArray[np.int64], kind: type[np.uint8] | type[np.uint16]) -> Array:
    """Distances between positions; one that does not fit is cut into pieces of the maximum."""
    on = int(np.iinfo(kind).max)
    distances = np.diff(positions, prepend=0)
    pieces = distances // on
    ends = np.cumsum(pieces + 1) - 1  # where each distance's remainder goes
    gaps = np.full(int(ends[-1]) + 1 if len(ends) else 0, on, dtype=kind)
    gaps[ends] = distances % on
    return gaps


def to_bytes(groups: Mapping[str, Arrays], notes: Mapping[str, object]) -> bytes:
    """The bytes of a safetensors file with these groups of arrays.

    Parameters
    ----------
    groups
        By group name, arrays by name; names may hold any characters.
    notes
        More for the metadata, as JSON has it; ``groups`` is taken.

    Raises
    ------
    TypeError
        If safetensors has no dtype for an array; the array is named.
    """
    tensors: dict[str, Array] = {}
    for group, arrays in groups.items():
        for name, values in arrays.items():
            try:
                parts = encode(np.asarray(values))
            except TypeError as error:
                raise TypeError(f"array {name!r} of {group}: {error}") from error
            tensors.update({_key(group, part, name): item for part, item in parts.items()})
    index = {
        group: {name: np.shape(values) for name, values in arrays.items()}
        for group, arrays in groups.items()
    }
    text = json.dumps({**notes, "groups": index}, separators=(",", ":"))
    data: bytes = save(tensors, {METADATA: text})
    return data


class TensorFile:
    """A file written by :func:`to_bytes`, of which only what is asked for is read.

    Raises
    ------
    ValueError
        If the file is damaged, cut short, or none of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        opened: Any = safe_open  # its methods are untyped
        try:
            self._file = opened(str(path), framework="numpy")
        except SafetensorError as error:
            raise ValueError(f"it cannot be opened: {error}") from error
        metadata = self._file.metadata() or {}
        if METADATA not in metadata:
            raise ValueError(f"it is no file of ours: {METADATA!r} is not in its metadata")
        self.notes: dict[str, Any] = json.loads(metadata[METADATA])
        self._index: dict[str, dict[str, list[int]]] = self.notes.pop("groups")
        self._keys = frozenset(self._file.keys())
        self._most = max(_MOST_BYTES, _MOST_TIMES * path.stat().st_size)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order written."""
        return tuple(self._index)

    def read(self, group: str) -> dict[str, Array]:
        """All arrays of a group in their original order; empty where there is no such group."""
        return dict(self._read(group))

    def _read(self, group: str) -> Iterator[tuple[str, Array]]:
        for name, shape in self._index.get(group, {}).items():
            keys = {part: _key(group, part, name) for part in PARTS}
            parts = {p: self._file.get_tensor(k) for p, k in keys.items() if k in self._keys}
            try:
                values = decode(parts, shape, self._most)
            except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
                raise ValueError(f"{name!r} of {group} {error}") from error
            yield name, values


def _key(group: str, part: str, name: str) -> str:
    return f"{group}/{part}/{name}"
