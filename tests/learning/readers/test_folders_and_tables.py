"""Image folders, CSV tables and npz arrays."""

from __future__ import annotations

import gzip
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


def test_a_damaged_file_and_one_of_another_size_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path, train=["cat", "dog"], test=["cat", "dog"])
    colour((5, 4)).save(tmp_path / "train/dog/1.png")
    with pytest.raises(ValueError, match=r"train/cat/0.png is 4x4 and .*train/dog/1.png is 4x5"):
        read(tmp_path, "image-folder")
    (tmp_path / "train/dog/1.png").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"train/dog/1.png: the image cannot be read"):
        read(tmp_path, "image-folder")


CSV = "age,weight,city,label\n1,10,Bonn,yes\n3,10,Ulm,no\n5,10,Bonn,yes\n"


def csv(root: Path, train: str = CSV, test: str = CSV) -> None:
    (root / "train.csv").write_text(train, encoding="utf-8")
    (root / "test.csv.gz").write_bytes(gzip.compress(test.encode()))


def test_a_csv_table_is_standardised_by_its_training_rows(tmp_path: Path) -> None:
    csv(tmp_path, test="age,weight,city,label\n7,12,Ulm,no\n")

    data = read(tmp_path, "csv", columns=("city",))

    sd = np.sqrt(8 / 3)
    expected = [[-2 / sd, 0.0], [0.0, 0.0], [2 / sd, 0.0]]
    assert data.train.inputs.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert data.test.inputs.numpy() == pytest.approx(np.array([[4 / sd, 2.0]]), abs=1e-6)
    assert data.class_names == ("no", "yes")
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.columns["city"].tolist() == ["Bonn", "Ulm", "Bonn"]


def test_one_csv_file_is_split_by_the_share(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{i % 2}" for i in range(20))
    (tmp_path / "all.csv").write_text(f"x,target\n{rows}\n", encoding="utf-8")

    data = read(tmp_path / "all.csv", "csv", test_share=0.2, standardise=False)

    assert sorted(torch.cat([data.train.inputs, data.test.inputs]).flatten().tolist()) == [
        *range(20)
    ]
    assert data.test.counts(2).tolist() == [2, 2]
    with pytest.raises(MissingDataError, match="holds all.csv"):
        read(tmp_path, "csv", test_share=0.2)


@pytest.mark.parametrize(
    ("train", "options", "words"),
    [
        (CSV, {}, "'city' is not of numbers .*'Bonn'.*data.features"),
        (CSV, {"features": ("age", "size")}, r"train.csv has no column 'size' \(data.features\)"),
        (CSV, {"features": ("age", "label")}, "label 'label' cannot be a feature"),
        (CSV, {"label": "kind"}, r"no 'kind' \(data.label\)"),
        (
            CSV.replace("3,", ",", 1),
            {"columns": ("city",)},
            r"train.csv row 1 has nan in column 'ag",
        ),
        (CSV.replace("3,", "inf,", 1), {"columns": ("city",)}, "train.csv row 1 has inf in column"),
        (CSV.replace("no", ""), {"columns": ("city",)}, "train.csv row 1 has no label"),
        ("a,b\n", {}, "none of label, .*there are a, b"),
        ("", {}, "train.csv cannot be read as CSV"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(
    tmp_path: Path, train: str, options: dict[str, object], words: str
) -> None:
    csv(tmp_path, train)
    with pytest.raises(ValueError, match=words):
        read(tmp_path, "csv", **options)


def test_a_class_that_is_called_na_is_a_class(tmp_path: Path) -> None:
    csv(tmp_path, *["x,label\n1,NA\n2,None\n"] * 2)
    assert read(tmp_path, "csv").class_names == ("NA", "None")


def test_rows_of_numbers_can_be_images(tmp_path: Path) -> None:
    csv(tmp_path, *["label,a,b,c,d,e,f\n0,1,2,3,4,5,6\n1,0,0,0,0,0,0\n"] * 2)
    data = read(tmp_path, "csv", shape=(2, 3), standardise=False)
    assert data.train.inputs[0].tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert read(tmp_path, "csv", shape=(1, 2, 3)).input_shape == (3, 1, 2)
    with pytest.raises(ValueError, match=r"data.shape \[3, 3\] must be .*rows of 9 numbers.*are 6"):
        read(tmp_path, "csv", shape=(3, 3))
    with pytest.raises(ValueError, match="rows of 6 numbers; leave it out, or say with data.shape"):
        read(tmp_path, "csv", pool=2)


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


def test_features_of_the_tests_are_found_by_name(tmp_path: Path) -> None:
    csv(tmp_path, "a,b,who,label\n1,2,x,0\n3,4,y,1\n", "label,b,note,a\n0,2,text,1\n")
    data = read(tmp_path, "csv", columns=("who",), standardise=False)
    assert data.test.inputs.tolist() == data.train.inputs[:1].tolist() == [[1, 2]]
    csv(tmp_path, "a,b,label\n1,2,0\n3,4,1\n", "a,label\n1,0\n")
    with pytest.raises(ValueError, match=r"test\.csv\.gz has no column 'b' \(data.features\)"):
        read(tmp_path, "csv")
