from pathlib import Path

import pytest
from command_line import fedcircuit
from tiny_sweeps import ARMS, study_file

WORDS = [word for arm in ARMS for word in ("--arm", arm)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sweep of two arms and three seeds was run from the command line."""
    path = tmp_path_factory.mktemp("command")
    study_file(path)
    done = fedcircuit("sweep", "tiny.yaml", "--seeds", "0-2", *WORDS, "--out", "s", cwd=path)
    assert done.returncode == 0, done.stderr
    assert "0 of 6 runs are finished" in done.stdout
    assert "momentum, seed 2: round 3/3" in done.stdout
    assert "(6 of 6 runs)" in done.stdout
    assert done.stdout.splitlines()[-1] == "page: s/sweep.html"
    return path


def test_the_same_command_again_runs_nothing(folder: Path) -> None:
    again = fedcircuit("sweep", "tiny.yaml", "--seeds", "0-2", *WORDS, "--out", "s", cwd=folder)

    assert again.returncode == 0
    assert "6 of 6 runs are finished" in again.stdout
    assert "round" not in again.stdout.split("accuracy")[0]


def test_compare_takes_the_folder_of_a_sweep_and_still_runs(folder: Path) -> None:
    sweep = fedcircuit("compare", "s", cwd=folder)
    runs = fedcircuit("compare", "s/fedavg/seed0", "s/fedavg/seed1", cwd=folder)

    assert "minus fedavg" in sweep.stdout
    assert "BCa" in sweep.stdout
    assert sweep.stdout.splitlines()[-1] == "page: s/sweep.html"
    assert runs.stdout.splitlines()[-1] == "page: comparison.html"
    assert (folder / "comparison.html").exists()


def test_a_sweep_is_compared_alone(folder: Path) -> None:
    done = fedcircuit("compare", "s/fedavg/seed0", "s", cwd=folder)

    assert done.returncode == 1
    assert "s is the folder of a sweep, which is compared alone" in done.stderr


def test_what_is_wrong_is_said_before_anything_runs(folder: Path) -> None:
    start = ("sweep", "tiny.yaml", "--seeds")

    for words, said in (
        (("0-2", "--arm", "x=training.rund=3"), "did you mean 'training'"),
        (("0-2", "--arm", "a=", "--arm", "b=model.widths=[4]"), "--unpaired"),
        (("2-0", "--arm", "a="), "--seeds expects"),
    ):
        done = fedcircuit(*start, *words, "--out", "t", cwd=folder)
        assert done.returncode == 1
        assert said in done.stderr or "unknown key" in done.stderr
        assert not (folder / "t").exists()
