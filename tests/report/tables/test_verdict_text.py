"""The verdict in words: what, in whom, since when, and what cannot be said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_runs import Story, make_run

from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import Observation, RoundRecord, Table
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables.verdict_text import headline, sentences, since_round


def test_the_first_sentence_counts_the_fate_of_the_valid_circuits(tmp_path: Path) -> None:
    # 12 pairs: (2, 2) undiscovered, (2, 3) not learned; of the other 10 the pairs (0, 1), (1, 1)
    # have collapsed and (1, 0) is degraded in the last round
    told = sentences(make_run(tmp_path / "run"))
    assert told[0] == (
        "Averaging preserved 7 of 10 valid circuits in round 4; 1 degraded, 2 collapsed."
    )


def test_the_headline_names_class_client_and_the_round_since_when(tmp_path: Path) -> None:
    text = headline(make_run(tmp_path / "run"))
    assert (
        "Class </script> collapsed for client 1 since round 1; "
        "class </script> collapsed for client 0 since round 2." in text
    )


def test_the_headline_has_accuracy_validity_chance_and_failures_beside_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text = headline(run)
    assert "Accuracy of the global model: 0.240 in round 4." in text
    assert (
        "10 of 12 client-class pairs had a valid circuit (1 undiscovered, 1 not learned by the "
        "client, 0 absent)." in text
    )
    table = run.table("overlap")
    table = table[(table["round"] == 4) & (table["layer"] == "all")]
    table = table[~((table["client"] == "2") & table["class"].isin([2, 3]))]
    assert (
        f"by {table['iou'].mean():.2f} (IoU) where chance gives {table['chance'].mean():.2f}; "
        f"{(table['q_value'] <= 0.05).sum()} of 10 overlaps exceed chance at a false-discovery "
        "rate of 5%." in text
    )
    assert "1 reply could not enter the average; observers failed 1 time." in text


def test_the_headline_compares_the_own_class_with_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    table = run.table("class_swap").merge(run.table("overlap"))
    table = table[(table["round"] == 4) & (table["layer"] == "all")]
    table = table[~((table["client"] == "2") & table["class"].isin([2, 3]))]
    closest = (table["adjusted"] > table["swapped_max"]).sum()
    assert (
        f"by {table['adjusted'].mean():.2f} and those of other classes by "
        f"{table['swapped'].mean():.2f}; {closest} of 10 are closest to their own class, where "
        "luck would give 2.5." in headline(run)
    )


def test_a_run_recorded_before_is_told_by_its_p_values(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(measured_from=99))
    table = run.table("overlap")
    table = table[(table["round"] == 4) & (table["layer"] == "all")]
    table = table[~((table["client"] == "2") & table["class"].isin([2, 3]))]
    text = headline(run)
    assert f"{(table['p_value'] < 0.05).sum()} of 10 overlap more than by chance (p < .05)" in text
    assert "other classes" not in text
    assert "false-discovery" not in text


def test_clients_with_the_same_fate_share_a_sentence(tmp_path: Path) -> None:
    # looked at in rounds 3 and 6 only, both clients had collapsed by the first look
    text = headline(make_run(tmp_path / "run", Story(rounds=7, every=3)))
    assert "Class </script> collapsed for clients 0 and 1 since round 3." in text
    assert "in round 6" in text
    assert "0.270 in round 7" in text


def test_without_a_valid_circuit_nothing_is_said_of_averaging(tmp_path: Path) -> None:
    text = headline(make_run(tmp_path / "run", Story(none_valid=True)))
    assert text.startswith(
        "In round 4 no client's circuit passed the checks (12 looked at: 0 undiscovered, 12 not "
        "learned by the client, 0 absent), so nothing can be said of averaging."
    )
    assert "preserved" not in text


def test_a_run_without_circuits_says_so_and_keeps_the_accuracy(tmp_path: Path) -> None:
    text = headline(make_run(tmp_path / "run", Story(circuits=False, failures=False)))
    assert text == (
        "Averaging cannot be judged: no circuits were looked for. "
        "Accuracy of the global model: 0.240 in round 4."
    )


def test_a_run_without_accuracy_says_so(tmp_path: Path) -> None:
    assert "Accuracy was not measured." in headline(
        make_run(tmp_path / "run", Story(accuracy=False))
    )


def test_federated_evaluation_stands_in_for_held_out_samples(tmp_path: Path) -> None:
    make_run(tmp_path / "run", Story(accuracy=False))
    with RunStore.open(tmp_path / "run") as store:
        store.add_evaluation(4, {"accuracy": 0.625})
    run = Run.load(tmp_path / "run")
    assert "Accuracy of the global model: 0.625 in round 4." in headline(run)
    assert list(tables.accuracy(run)["source"]) == ["clients' evaluation"]


def test_only_valid_circuits_of_two_clients_are_said_to_overlap(tmp_path: Path) -> None:
    status = {("0", 0): "valid", ("1", 0): "valid", ("0", 1): "valid", ("1", 1): "undiscovered"}
    validity = tuple((model, index, word) for (model, index), word in status.items())
    overlap = (
        ("0", "1", 0, "all", 0.5, 0.125),
        ("0", "1", 0, "conv", 0.75, 0.25),  # one layer of the same pair
        ("0", "1", 1, "all", 1.0, 0.25),  # one of the two did not pass
    )
    seen = Observation(
        {
            "validity": Table(("model", "class", "status"), validity),
            "client_overlap": Table(
                ("client_a", "client_b", "class", "layer", "iou", "chance"), overlap
            ),
        }
    )
    manifest = build_manifest("clients", None, seed=0, class_names=("a", "b"))
    weights = {"w": np.zeros(1, dtype=np.float32)}
    with RunStore.create(tmp_path / "run", manifest) as store:
        store.append(RoundRecord(0, weights))
        store.append(RoundRecord(1, weights, observations={"circuits": seen}))
    assert (
        "In round 1, 3 of 4 circuits that clients looked for on their own data passed their "
        "checks; valid circuits of the same class in two clients overlap by 0.50 (IoU) where "
        "chance gives 0.12 (1 pair)."
    ) in headline(Run.load(tmp_path / "run"))


def test_a_run_without_rounds_says_so(tmp_path: Path) -> None:
    manifest = build_manifest("empty", None, seed=0, class_names=("a",))
    with RunStore.create(tmp_path / "run", manifest) as store:
        store.append(RoundRecord(0, {"w": np.zeros(1, dtype=np.float32)}))
    assert headline(Run.load(tmp_path / "run")) == "No round is recorded yet."


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["collapsed", "preserved", "collapsed", "collapsed"], 3),
        (["collapsed", "collapsed", "collapsed", "collapsed"], 1),
        (["preserved", "preserved", "preserved", "collapsed"], 4),
        (["collapsed", None, "collapsed", "collapsed"], 3),  # no valid circuit breaks the sequence
    ],
)
def test_since_is_the_start_of_the_latest_unbroken_sequence(
    verdicts: list[str | None], expected: int
) -> None:
    mine = pd.DataFrame({"round": [1, 2, 3, 4], "client": "2", "class": 7, "verdict": verdicts})
    others = mine.assign(client="1", verdict="collapsed")
    other_class = mine.assign(**{"class": 3, "verdict": "collapsed"})
    table = pd.concat([others, mine.iloc[::-1], other_class])
    assert since_round(table, "2", 7) == expected


def test_a_valid_circuit_without_a_verdict_is_counted_as_such(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Open(Story):
        def word(self, client: int, index: int, number: int) -> str:
            return "valid" if index == 0 else "relocated" if index == 1 else "preserved"

    told = sentences(make_run(tmp_path / "run", Open()))
    assert told[0] == (
        "Averaging preserved 6 of 12 valid circuits in round 4; 3 relocated, 3 without a verdict."
    )


def test_without_a_probe_the_reason_is_told(tmp_path: Path) -> None:
    text = headline(make_run(tmp_path / "run", Story(probe=False)))
    assert text.startswith("Averaging cannot be judged: a verdict needs samples on the server.")


def test_many_clients_and_classes_are_counted_not_listed(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Ruin(Story):
        def word(self, client: int, index: int, number: int) -> str:
            return "collapsed"

    text = headline(make_run(tmp_path / "run", Ruin(clients=12, classes=5, rounds=1)))
    assert "class öde <b> collapsed for clients 0, 1, 2 and 9 more since round 1" in text
    assert "; 2 more on the page." in text
