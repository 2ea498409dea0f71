"""What is asked of a what-if, what it refuses, and what a terminal shows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from made_up_mending import STUDY, own_run

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.mending.known import Given, known_of
from fedcircuit.app.mending.telling import Rounds, asked_for, tell
from fedcircuit.app.mending.what_if import what_if
from fedcircuit.app.study.federation import run_study
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("telling") / "run"
    study = {**STUDY, "training": {"rounds": 4, "epochs": 1}}
    run_study(parse_study(study), folder)
    return Run.load(folder)


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    last = say


@pytest.mark.parametrize(
    ("asked", "rounds"),
    [
        (Rounds(), None),
        (Rounds(last=True), None),
        (Rounds(one=3), [3]),
        (Rounds(some="1, 4"), [1, 4]),
        (Rounds(every=2), [2, 4]),
        (Rounds(every=3), [3]),
    ],
)
def test_rounds_are_named_in_four_ways(run: Run, asked: Rounds, rounds: list[int] | None) -> None:
    assert asked.of(run) == rounds
    found = asked_for(run.path, "class-count-head", asked, verdicts=False)
    assert sorted({row.round for row in found.rows}) == (rounds or [4])


@pytest.mark.parametrize(
    ("rules", "rounds", "words"),
    [
        ("ccrv", Rounds(), "unknown rule 'ccrv'; did you mean 'ccvr'"),
        (" , ", Rounds(), "--rules expects some of class-count-head"),
        (None, Rounds(some="x"), "--rounds expects numbers such as 1,4,8, got 'x'"),
        (None, Rounds(some="7"), "has no round 7; its rounds are 1 to 4"),
        (None, Rounds(one=0), "has no round 0; its rounds are 1 to 4"),
        (None, Rounds(one=-1), "has no round -1; its rounds are 1 to 4"),
        (None, Rounds(every=0), "--every expects a number >= 1, got 0"),
        (None, Rounds(every=5), "has rounds 1 to 4, none that 5 divides"),
        (None, Rounds(one=1, last=True), "name rounds in one way, got --round and --last"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(
    run: Run, rules: str | None, rounds: Rounds, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        asked_for(run.path, rules, rounds)


def test_the_terminal_shows_the_best_first_and_what_was_not_used_last(
    run: Run, tmp_path: Path
) -> None:
    found, said = asked_for(run.path, "ties,scaffold,ccvr"), Said()
    tell(found, said, tmp_path / "table.csv", by_class=True)
    assert said.lines[0].startswith("round 4")
    worst = [float(line.split()[2]) for line in said.lines[1:5] if "recorded " not in line[:14]]
    assert worst == sorted(worst, reverse=True)
    assert said.lines[5].startswith("  scaffold               not used: needs changes of control")
    assert "accuracy by chance: 0.100" in said.lines[6]
    assert f"measured on {found.n_test} of {found.of_test} test samples" in said.lines[6]
    assert said.lines[7].startswith("verdicts: valid circuits of the clients")
    table = pd.read_csv(tmp_path / "table.csv").set_index("rule")
    assert len(table) == 5
    assert {"preserved", "undecided", "same as", "lacks", *"0123456789"} <= set(table.columns)
    ccvr = next(row for row in found.rows if row.rule == "ccvr")
    told = next(line for line in said.lines if line.startswith("  ccvr")).split()
    assert [f"{value:.2f}" for value in ccvr.recall] == told[4 + 5 : 4 + 5 + 10]
    assert told[4 : 4 + 5] == [str(ccvr.verdicts[k]) for k in ccvr.verdicts]
    assert table.loc["ccvr", "7"] == pytest.approx(ccvr.recall[7])


def test_rounds_without_circuits_say_why_there_are_no_verdicts(tmp_path: Path) -> None:
    study = {**STUDY, "training": {"rounds": 1}, "circuits": {"enabled": False}}
    run_study(parse_study(study), tmp_path / "run")
    found, said = asked_for(tmp_path / "run", "ties"), Said()
    tell(found, said)
    assert any(
        "no verdicts in round 1: the record holds no circuits" in line for line in said.lines
    )
    assert not any("pres" in line for line in said.lines)
    rows = what_if(tmp_path / "run", ["conflict-projection"]).rows
    assert "circuits of every client: circuits.enabled" in rows[2].lacks


def test_no_rule_at_all_that_can_be_used_is_said_too(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run")
    found, said = what_if(folder, ["scaffold"], model=model, probe=probe), Said()
    tell(found, said)
    assert said.lines[-1].startswith("best worst-class recall: 1.000 by fedavg")


def test_few_samples_have_the_classes_in_the_shares_of_all(run: Run) -> None:
    few = known_of(run, Given(), 50, verdicts=False)
    every = known_of(run, Given(), None, verdicts=False)
    assert len(few.test) == 50
    assert few.n_test == len(every.test)
    for c in range(10):
        share = float((every.test.labels == c).double().mean())
        assert abs(int((few.test.labels == c).sum()) - 50 * share) <= 1
    with pytest.raises(ValueError, match="samples must be >= 1, or None for all, got 0"):
        known_of(run, Given(), 0, verdicts=False)
    assert asked_for(run.path, "ties", samples=0, verdicts=False).n_test == len(every.test)


def test_what_does_not_fit_a_program_s_run_is_refused(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run")
    with pytest.raises(ValueError, match="the model does not fit the weights of"):
        what_if(folder, model=model[2], probe=probe)
    with pytest.raises(ValueError, match="give test samples, or a probe"):
        what_if(folder, model=model)
    with pytest.raises(ValueError, match="give the model as well"):
        what_if(folder, probe=probe)
    other = Probe(probe.discovery, probe.checking, ("a", "b", "c"))
    with pytest.raises(ValueError, match="has 2 classes, the probe has 3"):
        what_if(folder, model=model, probe=other)
    with pytest.raises(ValueError, match="name some rounds of 1 to 1, got none"):
        what_if(folder, model=model, probe=probe, rounds=[])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"weights": False}, "keeps no client weights of round 1 .2 of 2 clients.: record with"),
        ({"clients": 0}, "no client took part in round 1: nothing to aggregate"),
        ({"examples": 0}, "the clients of round 1 count no samples to weigh by"),
    ],
)
def test_rounds_without_updates_are_refused_in_words(
    tmp_path: Path, changed: dict[str, bool], words: str
) -> None:
    folder, model, probe = own_run(tmp_path / "run", **changed)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=words):
        what_if(folder, model=model, probe=probe)


def test_a_damaged_round_is_said_with_its_file(tmp_path: Path) -> None:
    folder, model, probe = own_run(tmp_path / "run")
    file = folder / "rounds" / "0001.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-3] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(RunError, match=r"0001\.safetensors"):
        what_if(folder, model=model, probe=probe)


def test_a_run_that_has_no_round_yet_is_refused(tmp_path: Path) -> None:
    from fedcircuit.records.rounds.manifest import build_manifest
    from fedcircuit.records.runs.store import RunStore

    with RunStore.create(tmp_path / "run", build_manifest("none", seed=0, class_names=("a",))):
        pass
    with pytest.raises(RunError, match="has no round yet to aggregate again"):
        what_if(tmp_path / "run")
    with pytest.raises(ConfigError, match="has no round, none that 2 divides"):
        asked_for(tmp_path / "run", None, Rounds(every=2))
