"""Image folders and npz arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_files import colour, image_folder, read

from fedcircuit.learning.sources.raw_data import MissingDataError


@pytest.mark.parametrize("tests", ["test", "val", "valid", "validation", "dev"])
def test_folders_of_tests_have_any_usual_name(tmp_path: Path, tests: str) -> None:
    image_folder(tmp_path, train=["cat", "dog"], **{tests: ["cat", "dog"]})
    assert read(tmp_path, "image-folder").test.labels.tolist() == [0, 0, 1, 1]


def test_what_systems_leave_behind_is_no_class_and_no_image(tmp_path: Path) -> None:
    image_folder(tmp_path, train=["cat", "dog", ".ipynb_checkpoints"], test=["cat", "dog"])
    (tmp_path / "train" / "__MACOSX").mkdir()
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"left by a Mac")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")

    data = read(tmp_path, "image-folder")

    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 1, 1]


def test_classes_in_the_root_are_one_split(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name / "inner").mkdir(parents=True)
        for index in range(4):
            colour(seed=index).save(tmp_path / name / "inner" / f"{index}.png")
    with pytest.raises(MissingDataError, match="train/CLASS"):
        read(tmp_path, "image-folder")

    data = read(tmp_path, "image-folder", test_share=0.25)

    assert (len(data.train), len(data.test), data.class_names) == (6, 2, ("cat", "dog"))


def test_the_order_of_folders_can_be_given(tmp_path: Path) -> None:
    image_folder(tmp_path, train=["cat", "dog"], test=["cat", "dog"])
    data = read(tmp_path, "image-folder", classes=("dog", "cat"))
    assert data.class_names == ("dog", "cat")
    assert data.train.labels.tolist() == [1, 1, 0, 0]


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    image_folder(tmp_path, train=["cat", "dog"], test=["cat", "eel"])
    with pytest.raises(
        ValueError, match=r"same classes, got \['cat', 'dog'\] and \['cat', 'eel'\]"
    ):
        read(tmp_path, "image-folder")
    (tmp_path / "train" / "ant").mkdir()
    with pytest.raises(ValueError, match=r"train/ant holds no image \(.*remove the folder"):
        read(tmp_path, "image-folder")
    with pytest.raises(ValueError, match="no columns, so no writer"):
        read(tmp_path, "image-folder", columns=("writer",))


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("train/cat/loop", "train"),
        ("train/cat/loop", "train/cat"),
        ("train/cat/loop", "."),
        ("train/cat/a/loop", "train/cat"),
        ("train/cow", "train"),
    ],
)
def test_a_link_that_leads_back_is_refused(tmp_path: Path, link: str, target: str) -> None:
    image_folder(tmp_path, train=["cat", "dog"], test=["cat", "dog"])
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    with pytest.raises(ValueError, match="leads back to .*in which it lies.*remove this link"):
        read(tmp_path, "image-folder")


def test_two_folders_that_link_to_each_other_are_refused(tmp_path: Path) -> None:
    image_folder(tmp_path, train=["cat", "dog"], test=["cat", "dog"])
    for here, there in (("cat", "dog"), ("dog", "cat")):
        (tmp_path / "train" / here / "x").symlink_to(tmp_path / "train" / there)
    with pytest.raises(ValueError, match="leads back to .*train/cat, in which it lies"):
        read(tmp_path, "image-folder")


def test_links_to_images_and_folders_elsewhere_are_followed(tmp_path: Path) -> None:
    image_folder(tmp_path / "data", train=["cat", "dog"], test=["cat", "dog"])
    image_folder(tmp_path / "more", train=["cat"])
    (tmp_path / "data/train/cat/more").symlink_to(tmp_path / "more/train/cat")
    (tmp_path / "data/train/cat/again.png").symlink_to(tmp_path / "more/train/cat/0.png")
    labels = read(tmp_path / "data", "image-folder").train.labels.tolist()
    assert labels.count(0) == 2 * labels.count(1) + 1


def test_a_file_in_place_of_the_folder_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"packed")
    with pytest.raises(ValueError, match=r"a\.zip is a file; data\.root is the folder that holds"):
        read(tmp_path / "a.zip", "image-folder")
    (tmp_path / "a.csv").write_text("x,label\n1,0\n2,1\n", encoding="utf-8")
    with pytest.raises(MissingDataError, match=r"a\.csv is one file; hold a share"):
        read(tmp_path / "a.csv", "csv")


def test_a_damaged_file_and_one_of_another_size_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path, train=["cat", "dog"], test=["cat", "dog"])
    colour((5, 4)).save(tmp_path / "train/dog/1.png")
    with pytest.raises(ValueError, match=r"train/cat/0.png is 4x4 and .*train/dog/1.png is 4x5"):
        read(tmp_path, "image-folder")
    (tmp_path / "train/dog/1.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"train/dog/1.png: the image cannot be read"):
        read(tmp_path, "image-folder")


def arrays(names: str, images: np.ndarray) -> dict[str, np.ndarray]:
    x, y, train, test = names.split()
    labels = np.arange(len(images)) % 2
    pairs = {x: images, y: labels}
    return {name.format(part): values for part in (train, test) for name, values in pairs.items()}


@pytest.mark.parametrize(
    "names",
    [
        "x_{} y_{} train test",
        "X_{} Y_{} train test",
        "{}_images {}_labels train test",
        "{}_images {}_labels train val",
        "{}_data {}_target training validation",
    ],
)
def test_npz_arrays_have_any_usual_name(tmp_path: Path, names: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
    np.savez(tmp_path / "made.npz", **arrays(names, images))

    data = read(tmp_path, "npz")

    expected = (images[:, None] / 255 - 0.5) / 0.5
    assert data.train.inputs.numpy() == pytest.approx(expected, abs=1e-6)
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert torch.equal(read(tmp_path / "made.npz", "npz").test.inputs, data.test.inputs)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 5, 6, 3), (3, 5, 6)), ((4, 3, 5, 6), (3, 5, 6)), ((4, 5, 6), (1, 5, 6)), ((4, 7), (7,))],
)
def test_channels_are_the_axis_that_is_shorter_than_both_sides(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for part in ("train", "test"):
        np.savez(tmp_path / f"{part}.npz", x=images, y=np.array(["b", "a"] * 2))
    data = read(tmp_path, "npz")
    assert data.input_shape == expected
    assert (data.class_names, data.train.labels.tolist()) == (("a", "b"), [1, 0, 1, 0])


def test_numbers_in_npz_that_are_no_pixels_are_standardised_together(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(50, 9, (40, 5, 6))
    np.savez(tmp_path / "a.npz", **arrays("x_{} y_{} train test", images))
    data = read(tmp_path, "npz")
    expected = (images - images.mean()) / images.std()
    assert data.train.inputs.squeeze(1).numpy() == pytest.approx(expected, abs=1e-5)
    raw = read(tmp_path, "npz", standardise=False).train.inputs.squeeze(1).numpy()
    assert raw == pytest.approx(images, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"x_test": None}, {}, r"(?s)tests are not there.*data\.test_share"),
        ({"y_train": None}, {}, r"has none of y_train, train_y, .*it has x_train"),
        ({"y_train": np.zeros(3, int)}, {}, "has 4 inputs and 3 labels"),
        ({"y_train": np.int64(3)}, {}, r"the labels \(train\) are the single value 3; give one a"),
        ({"x_train": np.float64(3)}, {}, r"rows \[n, f\]; their shape is \[\]"),
        ({"X_train": np.zeros((4, 3, 3))}, {}, "a.npz has 'x_train' more than once"),
        ({"x_train": np.arange(8).reshape(4, 2) + 2**60}, {}, "column 0 .*leave the column out"),
        ({"x_train": np.zeros((4, 5, 5, 5))}, {}, r"their shape is \[4, 5, 5, 5\]"),
        ({"x_train": np.zeros((4, 3, 3))}, {}, "training inputs are float32, test inputs uint8"),
        ({"x_train": np.zeros((4, 5, 5), np.uint8)}, {}, "one shape, got 5x5x1 .* and 3x3x1"),
        (
            {"x_test": np.full((4, 2), np.nan), "x_train": np.ones((4, 2))},
            {},
            "test row 0 holds a n",
        ),
        ({"y_test": np.array([{}] * 4)}, {}, "cannot be read as npz.*allow_pickle"),
        ({"y_test": np.full((4, 1), 2)}, {}, "test row 0 has the label 2"),
        ({}, {"image": "scans"}, "has none of scans"),
    ],
)
def test_arrays_that_cannot_be_used_say_why(
    tmp_path: Path, change: dict[str, object], options: dict[str, object], words: str
) -> None:
    made = arrays("x_{} y_{} train test", np.zeros((4, 3, 3), np.uint8)) | change
    np.savez(tmp_path / "a.npz", **{k: v for k, v in made.items() if v is not None})
    with pytest.raises((ValueError, MissingDataError), match=words):
        read(tmp_path, "npz", **options)
