from pathlib import Path

import pandas as pd
import pytest
from command_line import fedcircuit
from made_up_mending import STUDY

from fedcircuit.app.config.files import parse_study
from fedcircuit.app.study.federation import run_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of two rounds lies."""
    path = tmp_path_factory.mktemp("command")
    run_study(parse_study(STUDY), path / "run")
    return path


def test_a_round_is_named_and_the_table_is_written(folder: Path) -> None:
    done = fedcircuit(
        "what-if", "run", "--round", "1", "--rules", "ties,scaffold", "--csv", "t.csv", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "table: t.csv"
    table = pd.read_csv(folder / "t.csv")
    assert list(table["round"].unique()) == [1]
    assert list(table["rule"]) == ["as recorded", "fedavg", "ties", "scaffold"]
    assert table["3"].notna().tolist() == [True, True, True, False]
    assert (
        table.loc[0, ["preserved", "relocated", "degraded", "collapsed", "undecided"]].notna().all()
    )


def test_one_line_is_said_when_it_is_to_be_quiet(folder: Path) -> None:
    words = ("--every", "2", "--no-verdicts", "--rules", "ties", "--by-class", "--quiet")
    done = fedcircuit("what-if", "run", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("best worst-class recall: ")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--round", "3"), "has no round 3; its rounds are 1 to 2"),
        (("run", "--last", "--every", "2"), "name rounds in one way, got --last and --every"),
        (("run", "--rules", "ccrv"), "did you mean 'ccvr'"),
        (("nothing",), "nothing is not a run folder"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_1(
    folder: Path, words: tuple[str, ...], said: str
) -> None:
    done = fedcircuit("what-if", *words, cwd=folder)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
