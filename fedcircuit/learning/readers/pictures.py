"""The one decoder of images: what each mode of Pillow becomes, or why it is refused.

| mode | what it becomes |
|---|---|
| 1, L | one channel of 8 bits; 1 is black and white |
| RGB | three channels of 8 bits; Pillow reads 16-bit colour as 8 bits |
| P | the colours of the palette |
| LA, PA, RGBA, La, RGBa, and a transparent colour | without their alpha where every pixel is opaque; else laid on a background, refused without one |
| CMYK, YCbCr, HSV, RGBX | colour, without a colour profile |
| I;16, I;16L, I;16B, I;16N, and I of a PNG | one channel of 16 bits |
| I of another format, F, LAB and all others | refused: their range is not known |

A picture is turned as its EXIF orientation says. Of a file with several frames or pages none is
chosen: it is refused, except for the pictures of phones (MPO), whose first is the picture.
"""  # noqa: E501

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcircuit.learning.sources import Array, Background, DataSource

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = ("1", "L")
COLOUR = ("RGB", "CMYK", "YCbCr", "HSV", "RGBX", "P")
ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_MEND = "pip install 'fedcircuit[parquet]'"


@dataclass(frozen=True)
class Decoding:
    """How images are decoded: see :class:`~fedcircuit.learning.sources.DataSource`."""

    colour: bool | None = None
    background: Background | None = None


def decoding_of(source: DataSource) -> Decoding:
    """What a source says of its images.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ImportError(f"reading images needs Pillow: {_MEND}") from error
    return Decoding(source.colour, source.background)


def decoded(data: bytes | Path, decoding: Decoding, where: str) -> Array:
    """One image ``[h, w, channels]``, uint8 or uint16, with one channel or three.

    Parameters
    ----------
    data
        The encoded image, or its file.
    decoding
        Colour and background.
    where
        File and row, for messages.

    Raises
    ------
    ValueError
        If the image cannot be read, or its mode is refused.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as picture:
            name = f"{picture.format} of mode {picture.mode}"
            frames = getattr(picture, "n_frames", 1)
            if frames > 1 and picture.format != "MPO":
                raise _RefusedError(f"it has {frames} frames or pages; keep the one that is meant")
            picture.load()
            sixteen = _has_sixteen_bits(picture)
            return _pixels(ImageOps.exif_transpose(picture), decoding, sixteen=sixteen)
    except _RefusedError as error:
        raise ValueError(f"{where}: the image cannot be used ({name}): {error}") from None
    except MemoryError:
        raise
    except Exception as error:
        # Pillow raises OSError, SyntaxError, EOFError, struct.error and more for damaged files
        words = str(error) or type(error).__name__
        raise ValueError(f"{where}: the image cannot be read: {words}") from error


class _RefusedError(Exception):
    """An image that is whole, but of a kind that nothing here may guess about."""


def _has_sixteen_bits(picture: Image) -> bool:
    # older releases of Pillow give mode I for a PNG of 16 bits, which has no deeper ones
    return picture.mode in SIXTEEN_BITS or (picture.mode == "I" and picture.format == "PNG")


def _pixels(picture: Image, decoding: Decoding, *, sixteen: bool) -> Array:
    if sixteen:
        values = np.asarray(picture)
        grey: Array = values.astype(np.uint16)[..., None]
        return np.repeat(grey, 3, axis=2) if decoding.colour else grey
    picture = _opaque(picture, decoding.background)
    if picture.mode in COLOUR:
        wanted = "RGB" if decoding.colour is None or decoding.colour else "L"
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    elif picture.mode in GREY:
        wanted = "RGB" if decoding.colour else "L"
    else:
        raise _RefusedError(
            f"mode {picture.mode} has no known range; save it as 8 or 16 bits (a PNG), or give the "
            "numbers as an npz file"
        )
    pixels: Array = np.asarray(picture.convert(wanted), dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _opaque(picture: Image, background: Background | None) -> Image:
    """The picture without alpha."""
    from PIL import Image

    if picture.mode not in ALPHA and "transparency" not in picture.info:
        return picture
    grey = picture.mode in (*GREY, "LA", "La")
    picture = picture.convert("RGBA")
    alpha = picture.getchannel("A")
    if alpha.getextrema() != (255, 255):
        if background is None:
            raise _RefusedError(
                "some of its pixels are transparent; lay it on black or white with data.background"
            )
        laid = Image.new("RGBA", picture.size, background)
        picture = Image.alpha_composite(laid, picture)
    return picture.convert("L" if grey else "RGB")


def stacked(pictures: Sequence[Array] | Array, where: Callable[[int], str]) -> Array:
    """Images ``[m, h, w, channels]`` or rows ``[m, f]``; grey images get three channels in colour.

    8 and 16 bits together become floats in [0, 1].

    Parameters
    ----------
    pictures
        Images ``[h, w, channels]`` with one channel or three, or rows; an array is left as it is.
    where
        File and row of each.

    Raises
    ------
    ValueError
        If the sizes differ; two images of different sizes are named.
    """
    if isinstance(pictures, np.ndarray):
        return pictures
    for place, picture in enumerate(pictures):
        if picture.shape[:-1] != pictures[0].shape[:-1]:
            raise ValueError(
                f"all images must have one size, {where(0)} is {_size(pictures[0])} and "
                f"{where(place)} is {_size(picture)} (height x width, turned as EXIF says); "
                "scale or crop them to one size first"
            )
    channels = max(picture.shape[-1] for picture in pictures)
    mixed = len({picture.dtype for picture in pictures}) > 1
    return np.stack([_widened(_share(p) if mixed else p, channels) for p in pictures])


def _widened(picture: Array, channels: int) -> Array:
    return picture if picture.shape[-1] == channels else np.repeat(picture, channels, axis=-1)


def _share(picture: Array) -> Array:
    if not np.issubdtype(picture.dtype, np.integer):
        return picture
    return np.divide(picture, np.iinfo(picture.dtype).max, dtype=np.float32)


def _size(picture: Array) -> str:
    return "x".join(str(side) for side in picture.shape[:-1])
