"""The one decoder: each mode of Pillow becomes what its table says, or is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_files import colour, encoded
from PIL import Image

from fedcircuit.learning.readers import pictures
from fedcircuit.learning.readers.pictures import Decoding, decoded, stacked

PLAIN = Decoding()


def pixels(data: bytes, **options: object) -> np.ndarray:
    return decoded(data, Decoding(**options), "row 3")


RED_GREEN = np.array([[[255, 0, 0], [0, 255, 0]]], dtype=np.uint8)


def palette(transparent: int | None = None) -> bytes:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0] + [0] * 762)
    picture.putdata([0, 1])
    return encoded(picture, **({} if transparent is None else {"transparency": transparent}))


def test_a_palette_becomes_its_colours() -> None:
    assert np.array_equal(pixels(palette()), RED_GREEN)


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "png", [[[255], [0]]]),
        ("L", "png", [[[200], [7]]]),
        ("RGB", "png", [[[200, 100, 50], [7, 8, 9]]]),
    ],
)
def test_plain_modes_keep_their_values(mode: str, kind: str, expected: list) -> None:
    given_values = np.array(expected, dtype=np.uint8)
    picture = Image.fromarray(
        given_values.squeeze(-1) if given_values.shape[2] == 1 else given_values
    )
    assert pixels(encoded(picture.convert(mode), kind)).tolist() == expected


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_colour(mode: str) -> None:
    data = encoded(Image.new("RGB", (4, 4), (200, 30, 40)).convert(mode), "tiff")
    found = pixels(data)
    assert found.shape == (4, 4, 3)
    assert np.abs(found.astype(int) - [200, 30, 40]).max() <= 2


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_an_opaque_alpha_is_left_out(mode: str) -> None:
    kind = "tiff" if mode == "PA" else "png"
    picture = Image.new("RGBA", (3, 2), (90, 90, 90, 255)).convert(mode)
    found = pixels(encoded(picture, kind))
    assert found.shape == (2, 3, 1 if mode == "LA" else 3)
    assert set(found.flatten().tolist()) == {90}


@pytest.mark.parametrize("data", [
    palette(transparent=1),
    encoded(Image.fromarray(np.array([[[255, 0, 0, 255], [0, 255, 0, 0]]], dtype=np.uint8))),
    encoded(Image.new("LA", (2, 1), (0, 0))),
    encoded(Image.new("RGB", (2, 1)), transparency=(0, 0, 0)),
], ids=["palette", "rgba", "la", "colour key"])  # fmt: skip
def test_transparent_pixels_are_refused_or_laid_on_a_background(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"row 3.*transparent.*data\.background"):
        pixels(data)
    white, black = (pixels(data, background=name)[0, 1] for name in ("white", "black"))
    assert set(white.tolist()) == {255}
    assert set(black.tolist()) == {0}


def sixteen(kind: str) -> bytes:
    return encoded(Image.fromarray((np.arange(64).reshape(8, 8) * 1000).astype(np.uint16)), kind)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_stay_sixteen(kind: str) -> None:
    found = pixels(sixteen(kind))
    assert found.dtype == np.uint16
    assert found[..., 0].flatten().tolist() == [1000 * i for i in range(64)]
    assert pixels(sixteen(kind), colour=True).shape == (8, 8, 3)


@pytest.mark.parametrize("values", [np.float32, np.int32])
def test_numbers_without_a_range_are_refused(values: type) -> None:
    data = encoded(Image.fromarray(np.ones((2, 2), dtype=values)), "tiff")
    with pytest.raises(ValueError, match=r"row 3: .*TIFF of mode [FI]\): .*no known range.*npz"):
        pixels(data)


def test_several_frames_are_refused() -> None:
    data = encoded(colour(seed=0), "gif", save_all=True, append_images=[colour(seed=1)])
    with pytest.raises(ValueError, match="row 3: .*2 frames or pages; keep the one"):
        pixels(data)


def test_a_picture_is_turned_as_its_orientation_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    picture = Image.fromarray(np.array([[10, 20, 30]], dtype=np.uint8))
    assert pixels(encoded(picture, exif=exif))[..., 0].tolist() == [[10], [20], [30]]


def test_colour_makes_three_channels_and_grey_one() -> None:
    grey = encoded(Image.new("L", (2, 2), 9))
    assert pixels(grey, colour=True).tolist() == [[[9] * 3] * 2] * 2
    brick = encoded(Image.new("RGB", (2, 2), (255, 0, 0)))
    assert pixels(brick, colour=False).tolist() == [[[76]] * 2] * 2  # 0.299 * 255


@pytest.mark.parametrize("data", [b"no image", encoded(colour((40, 40)), "jpeg")[:700], b"\x89PNG"])
def test_a_damaged_image_is_named(data: bytes) -> None:
    with pytest.raises(ValueError, match="row 3: the image cannot be read: "):
        pixels(data)


@given(
    st.integers(0, 400), st.integers(0, 255), st.sampled_from(["png", "jpeg", "gif", "bmp", "tiff"])
)
def test_one_wrong_byte_gives_an_image_or_an_error_that_names_it(
    place: int, value: int, kind: str
) -> None:
    data = bytearray(encoded(colour((8, 8)), kind))
    data[place % len(data)] = value
    try:
        found = pixels(bytes(data), background="black")
    except ValueError as error:
        assert str(error).startswith("row 3: ")  # noqa: PT017
    else:
        assert found.ndim == 3
        assert found.shape[2] in (1, 3)


def test_every_mode_of_pillow_is_in_the_table() -> None:
    known = {*pictures.GREY, *pictures.COLOUR, *pictures.ALPHA, *pictures.SIXTEEN_BITS}
    assert {"1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LA", "PA", "HSV", "I;16"} <= known
    documented = pictures.__doc__ or ""
    assert all(mode in documented for mode in known | {"I", "F", "LAB"})


def test_grey_among_colour_gets_three_channels_and_sizes_must_agree() -> None:
    grey, bright = np.full((2, 3, 1), 5, np.uint8), np.zeros((2, 3, 3), np.uint8)
    assert stacked([grey, bright], str)[0].tolist() == [[[5] * 3] * 3] * 2
    with pytest.raises(ValueError, match=r"a0 is 2x3 and a1 is 3x2 \(height x width"):
        stacked([grey, np.zeros((3, 2, 1), np.uint8)], lambda row: f"a{row}")


def test_eight_and_sixteen_bits_together_are_shares_of_their_largest_values() -> None:
    low, high = np.full((1, 1, 1), 51, np.uint8), np.full((1, 1, 1), 13107, np.uint16)
    assert stacked([low, high], str).flatten().tolist() == pytest.approx([0.2, 0.2])


def test_a_file_is_decoded_as_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(palette())
    assert np.array_equal(decoded(tmp_path / "a.png", PLAIN, "a"), RED_GREEN)
    assert io.BytesIO(palette()).read(4) == b"\x89PNG"
