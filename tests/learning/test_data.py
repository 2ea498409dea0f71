import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedcircuit.learning.data import DataSource, load_dataset, stratified_subset
from fedcircuit.learning.raw_data import MissingDataError


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


def test_missing_files_are_listed_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="data.download=true") as caught:
        load_dataset(DataSource("mnist", root=str(tmp_path)), seed=0)

    assert str(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte") in str(caught.value)


def test_packed_files_beside_missing_ones_are_to_be_unpacked(tmp_path: Path) -> None:
    made_up_mnist(tmp_path)
    images = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    images.rename(images.with_name(images.name + ".gz"))

    with pytest.raises(MissingDataError, match="gunzip -k .*train-images-idx3-ubyte.gz"):
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
