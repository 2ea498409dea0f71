"""The arrays of Flower's messages, without the same header parsed again and again.

Flower sends an array as the bytes of ``numpy.save``. ``numpy.load`` evaluates each header as
Python text, which for a small model takes longer than anything else about a message; here a header
is evaluated, or written, once, and what is read is a read-only view of the immutable bytes.
"""

from __future__ import annotations

import io
from functools import lru_cache
from math import prod
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
# What a model's weights may be: what Flower averages and a run can keep.
NUMBERS = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64",
)  # fmt: skip
_PREFIX = len(_MAGIC) + 2  # the length of the header follows in two bytes


class WireArray(Protocol):
    """What is read of Flower's ``Array``."""

    @property
    def stype(self) -> str:
        """How ``data`` was made."""
        ...

    @property
    def data(self) -> bytes:
        """The serialised array."""
        ...


class ArrayFields(TypedDict):
    """What Flower's ``Array`` is made of."""

    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: bytes


def decoded(array: WireArray) -> NDArray[np.generic]:
    """The values of an array, read only; equal to ``array.numpy()``, bit for bit.

    Raises
    ------
    ValueError
        If it is no plain array of numbers, or is shorter than its header says; nothing is
        allocated for what a header claims, and nothing is unpickled.
    """
    data = array.data
    if array.stype != "numpy.ndarray":
        raise ValueError(f"serialised as {array.stype[:40]!r}, not as a NumPy array")
    if not data.startswith(_MAGIC):
        return _of_another_version(data)
    start = _PREFIX + int.from_bytes(data[len(_MAGIC) : _PREFIX], "little")
    shape, fortran, dtype = _header(data[len(_MAGIC) : start])
    return _view(data, start, shape, fortran=fortran, dtype=dtype)


def _view(
    data: bytes, start: int, shape: tuple[int, ...], *, fortran: bool, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    if dtype.newbyteorder("=").name not in NUMBERS:
        raise ValueError(f"holds values of dtype {str(dtype)[:60]}, no plain numbers")
    count = prod(shape)
    if min(shape, default=0) < 0 or start + count * dtype.itemsize > len(data):
        raise ValueError(f"claims shape {str(shape)[:60]}, but holds {len(data) - start:,} bytes")
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


def _of_another_version(data: bytes) -> NDArray[np.generic]:
    """An array in a later version of NumPy's format, for headers that are long."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (2, 0):  # 3.0 is for structured dtypes with names beyond Latin-1
        raise ValueError(f"is in version {version} of NumPy's format")
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    return _view(data, file.tell(), shape, fortran=fortran, dtype=dtype)


def array_fields(values: NDArray[np.generic]) -> ArrayFields:
    """The fields of Flower's ``Array`` of these values, for ``Array(**array_fields(values))``."""
    return ArrayFields(
        dtype=str(values.dtype),
        shape=values.shape,
        stype="numpy.ndarray",
        data=serialised(values),
    )


def serialised(values: NDArray[np.generic]) -> bytes:
    """What ``numpy.save`` writes for a plain array, byte for byte, with the header made once."""
    if values.dtype.hasobject:
        raise ValueError(f"arrays of objects cannot be sent, got dtype {values.dtype}")
    fortran = values.flags.f_contiguous and not values.flags.c_contiguous
    header = _written_header(values.dtype, values.shape, fortran)
    if not values.flags.c_contiguous:
        return header + values.tobytes(order="F" if fortran else "C")
    return b"".join((header, values.reshape(-1).view(np.uint8).data))  # one copy, not two


@lru_cache(maxsize=4096)
def _written_header(dtype: np.dtype[np.generic], shape: tuple[int, ...], fortran: bool) -> bytes:  # noqa: FBT001
    like = np.empty(shape, dtype=dtype, order="F" if fortran else "C")
    buffer = io.BytesIO()
    np.save(buffer, like, allow_pickle=False)
    written = buffer.getvalue()
    return written[: len(written) - like.nbytes]


@lru_cache(maxsize=4096)
def _header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    return np.lib.format.read_array_header_1_0(io.BytesIO(text))
