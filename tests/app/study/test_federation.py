from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run


def study(**changes: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "data": {"train_limit": 240, "test_limit": 200},
        "partition": {"kind": "classes", "classes": [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]},
        "model": {"name": "simple-cnn", "widths": [6, 8]},
        "training": {
            "rounds": 3,
            "epochs": 2,
            "batch_size": 20,
            "optimizer": "adam",
            "lr": 0.01,
            "sparsity": {"target": 0.5, "min_alive": 1},
        },
        "circuits": {"probe_per_class": 8, "controls": 2},
        **changes,
    }


def same_rounds(first: Run, second: Run, rounds: tuple[int, ...]) -> None:
    """Weights bit for bit, and every table."""
    for number in rounds:
        ours, theirs = first.weights(number), second.weights(number)
        assert list(ours) == list(theirs)
        assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    for name in ("validity", "overlap", "verdicts", "accuracy", "function"):
        ours, theirs = first.table(name), second.table(name)
        chosen = ours["round"].isin(rounds)
        assert (
            ours[chosen]
            .reset_index(drop=True)
            .equals(theirs[theirs["round"].isin(rounds)].reset_index(drop=True))
        )


def test_a_run_records_every_round_and_all_there_is_to_know(tmp_path: Path) -> None:
    seen = []

    run_study(parse_study(study()), tmp_path / "run", on_round=lambda r: seen.append(r.round))

    run = Run.load(tmp_path / "run")
    assert run.rounds == (1, 2, 3)
    assert [number for number in seen if number] == [1, 2, 3]
    assert {"accuracy", "validity", "overlap", "verdicts", "function", "sites"} <= set(
        run.table_names
    )
    assert len(run.observer_errors) == 0
    assert run.manifest["config"]["training"]["rounds"] == 3
    assert run.partition is not None
    assert np.array(run.partition["counts"]).sum() > 240  # shared classes are given to both
    clients = run.table("validity")
    assert set(clients["model"].astype(str)) == {"global", "0", "1", "2"}
    assert run.client_weights(2, "1")["0.weight"].shape == (6, 1, 3, 3)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_study(parse_study(study(seed=seed)), tmp_path / name)

    first, again, other = (Run.load(tmp_path / name) for name in "abc")
    same_rounds(first, again, (1, 2, 3))
    assert first.weights(3)["0.weight"].tobytes() != other.weights(3)["0.weight"].tobytes()


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path, strategy: str) -> None:
    partial = {"name": strategy, "fraction_train": 0.7}
    whole = study(strategy=partial)
    run_study(parse_study(whole), tmp_path / "whole")
    run_study(parse_study(whole, ["training.rounds=1"]), tmp_path / "stopped")

    resume_run(tmp_path / "stopped", rounds=2)
    resume_run(tmp_path / "stopped", rounds=3)

    same_rounds(Run.load(tmp_path / "whole"), Run.load(tmp_path / "stopped"), (1, 2, 3))


def test_circuits_can_come_from_the_clients_own_data(tmp_path: Path) -> None:
    raw = study()
    raw["circuits"] = {**raw["circuits"], "discover_on": "clients"}

    run_study(parse_study(raw, ["training.rounds=1"]), tmp_path / "run")

    stack = Run.load(tmp_path / "run").masks(1)
    assert stack is not None
    assert stack.found[0].any()
    held = stack.found[stack.models.index("0")]
    assert not held[4:].any()  # client 0 holds digits 0 to 3 and can find no others


def test_a_run_that_is_there_is_never_touched(tmp_path: Path) -> None:
    config = parse_study(study(), ["training.rounds=1"])
    run_study(config, tmp_path / "run")
    before = (tmp_path / "run" / "rounds.jsonl").read_bytes()

    with pytest.raises(RunError, match="exists"):
        run_study(config, tmp_path / "run")
    with pytest.raises(RunError, match="has all 1 rounds"):
        resume_run(tmp_path / "run")

    assert (tmp_path / "run" / "rounds.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["circuits.probe_per_class=20"], "has 20 test samples; some must be left"),
        (["partition.classes=[[0, 11]]"], "client 0 of the class map has class 11"),
        (["data.train_limit=5"], "leaves class"),
        (["strategy.options.nonsense=1"], "strategy.options: .*nonsense"),
        (["circuits.options.nonsense=1"], "has no option 'nonsense'"),
        (["model.widths=[4, 4, 4, 4]"], "4 poolings need images of at least 16"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        run_study(parse_study(study(), overrides), tmp_path / "run")

    assert not (tmp_path / "run" / "rounds.jsonl").exists()
