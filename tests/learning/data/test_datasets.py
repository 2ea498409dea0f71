import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fedcircuit.learning.data.datasets import load_dataset, stratified_subset
from fedcircuit.learning.sources.data_source import DataSource
from fedcircuit.learning.sources.raw_data import MissingDataError


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def made_up_mnist(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 40), ("t10k", 20)):
        images = np.zeros((n, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(n) % 10)


def test_digits_are_split_the_same_way_for_the_same_seed() -> None:
    first, again, other = (load_dataset(DataSource(), seed=seed) for seed in (0, 0, 1))

    assert first.input_shape == (1, 8, 8)
    assert len(first.train) + len(first.test) == 1797
    assert first.train.labels.tolist() == again.train.labels.tolist()
    assert first.train.labels.tolist() != other.train.labels.tolist()
    assert abs(float(first.train.inputs.mean())) < 0.02
    assert abs(float(first.train.inputs.std()) - 1) < 0.02


def test_idx_files_are_read_and_normalised_as_published(tmp_path: Path) -> None:
    made_up_mnist(tmp_path)

    data = load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)

    assert data.train.inputs.shape == (40, 1, 28, 28)
    assert float(data.train.inputs[3, 0, 0, 0]) == pytest.approx((1 - 0.1307) / 0.3081)
    assert float(data.train.inputs[3, 0, 1, 0]) == pytest.approx(-0.1307 / 0.3081)
    assert data.test.labels[:12].tolist() == [*range(10), 0, 1]
    assert data.class_names[7] == "7"


def test_the_environment_names_the_root_where_the_study_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up_mnist(tmp_path)
    monkeypatch.setenv("FEDCIRCUIT_DATA", str(tmp_path))

    assert len(load_dataset(DataSource("mnist"), seed=0).test) == 20


def made_up_pictures(root: Path, part: str, n: int, size: tuple[int, int]) -> np.ndarray:
    """Random colour pictures ``[n, h, w, 3]`` of two classes, written as Parquet."""
    pixels = np.random.default_rng(n).integers(0, 256, (n, *size, 3), dtype=np.uint8)
    rows = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "png")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    table = pa.table({"img": rows, "label": [i % 2 for i in range(n)]})
    pq.write_table(table, root / f"{part}.parquet")
    return pixels


def test_pooling_averages_the_scaled_pixels_of_every_square(tmp_path: Path) -> None:
    train = made_up_pictures(tmp_path, "train", 4, (4, 6))
    test = made_up_pictures(tmp_path, "test", 2, (4, 6))

    data = load_dataset(DataSource("parquet", root=str(tmp_path), pool=2), seed=0)

    assert data.input_shape == (3, 2, 3)
    for samples, pixels in ((data.train, train), (data.test, test)):
        for image, picture in zip(samples.inputs.numpy(), pixels / 255.0, strict=True):
            for channel, row, column in np.ndindex(3, 2, 3):
                square = picture[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
                expected = (square.mean() - 0.5) / 0.5  # averaged first, normalised then
                assert image[channel, row, column] == pytest.approx(expected, abs=1e-6)
    assert data.train.labels.tolist() == [0, 1, 0, 1]


def test_mnist_pooled_by_two_has_a_quarter_of_the_pixels(tmp_path: Path) -> None:
    made_up_mnist(tmp_path)

    data = load_dataset(DataSource("mnist", root=str(tmp_path), pool=2), seed=0)

    assert data.input_shape == (1, 14, 14)
    assert float(data.train.inputs[3, 0, 0, 0]) == pytest.approx((0.25 - 0.1307) / 0.3081)
    assert float(data.train.inputs[3, 0, 0, 1]) == pytest.approx(-0.1307 / 0.3081)


def test_pooling_by_one_changes_nothing() -> None:
    plain, pooled = (load_dataset(DataSource(pool=pool), seed=0) for pool in (None, 1))

    assert torch.equal(plain.train.inputs, pooled.train.inputs)


@pytest.mark.parametrize("pool", [3, 0, -2, 16])
def test_a_pool_that_does_not_divide_the_sides_is_refused(pool: int) -> None:
    words = f"got {pool} for the 8x8 images of 'digits'; use 2, 4, 8, or leave it out"
    with pytest.raises(ValueError, match=words):
        load_dataset(DataSource(pool=pool), seed=0)


def test_both_sides_must_be_divided(tmp_path: Path) -> None:
    for part in ("train", "test"):
        made_up_pictures(tmp_path, part, 2, (4, 9))

    with pytest.raises(ValueError, match="4x9 images of 'parquet'; leave it out"):
        load_dataset(DataSource("parquet", root=str(tmp_path), pool=2), seed=0)


def test_missing_files_are_listed_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="data.download=true") as caught:
        load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)

    assert str(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte") in str(caught.value)


def test_packed_idx_files_are_read_as_they_are(tmp_path: Path) -> None:
    made_up_mnist(tmp_path)
    plain = load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)
    for path in (tmp_path / "MNIST/raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    packed = load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)

    assert torch.equal(packed.train.inputs, plain.train.inputs)
    assert packed.test.labels.tolist() == plain.test.labels.tolist()


@pytest.mark.parametrize("cut", [3, 500])
def test_a_damaged_idx_file_is_named(tmp_path: Path, cut: int) -> None:
    made_up_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(ValueError, match="train-images-idx3-ubyte cannot be read as an IDX file"):
        load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)


def test_an_empty_packed_idx_file_is_called_empty(tmp_path: Path) -> None:
    made_up_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.unlink()
    path.with_name(path.name + ".gz").touch()

    with pytest.raises(ValueError, match=r"idx3-ubyte\.gz .* it holds 0 bytes, .*get it again"):
        load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)


def test_parquet_with_image_columns_decodes_what_is_asked_for(tmp_path: Path) -> None:
    for part, n in (("train", 12), ("test", 6)):
        rows = []
        for index in range(n):
            path = tmp_path / "one.png"
            Image.fromarray(np.full((4, 5, 3), 20 * index, dtype=np.uint8)).save(path)
            rows.append({"bytes": path.read_bytes(), "path": None})
        table = pa.table({"img": rows, "label": [i // (n // 3) for i in range(n)]})
        pq.write_table(table, tmp_path / f"{part}.parquet")

    data = load_dataset(DataSource("parquet", root=str(tmp_path), train_limit=6), seed=0)

    assert data.train.inputs.shape == (6, 3, 4, 5)
    assert data.train.counts(3).tolist() == [2, 2, 2]
    assert float(data.test.inputs[5, 0, 0, 0]) == pytest.approx((100 / 255 - 0.5) / 0.5)
    assert data.class_names == ("0", "1", "2")


def test_image_folders_are_read_and_sizes_must_agree(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name, value in (("cat", 10), ("dog", 200)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)).save(
                    folder / f"{index}.png"
                )
    source = DataSource("image-folder", root=str(tmp_path))

    data = load_dataset(source, seed=0)

    assert data.class_names == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    Image.new("RGB", (5, 4)).save(tmp_path / "train/cat/3.png")
    with pytest.raises(ValueError, match="all images must have one size"):
        load_dataset(source, seed=0)


def test_a_subset_keeps_the_shares_of_the_classes_exactly() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])

    index = stratified_subset(labels, 10, seed=0)

    assert np.bincount(labels[index]).tolist() == [5, 3, 2]
    assert np.all(np.diff(index) > 0)


def test_a_subset_that_loses_a_class_and_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves class 1 of 2 classes without any"):
        stratified_subset(np.array([0] * 99 + [1]), 10, seed=0)
    with pytest.raises(ValueError, match="unknown data set 'emnist'; known: digits, mnist"):
        load_dataset(DataSource("emnist"), seed=0)
