"""Recorded updates under other rules, without training."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.serverapp.strategy import FedAvg
from made_up_mending import STUDY, own_run
from record_examples import files_of

from fedcircuit.aggregation import NO_STATE
from fedcircuit.aggregation.heads import ClassCountHead
from fedcircuit.aggregation.named import RULE_NAMES, rule
from fedcircuit.app.config.files import parse_study
from fedcircuit.app.mending.known import Given, known_of
from fedcircuit.app.mending.replay import averaged, mended, replay_of
from fedcircuit.app.mending.verdicts import OUTCOMES
from fedcircuit.app.mending.what_if import FEDAVG, RECORDED, what_if
from fedcircuit.app.study.federation import run_study
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("what-if") / "run"
    run_study(parse_study(STUDY), folder)
    return Run.load(folder)


def rows_of(table: pd.DataFrame, number: int) -> pd.DataFrame:
    return table[table["round"] == number].set_index("rule")


def test_the_recorded_model_has_the_recorded_accuracy_and_fedavg_made_it(run: Run) -> None:
    found = what_if(run, ["ties"], rounds=[1, 2], verdicts=False).table()
    table = run.table("accuracy")
    for number in (1, 2):
        rows = rows_of(found, number)
        everything = table[(table["round"] == number) & (table["class"] == -1)]
        accuracy = pytest.approx(everything["recall"].iloc[0], abs=1e-9)  # recorded to 9 digits
        assert rows.loc[RECORDED, "accuracy"] == accuracy
        assert rows.loc[FEDAVG, "same as"] == RECORDED  # bit for bit
        assert rows.loc[FEDAVG, "accuracy"] == rows.loc[RECORDED, "accuracy"]
        recalls = table[(table["round"] == number) & (table["class"] >= 0)]["recall"]
        assert rows.loc[RECORDED, "worst recall"] == pytest.approx(recalls.min(), abs=1e-9)
        by_class = rows.loc[RECORDED, [str(c) for c in range(10)]].astype(float)
        np.testing.assert_allclose(by_class, recalls, atol=1e-9)
        assert list(rows.index) == [RECORDED, FEDAVG, "ties"]


def test_the_recorded_model_gets_the_recorded_verdicts(run: Run) -> None:
    table = run.table("verdicts").merge(run.table("validity"), left_on=["round", "client", "class"],
                                        right_on=["round", "model", "class"])  # fmt: skip
    valid = table[table["status"] == "valid"]
    found = what_if(run, ["class-count-head"], rounds=[1, 2]).table()
    assert len(valid)
    for number in (1, 2):
        counts = valid[valid["round"] == number]["verdict"].fillna("undecided").value_counts()
        told = rows_of(found, number).loc[RECORDED, list(OUTCOMES)]
        assert {k: n for k, n in told.items() if n} == counts.to_dict()
        every = rows_of(found, number)[list(OUTCOMES)].sum(axis=1)
        assert set(every) == {int(counts.sum())}  # the same circuits under every rule


def test_pairs_that_clients_recognise_are_counted_again_in_the_new_model(run: Run) -> None:
    rows = what_if(run, ["class-count-head"], verdicts=False).rows
    checks = run.table("validity")
    clients = checks[(checks["round"] == 2) & (checks["model"] != "global")]
    known = clients[clients["full_recall"] >= 0.5]
    assert {row.learned for row in rows} == {len(known)}
    average = checks[(checks["round"] == 2) & (checks["model"] == "global")]
    still = set(average[average["full_recall"] >= 0.5]["class"])
    assert rows[0].kept == known["class"].isin(still).sum()


def test_looking_changes_nothing_on_disk(run: Run) -> None:
    before = files_of(run.path)
    what_if(run, ["ccvr", "ties"])
    assert files_of(run.path) == before


def test_what_the_record_lacks_is_named_with_the_option_that_records_it(run: Run) -> None:
    rows = {row.rule: row for row in what_if(run, verdicts=False).rows}
    assert set(rows) == {RECORDED, FEDAVG, *RULE_NAMES}
    said = {
        "scaffold": "changes of control variates of every client: our clients send it with "
        "training.scaffold: true",
        "livar-head": "variances of features of every client: our clients send it with "
        "training.feature_variance: {}",
        "livar-layers": "path importance of every client: our clients send it with "
        "training.path_importance: true",
        "fisher": "Fisher information of every client: our clients send it with "
        "training.fisher: true",
    }
    assert {name: rows[name].lacks for name in said} == {k: f"needs {v}" for k, v in said.items()}
    assert isnan(rows["scaffold"].accuracy)
    assert rows["scaffold"].kept is None
    assert rows["ccvr"].lacks == rows["ties"].lacks == ""
    assert rows["covered-average"].same == RECORDED  # it is off by default


def test_fedavg_is_flowers_own_bit_for_bit(run: Run) -> None:
    """The study's aggregation is Flower's; what-if aggregates the record for itself."""
    assert run.manifest["config"]["strategy"]["name"] == FedAvg.__name__.lower()
    for number in (1, 2):
        replay = replay_of(run, number, known_of(run, Given(), None, verdicts=False))
        average = averaged(replay.updates)
        assert list(average) == list(replay.recorded)
        for name, values in replay.recorded.items():
            assert average[name].dtype == values.dtype
            assert average[name].tobytes() == values.tobytes(), name


def test_rows_of_the_head_are_averaged_by_hand(tmp_path: Path) -> None:
    """Client 0 has 6 samples of a and 2 of b, client 1 has 2 of a and 6 of b, 4 examples each."""
    folder, model, probe = own_run(tmp_path / "run", counts=[[6, 2], [2, 6]])
    known = known_of(Run.load(folder), Given(model, probe), None, verdicts=False)
    replay = replay_of(Run.load(folder), 1, known)
    made = mended(rule("class-count-head"), replay, averaged(replay.updates))
    # row a: 6/8 of (3, 0) and 2/8 of (0, 0); row b: 2/8 of (0, 0) and 6/8 of (0, 3)
    np.testing.assert_array_equal(made["2.weight"], np.float32([[2.25, 0], [0, 2.25]]))
    np.testing.assert_array_equal(made["0.weight"], np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(made["2.bias"], np.float32([0, 0]))


def test_a_run_of_ones_own_program_is_looked_at_with_model_and_probe(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"give what_if\(RUN, model=\.\.\., probe=\.\.\.\)"):
        what_if(folder)
    found = what_if(folder, {"mine": rule("class-count-head")}, model=model, probe=probe)
    assert [row.accuracy for row in found.rows] == [1.0, 1.0, 1.0]
    assert found.class_names == ("a", "b")
    assert found.unjudged[1].startswith("the record holds no circuits of the clients")


def test_a_class_called_like_a_column_stands_beside_it(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run", names=("rule", "b"))
    table = what_if(folder, ["ties"], model=model, probe=probe).table()
    assert list(table["rule"]) == [RECORDED, FEDAVG, "ties"]
    assert list(table["class rule"])[:2] == [1.0, 1.0]


def test_a_rule_of_ones_own_that_fails_costs_the_others_nothing(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run")

    class Broken(ClassCountHead):
        def __call__(self, *args: object) -> object:  # type: ignore[override]
            raise KeyError("nothing of that name")

    rows = what_if(
        folder, {"broken": Broken(), "ties": rule("ties")}, model=model, probe=probe
    ).rows
    assert "it failed with KeyError" in rows[2].lacks
    assert not rows[3].lacks
    assert not isnan(rows[3].accuracy)


def test_a_client_that_did_not_say_what_a_rule_needs_is_named(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run", counts=[[8, 0], None])
    rows = what_if(folder, ["class-count-head"], model=model, probe=probe).rows
    assert "class counts of every client, which 1 did not send" in rows[2].lacks


def test_nothing_remembered_is_put_into_the_empty_state(run: Run) -> None:
    what_if(run, ["ties"], verdicts=False)
    assert NO_STATE == {}
