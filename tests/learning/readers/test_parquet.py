"""Parquet as hubs serve it: named columns, shards, class names, and rows that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_up_files import colour, encoded, parquet, pictures, read, table
from PIL import Image

from fedcircuit.learning.sources.raw_data import MissingDataError


def test_class_names_are_those_of_the_labels_own_column(tmp_path: Path) -> None:
    features = {
        "domain": {"names": ["photo", "sketch", "art"], "_type": "ClassLabel"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    rows = pictures(6, features=features, domain=pa.array([0, 1, 2] * 2))
    parquet(tmp_path, train=rows, test=rows)

    assert read(tmp_path).class_names == ("cat", "dog")
    assert read(tmp_path, label="domain").class_names == ("photo", "sketch", "art")


@pytest.mark.parametrize("features", [{"label": {"_type": "Value"}}, {}, {"label": None}])
def test_metadata_without_names_leaves_numbers(tmp_path: Path, features: object) -> None:
    rows = pictures(4, features=features)
    parquet(tmp_path, train=rows, test=rows)
    assert read(tmp_path).class_names == ("0", "1")


def test_text_labels_are_sorted_however_each_file_encodes_them(tmp_path: Path) -> None:
    words = ["dog", "cat", "eel", "cat"]
    parquet(
        tmp_path,
        train=pictures(4, pa.array(words).dictionary_encode()),
        test=pictures(4, pa.array(words[::-1])),
    )

    data = read(tmp_path)

    assert data.class_names == ("cat", "dog", "eel")
    assert data.train.labels.tolist() == [1, 0, 2, 0]
    assert data.test.labels.tolist() == [0, 2, 0, 1]


def test_columns_of_any_name_can_be_named(tmp_path: Path) -> None:
    rows = pictures(4, label="character").rename_columns(["scan", "character"])
    parquet(tmp_path, train=rows, test=rows)

    data = read(tmp_path, image="scan", label="character")

    assert data.train.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"no 'photo' \(data\.image\), there are scan, character"):
        read(tmp_path, image="photo")
    with pytest.raises(ValueError, match="none of label, .*there are scan, character.*data.label"):
        read(tmp_path, image="scan")


def test_two_columns_of_usual_names_are_not_chosen_from(tmp_path: Path) -> None:
    rows = pictures(4).append_column("fine_label", pa.array([0, 1, 2, 3]))
    parquet(tmp_path, train=rows, test=rows)

    with pytest.raises(ValueError, match="label and fine_label could all be the label"):
        read(tmp_path)
    assert read(tmp_path, label="fine_label").train.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("folder", ["", "data"])
@pytest.mark.parametrize("mark", ["", "-0a1b2c3d"])
def test_shards_are_read_in_the_order_of_their_numbers(
    tmp_path: Path, folder: str, mark: str
) -> None:
    whole = pictures(10)
    shards = {f"train-0000{i}-of-00005{mark}": whole.slice(2 * i, 2) for i in (3, 0, 4, 2, 1)}
    parquet(tmp_path / folder, **shards, **{"test-00000-of-00001": whole})
    (tmp_path / folder / "._train.parquet").write_bytes(b"left by a Mac")

    data = read(tmp_path)

    assert torch.equal(data.train.inputs, data.test.inputs)
    assert data.train.labels.tolist() == [0, 1] * 5


def test_a_folder_of_files_is_a_split(tmp_path: Path) -> None:
    whole = pictures(6)
    parquet(tmp_path / "train", **{"0000": whole.slice(0, 3), "0001": whole.slice(3)})
    parquet(tmp_path / "validation", **{"0000": whole})

    data = read(tmp_path)

    assert torch.equal(data.train.inputs, data.test.inputs)


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    rows = pictures(2)
    parquet(tmp_path, test=rows, **{"train-00000-of-00003": rows, "train-00002-of-00003": rows})
    with pytest.raises(ValueError, match=r"found train-00000-of-00003.*of 3 the numbers \[1\]"):
        read(tmp_path)


def test_a_split_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    rows = pictures(2)
    parquet(tmp_path, train=rows, test=rows)
    parquet(tmp_path / "data", train=rows)
    with pytest.raises(ValueError, match="'train' is there more than once"):
        read(tmp_path)


def test_what_is_missing_is_listed_with_what_is_there(tmp_path: Path) -> None:
    parquet(tmp_path, training_set=pictures(2))
    with pytest.raises(MissingDataError, match="holds training_set.parquet") as caught:
        read(tmp_path)
    for path in ("train.parquet, train-00000-of-NNNNN.parquet or train/*", "data/train.parquet"):
        assert str(tmp_path / path) in str(caught.value)


def test_data_of_one_split_ask_for_a_share_to_hold_out(tmp_path: Path) -> None:
    parquet(tmp_path, train=pictures(20, writer=pa.array([f"w{i}" for i in range(20)])))
    with pytest.raises(MissingDataError, match=r"(?s)tests are not there.*data\.test_share"):
        read(tmp_path)

    data = read(tmp_path, test_share=0.3, columns=("writer",))

    assert data.test.counts(2).tolist() == [3, 3]
    assert data.train.counts(2).tolist() == [7, 7]
    assert len(data.columns["writer"]) == 14
    both = torch.cat([data.train.inputs, data.test.inputs]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 20
    again, other = (read(tmp_path, test_share=0.3, seed=seed) for seed in (0, 1))
    assert torch.equal(again.test.inputs, data.test.inputs)
    assert not torch.equal(other.test.inputs, data.test.inputs)
    with pytest.raises(ValueError, match=r"share of 0\.04 .*leaves class 0"):
        read(tmp_path, test_share=0.04)


def test_another_split_can_be_the_tests(tmp_path: Path) -> None:
    parquet(
        tmp_path, train=pictures(4), test=pictures(4, pa.array([-1] * 4)), validation=pictures(2)
    )
    with pytest.raises(ValueError, match=r"test.parquet row 0 has the label -1.*data\.test_split"):
        read(tmp_path)
    assert len(read(tmp_path, test_split="validation").test) == 2


def test_grey_among_colour_and_between_splits(tmp_path: Path) -> None:
    grey = [encoded(colour(seed=i).convert("L")) for i in range(4)]
    bright = [encoded(colour(seed=i)) for i in range(4)]
    labels = pa.array([0, 1, 0, 1])
    parquet(tmp_path, train=table([*bright[:3], grey[3]], labels), test=table(grey, labels))

    data = read(tmp_path)

    assert data.train.inputs.shape == data.test.inputs.shape == (4, 3, 4, 4)
    assert torch.equal(data.test.inputs[:, 0], data.test.inputs[:, 2])
    assert read(tmp_path, colour=False).input_shape == (1, 4, 4)


def test_sixteen_bit_pixels_are_shares_of_65535(tmp_path: Path) -> None:
    ramp = Image.fromarray(np.array([[0, 13107, 65535]], dtype=np.uint16))
    rows = table([encoded(ramp)] * 2, pa.array([0, 1]))
    parquet(tmp_path, train=rows, test=rows)
    assert read(tmp_path).train.inputs[0].flatten().tolist() == pytest.approx([-1, -0.6, 1])


@pytest.mark.parametrize(
    ("cell", "words"), [(None, "holds no image"), (b"", "holds no image"), (b"x", "cannot be read")]
)
def test_a_row_that_cannot_be_used_is_named_by_its_file(
    tmp_path: Path, cell: bytes | None, words: str
) -> None:
    good = [encoded(colour(seed=i)) for i in range(3)]
    labels = pa.array([0, 1, 0])
    parquet(
        tmp_path,
        test=table(good, labels),
        **{
            "train-00000-of-00002": table(good, labels),
            "train-00001-of-00002": table([*good[:2], cell], labels),
        },
    )
    with pytest.raises(ValueError, match=f"train-00001-of-00002.parquet row 2.*{words}"):
        read(tmp_path)


def test_paths_without_bytes_are_named(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": "a/b.png"}], kind)
    rows = pa.table({"image": cells, "label": [0]})
    parquet(tmp_path, train=rows, test=rows)
    with pytest.raises(ValueError, match=r"row 0 holds no image, only the path 'a/b\.png'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pa.table({"image": ["a.png"], "label": [0]}), "'image' must hold encoded images.*string"),
        (
            pictures(1, pa.array([[0, 1]])),
            "'label' must hold whole numbers or text, one a row; its type is list",
        ),
        (pictures(0, pa.array([], pa.int64())), "training samples of parquet are none"),
    ],
)
def test_columns_of_another_type_are_refused(tmp_path: Path, rows: pa.Table, words: str) -> None:
    parquet(tmp_path, train=rows, test=rows)
    with pytest.raises(ValueError, match=words):
        read(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"{part}.parquet").write_bytes(b"no Parquet")
    with pytest.raises(ValueError, match=r"train\.parquet cannot be read as Parquet"):
        read(tmp_path)


def test_a_table_of_numbers_is_read_without_images(tmp_path: Path) -> None:
    rows = pa.table({"a": [1.0, 3.0], "b": [5, 5], "who": ["x", "y"], "label": ["no", "yes"]})
    parquet(tmp_path, train=rows, test=rows)

    data = read(tmp_path, columns=("who",))

    assert data.train.inputs.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert data.columns["who"].tolist() == ["x", "y"]
    assert read(tmp_path, features=("b",), standardise=False).train.inputs.tolist() == [[5.0]] * 2


def test_a_further_column_without_a_value_names_the_row(tmp_path: Path) -> None:
    rows = pictures(3, writer=pa.array(["a", None, "b"]))
    parquet(tmp_path, train=rows, test=rows)
    with pytest.raises(ValueError, match=r"train\.parquet row 1 has no value in column 'writer'"):
        read(tmp_path, columns=("writer",))
    with pytest.raises(ValueError, match="no column 'hospital'"):
        read(tmp_path, columns=("hospital",))


def test_only_the_rows_that_are_used_are_decoded(tmp_path: Path) -> None:
    cells = [encoded(colour(seed=i)) for i in range(8)]
    parquet(tmp_path, train=table([*cells[:7], b"damaged"], pa.array([0, 1] * 4)), test=pictures(2))
    sizes = set()
    for seed in range(8):
        try:
            sizes.add(len(read(tmp_path, seed=seed, train_limit=2).train))
        except ValueError as error:
            assert "row 7" in str(error)  # noqa: PT017
    assert sizes == {2}
    assert pq.read_table(tmp_path / "train.parquet").num_rows == 8


def test_tests_need_not_say_whose_they_are(tmp_path: Path) -> None:
    parquet(tmp_path, train=pictures(2, writer=pa.array([7, 9])), test=pictures(2))
    assert read(tmp_path, columns=("writer",)).columns["writer"].tolist() == [7, 9]


def test_columns_of_one_name_and_rows_without_labels_are_refused(tmp_path: Path) -> None:
    cells = pa.array([1.0, 2.0])
    twice = pa.table([cells, cells, pa.array([0, 1])], names=["a", "a", "label"])
    parquet(tmp_path / "twice", train=twice, test=twice)
    with pytest.raises(ValueError, match=r"train\.parquet has 'a' more than once"):
        read(tmp_path / "twice")
    unlabelled = pa.table({"a": cells, "label": pa.array([-1, -1])})
    parquet(tmp_path / "unlabelled", train=unlabelled, test=unlabelled)
    with pytest.raises(ValueError, match="row 0 has the label -1 .*all 2 training rows have neg"):
        read(tmp_path / "unlabelled")


def test_a_table_whose_rows_are_named_says_which_cell_is_no_number(tmp_path: Path) -> None:
    rows = {"a": ["1", "2", "x"], "label": [0, 1, 1]}
    named = pa.Table.from_pandas(pd.DataFrame(rows, index=["p", "q", "r"]))
    parquet(tmp_path, train=named, test=named)
    with pytest.raises(ValueError, match=r"train\.parquet row 2 has 'x' in column 'a'"):
        read(tmp_path)
