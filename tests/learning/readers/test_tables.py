"""Tables of numbers in CSV files: what is read, and which cell cannot be."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_files import read

from fedcircuit.learning.sources.raw_data import MissingDataError

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
        ("a,b\n1,2\n", {}, "none of label, .*there are a, b"),
        ("a,label\n", {}, "train.csv has no rows, only names of columns"),
        ("a,label\n1,0\n2,1\nNA,1\n", {}, r"train.csv row 2 has 'NA' in column 'a' \(1 such"),
        ('a,label\n1,0\n2,1\n3,1\n"1,000",0\nx,0\n', {}, r"row 3 has '1,000' in .*\(2 such rows\)"),
        ("a,label\n1,0\n2,1\n0x10,1\n", {}, "row 2 has '0x10' in column 'a'"),
        ("a,label\n1,0\n1_0,1\n", {}, "row 1 has '1_0' in column 'a'"),
        ("a,label\n1.5,0\nTrue,1\n", {}, "row 1 has 'True' in column 'a'"),
        ("a,label\n1,0\nnan,1\n", {}, "row 1 has 'nan' in column 'a'"),
        ("a,label\n1,0\n2020-01-01,1\n", {}, "row 1 has '2020-01-01' in column 'a'"),
        ("a,label\n1,0\n1e39,1\n", {}, r"row 1 has 1e\+39 in column 'a', beyond the largest"),
        (",a,label\n0,1,0\n1,2,1\n", {}, "column 0 of .*train.csv .*has no name.*index=False"),
        ("Unnamed: 0,a,label\n0,1,0\n1,2,1\n", {}, "column 0 of .*has no name"),
        ("a,a,label\n0,1,0\n1,2,1\n", {}, "train.csv has 'a' more than once"),
        (
            "a,label\n0,1,0\n1,2,1\n",
            {},
            "train.csv cannot be read as CSV: .*Expected 2 fields in line 2, saw 3",
        ),
        ("", {}, "train.csv cannot be read as CSV"),
    ],
)
def test_a_table_that_cannot_be_used_says_where(
    tmp_path: Path, train: str, options: dict[str, object], words: str
) -> None:
    csv(tmp_path, train)
    with pytest.raises(ValueError, match=words):
        read(tmp_path, "csv", **options)


def test_a_nameless_column_is_no_matter_where_the_inputs_are_listed(tmp_path: Path) -> None:
    csv(tmp_path, *[",a,label\n7,1,0\n8,2,1\n"] * 2)
    data = read(tmp_path, "csv", features=("a",), standardise=False)
    assert data.train.inputs.tolist() == [[1], [2]]


def test_a_label_of_25_digits_is_blamed_on_its_own_row(tmp_path: Path) -> None:
    csv(tmp_path, *[f"a,label\n1,0\n2,1\n3,{'9' * 25}\n"] * 2)
    with pytest.raises(
        ValueError, match="train.csv row 2 has a label too large for a class: 9{25}"
    ):
        read(tmp_path, "csv")


def test_integers_beyond_64_bits_are_numbers(tmp_path: Path) -> None:
    csv(tmp_path, *[f"a,label\n1,0\n{10**30},1\n"] * 2)
    data = read(tmp_path, "csv", standardise=False)
    assert data.train.inputs.flatten().tolist() == [1, pytest.approx(1e30)]


def test_identifiers_that_float32_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    rows = "\n".join(f"{2**62 + i},{i % 2}" for i in range(8))
    csv(tmp_path, *[f"a,label\n{rows}\n"] * 2)
    with pytest.raises(ValueError, match=r"column 'a' .*4611686018427387904 to .*leave the column"):
        read(tmp_path, "csv")


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


def test_features_of_the_tests_are_found_by_name(tmp_path: Path) -> None:
    csv(tmp_path, "a,b,who,label\n1,2,x,0\n3,4,y,1\n", "label,b,note,a\n0,2,text,1\n")
    data = read(tmp_path, "csv", columns=("who",), standardise=False)
    assert data.test.inputs.tolist() == data.train.inputs[:1].tolist() == [[1, 2]]
    csv(tmp_path, "a,b,label\n1,2,0\n3,4,1\n", "a,label\n1,0\n")
    with pytest.raises(ValueError, match=r"test\.csv\.gz has no column 'b' \(data.features\)"):
        read(tmp_path, "csv")
