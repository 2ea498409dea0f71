"""The arrays of Flower's messages, without the same header parsed again and again.

Flower sends an array as the bytes of ``numpy.save``. ``numpy.load`` evaluates each header as
Python text, which for a small model takes longer than anything else about a message; here a header
is evaluated, or written, once, and what is read is a read-only view of the immutable bytes.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
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

    def numpy(self) -> NDArray[np.generic]:
        """Flower's own reading."""
        ...


class ArrayFields(TypedDict):
    """What Flower's ``Array`` is made of."""

    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: bytes


def decoded(array: WireArray) -> NDArray[np.generic]:
    """The values of an array, read only; equal to ``array.numpy()``, bit for bit."""
    data = array.data
    if array.stype != "numpy.ndarray" or not data.startswith(_MAGIC):
        return array.numpy()
    start = _PREFIX + int.from_bytes(data[len(_MAGIC) : _PREFIX], "little")
    shape, fortran, dtype = _header(data[len(_MAGIC) : start])
    if dtype.hasobject:
        return array.numpy()  # which refuses it: nothing is ever unpickled
    count = 1
    for side in shape:
        count *= side
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


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
