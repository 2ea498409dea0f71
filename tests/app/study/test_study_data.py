"""From the YAML of a study to its data and who holds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedcircuit.app.commands.partition_table import partition_table
from fedcircuit.app.config.files import parse_study
from fedcircuit.app.study.data import dataset_of, make_partition, source_of
from fedcircuit.app.study.federation import run_study
from fedcircuit.records.runs.run import Run


def leaf(root: Path, n_users: int = 4) -> None:
    """Users of 8 samples; class 1 lies at large numbers."""
    x = [[float(label), float(i)] for i in range(4) for label in (0, 1)]
    for part, users in (("train", range(n_users)), ("test", range(n_users))):
        names = [f"f{user}" for user in users]
        content = {
            "users": names,
            "num_samples": [8] * len(names),
            "user_data": {name: {"x": x, "y": [0, 1] * 4} for name in names},
        }
        (root / part).mkdir(parents=True)
        (root / part / "all.json").write_text(json.dumps(content), encoding="utf-8")


def study(root: Path, **partition: object) -> dict[str, object]:
    return {
        "data": {"name": "leaf", "root": str(root)},
        "partition": {"kind": "natural", "column": "user", **partition},
        "model": {"name": "mlp", "widths": [4]},
        "training": {"rounds": 1, "batch_size": 4},
        "circuits": {"probe_per_class": 8},
    }


def test_a_natural_partition_needs_no_number_of_clients(tmp_path: Path) -> None:
    leaf(tmp_path / "data")
    config = parse_study(study(tmp_path / "data"))
    assert config.n_clients is None

    path = run_study(config, tmp_path / "run")

    recorded = Run.load(path)
    assert recorded.clients["client"].nunique() == 4
    assert json.loads((path / "partition.json").read_text())["names"] == ["f0", "f1", "f2", "f3"]
    table, notes = partition_table(config)
    assert str(table.columns[1].header) == "name"
    assert notes[0] == "one client for each value of 'user'"


def test_flower_partitioners_get_the_column_that_they_ask_for(tmp_path: Path) -> None:
    leaf(tmp_path / "data", 3)
    raw = study(tmp_path / "data")
    raw["partition"] = {
        "kind": "flwr-datasets",
        "partitioner": "NaturalIdPartitioner",
        "clients": 3,
        "options": {"partition_by": "user"},
    }
    config, own = parse_study(raw), parse_study(study(tmp_path / "data"))
    parts = [
        make_partition(c.partition, dataset_of(source_of(c), 0), 0).indices for c in (config, own)
    ]
    assert [p.tolist() for p in parts[0]] == [p.tolist() for p in parts[1]]


def test_data_without_columns_name_those_that_have_some() -> None:
    config = parse_study({"partition": {"kind": "natural", "column": "writer"}})
    with pytest.raises(ValueError, match="'digits' was read without a column 'writer'.*parquet"):
        make_partition(config.partition, dataset_of(source_of(config), 0), 0)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"partition": {"kind": "natural"}}, "needs column, whose values"),
        ({"partition": {"clients": 2, "column": "x"}}, "column belongs to kind 'natural'"),
        ({"data": {"label": "x"}}, "label belongs to parquet, csv, npz; the data set is 'digits'"),
        ({"data": {"name": "csv", "colour": True}}, "colour belongs to parquet, image-folder"),
        ({"data": {"name": "csv", "shape": [3]}}, "data.shape"),
        ({"data": {"name": "mnist", "test_share": 0.5}}, "test_share belongs to parquet"),
    ],
)
def test_keys_of_other_data_are_refused(raw: dict[str, object], words: str) -> None:
    with pytest.raises(Exception, match=words):
        parse_study(raw)


def test_the_manifest_of_an_earlier_run_is_still_accepted() -> None:
    assert parse_study({"data": {"name": "mnist", "test_share": 0.2}}).data.test_share == 0.2
