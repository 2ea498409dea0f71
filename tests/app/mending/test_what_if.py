"""Recorded updates under other rules, without training."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from record_examples import files_of
from torch import nn

from fedcircuit.aggregation import NO_STATE, Update, Updates
from fedcircuit.aggregation.named import rule
from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.mending.telling import asked_for, tell
from fedcircuit.app.mending.what_if import FEDAVG, RECORDED, averaged, what_if
from fedcircuit.app.study.federation import run_study
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.learning.weights import get_weights
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import ClientRecord, RoundRecord
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.samples import Samples

STUDY = {
    "name": "broken",
    "partition": {"kind": "classes", "classes": [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]},
    "model": {"name": "mlp", "widths": [12]},
    "training": {"rounds": 2, "epochs": 1},
    "circuits": {"probe_per_class": 6, "controls": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("what-if") / "run"
    run_study(parse_study(STUDY), folder)
    return Run.load(folder)


def test_the_recorded_model_has_the_recorded_accuracy_and_fedavg_made_it(run: Run) -> None:
    found = what_if(run, ["ties"], rounds=[1, 2]).table()
    table = run.table("accuracy")
    for number in (1, 2):
        rows = found[found["round"] == number].set_index("rule")
        everything = table[(table["round"] == number) & (table["class"] == -1)]
        accuracy = pytest.approx(everything["recall"].iloc[0], abs=1e-9)  # recorded to 9 digits
        assert rows.loc[RECORDED, "accuracy"] == accuracy
        assert rows.loc[FEDAVG, "accuracy"] == rows.loc[RECORDED, "accuracy"]
        recalls = table[(table["round"] == number) & (table["class"] >= 0)]["recall"]
        assert rows.loc[RECORDED, "worst recall"] == pytest.approx(recalls.min(), abs=1e-9)
        assert list(rows.index) == [RECORDED, FEDAVG, "ties"]


def test_pairs_that_clients_recognise_are_counted_again_in_the_new_model(run: Run) -> None:
    rows = what_if(run, ["class-count-head"]).rows
    clients = run.table("validity")
    assert {row.learned for row in rows} == {rows[0].learned}
    assert rows[0].learned is not None
    assert 0 < rows[0].learned <= len(clients[clients["model"] != "global"])
    assert all(0 <= (row.kept or 0) <= (row.learned or 0) for row in rows)


def test_looking_changes_nothing_on_disk(run: Run) -> None:
    before = files_of(run.path)
    what_if(run, ["ccvr", "ties"])
    assert files_of(run.path) == before


def test_what_the_record_lacks_is_named_with_what_would_record_it(run: Run) -> None:
    rows = {row.rule: row for row in what_if(run).rows}
    assert rows["scaffold"].lacks == (
        "the record lacks scaffold-delta (our clients send it with training.scaffold)"
    )
    assert isnan(rows["scaffold"].accuracy)
    assert rows["scaffold"].kept is None
    assert rows["ccvr"].lacks == rows["ties"].lacks == ""


def test_the_average_is_that_of_the_samples_in_the_dtypes_of_before() -> None:
    before = {"w": np.zeros(2, np.float32), "n": np.array(7)}
    clients = tuple(
        Update(str(k), n, {"w": np.full(2, w, np.float32), "n": np.array(m)})
        for k, (n, w, m) in enumerate([(1, 0.0, 7), (3, 4.0, 11)])
    )
    found = averaged(Updates(1, before, clients))
    assert found["w"].tolist() == [3.0, 3.0]  # (1 * 0 + 3 * 4) / 4
    assert found["w"].dtype == np.float32
    assert found["n"] == 10  # (7 + 3 * 11) / 4
    assert found["n"].dtype == before["n"].dtype


def own_run(folder: Path, *, weights: bool = True) -> tuple[Path, nn.Module, Probe]:
    """A run of a program of its own: two clients of a linear network, one knows each class."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    start = get_weights(model)
    eye = {**start, "0.weight": np.eye(2, dtype=np.float32), "2.bias": np.zeros(2, np.float32)}
    heads = np.array([[[3.0, 0], [0, 0]], [[0, 0], [0, 3.0]]], np.float32)
    clients = tuple(
        ClientRecord(
            str(k),
            4,
            {**eye, "2.weight": head} if weights else {},
            {},
            {"class-counts": [8 * (1 - k), 8 * k]},
        )
        for k, head in enumerate(heads)
    )
    manifest = build_manifest("own", seed=0, class_names=("a", "b"))
    with RunStore.create(folder, manifest) as store:
        store.append(RoundRecord(0, start))
        store.append(RoundRecord(1, {**eye, "2.weight": heads.mean(0)}, clients))
    labels = torch.arange(20) % 2
    return folder, model, Probe.split(Samples(torch.eye(2)[labels], labels), ("a", "b"), seed=0)


def test_a_run_of_ones_own_program_is_looked_at_with_model_and_probe(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"give what_if\(RUN, model=\.\.\., probe=\.\.\.\)"):
        what_if(folder)
    found = what_if(folder, {"mine": rule("class-count-head")}, model=model, probe=probe)
    assert [row.rule for row in found.rows] == [RECORDED, FEDAVG, "mine"]
    assert [row.accuracy for row in found.rows] == [1.0, 1.0, 1.0]
    assert found.class_names == ("a", "b")


def test_without_client_weights_there_is_nothing_to_aggregate(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run", weights=False)
    with pytest.raises(RunError, match="keeps no client weights of round 1: record with"):
        what_if(folder, model=model, probe=probe)


@pytest.mark.parametrize(
    ("rules", "rounds", "words"),
    [
        ("ccrv", None, "unknown rule 'ccrv'; did you mean 'ccvr'"),
        (" , ", None, "--rules expects some of class-count-head"),
        (None, "x", "--rounds expects numbers such as 1,4,8, got 'x'"),
        (None, "7", "has no round 7; its rounds are 1 to 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(
    run: Run, rules: str | None, rounds: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        asked_for(run.path, rules, rounds)


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    last = say


def test_the_terminal_shows_the_best_first_and_what_was_not_used_last(
    run: Run, tmp_path: Path
) -> None:
    found, said = asked_for(run.path, "ties,scaffold,ccvr", None), Said()
    tell(found, said, tmp_path / "table.csv")
    assert said.lines[0].startswith("round 2")
    worst = [float(line.split()[-3]) for line in said.lines[1:5] if "recorded" not in line]
    assert worst == sorted(worst, reverse=True)
    assert said.lines[5].startswith("  scaffold               not used: the record lacks")
    assert "accuracy by chance: 0.100" in said.lines[6]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 6
    assert NO_STATE == {}
