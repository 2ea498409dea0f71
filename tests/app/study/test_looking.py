"""A later look: the recorded result again, or another one, beside a run that stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.app.study.looking import look
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.looks import Look
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.verification import verify_run
from fedcircuit.report.page.compare import comparison
from fedcircuit.report.page.page import write_report
from fedcircuit.report.tables.verdict_text import headline

STUDY: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"train_limit": 160, "test_limit": 150},
    "partition": {"kind": "classes", "classes": [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]]},
    "model": {"name": "mlp", "widths": [12, 8]},
    "training": {"rounds": 3, "epochs": 2, "optimizer": "adam", "lr": 0.01, "batch_size": 32},
    "circuits": {"probe_per_class": 8, "controls": 2, "ceiling": True},
    "inertia": {"snapshot": 2},
    "storage": {"scores": True},
}


def made(path: Path, **changes: dict[str, Any]) -> Run:
    study = {**STUDY, **{key: {**STUDY.get(key, {}), **more} for key, more in changes.items()}}
    return Run.load(run_study(parse_study(study), path))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test may change; copies are for those that look at it."""
    return made(tmp_path_factory.mktemp("look") / "run").path


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Run:
    return Run.load(shutil.copytree(recorded, tmp_path / "run"))


def files_of(path: Path) -> dict[str, bytes]:
    """All files of a run but its looks."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and "looks" not in file.relative_to(path).parts
    }


def seen_in(run: Run, number: int) -> tuple[dict[str, Any], dict[str, tuple[Any, bytes]]]:
    """Tables of a round as they stand on the disk, but for seconds, and bits of all arrays."""
    line = json.loads((run.path / "rounds.jsonl").read_bytes().splitlines()[number])
    tables = line["observations"]
    tables.get("circuits", {}).pop("seconds", None)
    arrays = {
        f"{observer}/{name}": (values.dtype.str, values.tobytes())
        for observer in tables
        for name, values in run.observed(number, observer).items()
    }
    return {"tables": tables, "errors": line["observer_errors"]}, arrays


def assert_the_same(look: Run, run: Run, rounds: tuple[int, ...]) -> None:
    for number in rounds:
        assert seen_in(look, number) == seen_in(run, number), f"round {number}"


def test_a_look_with_the_same_settings_is_what_was_recorded_bit_for_bit(run: Run) -> None:
    before = files_of(run.path)

    again = look(run)

    assert again.path == run.path / "looks" / "look-1"
    assert again.looked_at == run.rounds == (1, 2, 3)
    assert set(run.table_names) >= {"verdicts", "inertia", "ceiling", "accuracy"}
    assert {f"{name}" for name in seen_in(run, 3)[1]} >= {"circuits/masks", "circuits/scores"}
    assert_the_same(again, run, run.rounds)
    assert files_of(run.path) == before
    assert verify_run(run.path) == ()


def test_a_look_at_some_rounds_is_the_same_in_those_and_empty_in_others(run: Run) -> None:
    some = look(run, rounds=(3,))

    assert some.looked_at == (3,)
    assert_the_same(some, run, (3,))  # inertia takes its snapshot from a round before
    assert set(some.table("verdicts")["round"]) == {3}
    assert set(some.table("accuracy")["round"]) == {1, 2, 3}  # copied: nothing to look at anew
    assert some.clients.equals(run.clients)
    assert "rounds 3" in headline(some)


@pytest.mark.parametrize(
    "changes",
    [
        {"circuits": {"discover_on": "clients", "ceiling": False}},
        {"circuits": {"stability": True, "max_clients": 1, "every": 2, "minimality": True},
         "training": {"rounds": 2}},
        {"model": {"name": "simple-cnn", "widths": [4, 6, 8]}, "training": {"rounds": 1},
         "information": {"enabled": True, "pool": 40, "permutations": 0}},
        {"strategy": {"name": "fedadam"}, "training": {"rounds": 2},
         "circuits": {"method": "gates", "ceiling": False}},
        {"strategy": {"lips": {"period": 2, "d0": 0.5}}, "training": {"rounds": 4}},
    ],
)  # fmt: skip
def test_whatever_the_study_the_same_settings_see_the_same(
    tmp_path: Path, changes: dict[str, dict[str, Any]]
) -> None:
    run = made(tmp_path / "run", **changes)
    assert_the_same(look(run), run, run.rounds)


def test_other_settings_see_something_else_beside_the_run(run: Run) -> None:
    before = files_of(run.path)

    gates = look(run, ["circuits.method=gates", "inertia.enabled=false"], name="gates")

    assert run.looks == ("gates",)
    assert gates.settings == {"circuits.method": "gates", "inertia.enabled": False}
    assert gates.manifest["config"]["circuits"]["method"] == "gates"
    assert gates.table("validity")["size"].tolist() != run.table("validity")["size"].tolist()
    assert "inertia" not in gates.table_names
    assert gates.table("accuracy").equals(run.table("accuracy"))
    assert files_of(run.path) == before


def test_a_look_reads_like_a_run_and_leaves_the_weights_where_they_are(run: Run) -> None:
    look(run, ["circuits.controls=3"], name="more")
    again = run.look("more")

    assert isinstance(again, Look)
    assert isinstance(Run.load(run.path / "looks" / "more").refresh(), Look)
    assert again.run.path.resolve() == run.path.resolve()
    name = next(iter(run.weights(3)))
    assert np.array_equal(again.weights(3)[name], run.weights(3)[name])
    assert np.array_equal(again.client_weights(2, "1")[name], run.client_weights(2, "1")[name])
    assert np.array_equal(again.start_of(2, "1")[name], run.weights(1)[name])
    assert again.partition == run.partition
    assert np.array_equal(again.record(2).weights[name], run.weights(2)[name])
    assert again.record(2).observations["circuits"].arrays["masks"].shape[0] == 3
    names = {row["study"] for row in comparison([run, again]).to_dict("records")}
    assert names == {"small", "small, look more"}
    circuits = again.masks(3)
    assert circuits is not None
    assert circuits.models == ("global", "0", "1")
    assert sum(f.stat().st_size for f in again.path.rglob("*.safetensors")) < sum(
        f.stat().st_size for f in (run.path / "rounds").iterdir()
    )
    with pytest.raises(RunError, match="no look 'mre'; did you mean more\\?"):
        run.look("mre")


def test_the_report_of_either_names_the_other(run: Run) -> None:
    again = look(run, ["circuits.method=magnitude"], name="by-magnitude")
    write_report(again)
    page = write_report(run).read_text("utf-8")
    other = write_report(again).read_text("utf-8")

    assert 'href="looks/by-magnitude/report.html"' in page
    assert 'href="../../report.html"' in other
    assert "with circuits.method magnitude; accuracy is as recorded" in other
    assert "later look" not in page


def test_a_look_goes_on_as_its_run_does(run: Run) -> None:
    first = look(run, ["circuits.controls=3"])
    done = (first.path / "rounds.jsonl").read_bytes()
    resume_run(run.path, rounds=4)

    second = look(Run.load(run.path), ["circuits.controls=3"])

    assert second.path == first.path
    assert second.rounds == (1, 2, 3, 4)
    assert (second.path / "rounds.jsonl").read_bytes().startswith(done)


def test_a_second_look_with_other_settings_is_another_one(run: Run) -> None:
    first = look(run, ["circuits.controls=3"], rounds=(1,))
    second = look(run, ["circuits.controls=4"], rounds=(1,))
    assert [first.path.name, second.path.name] == ["look-1", "look-2"]


@pytest.mark.parametrize(
    ("overrides", "rounds"), [(["circuits.controls=4"], (1,)), (["circuits.controls=3"], (1, 2))]
)
def test_a_name_stands_for_one_look(
    run: Run, overrides: list[str], rounds: tuple[int, ...]
) -> None:
    look(run, ["circuits.controls=3"], name="mine", rounds=(1,))
    before = files_of(run.path / "looks" / "mine")

    with pytest.raises(RunError, match="never overwritten, give this one another name"):
        look(run, overrides, name="mine", rounds=rounds)

    assert files_of(run.path / "looks" / "mine") == before


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.rounds=9", "training.rounds"),
        ("training.sparsity={target: 0.5}", "training.sparsity"),
        ("model.widths=[3]", "model.widths"),
        ("partition={kind: iid, clients: 3}", "partition.kind"),
        ("seed=4", "seed"),
        ("data.test_limit=140", "data.test_limit"),
        ("strategy.name=fedadam", "strategy.name"),
        ("storage.updates=none", "storage.updates"),
        ("circuits.discover_on=clients", "circuits.discover_on"),
    ],
)
def test_what_would_need_training_anew_is_refused_by_name(
    run: Run, override: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{key}.* would need training anew"):
        look(run, [override])
    assert run.looks == ()


def test_what_cannot_be_looked_at_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has rounds 1 to 3; name some of them, got 4, 7"):
        look(run, rounds=(2, 4, 7))
    with pytest.raises(ValueError, match="name of a look"):
        look(run, name="../elsewhere")
    with pytest.raises(ConfigError, match="did you mean 'method'"):
        look(run, ["circuits.metod=gates"])
    with pytest.raises(ValueError, match="give the model as well"):
        look(run, probe=(torch.zeros(4, 1), torch.zeros(4)))
    done = look(run, rounds=(1,))
    with pytest.raises(RunError, match="is a look itself"):
        look(done)
    with pytest.raises(RunError, match=r"later look at a run.*fedcircuit resume .*run'"):
        resume_run(done.path, rounds=9)


def test_a_look_stays_with_its_run_and_damage_to_it_is_found(run: Run, tmp_path: Path) -> None:
    look(run, name="mine", rounds=(1,))
    other = Run.load(run_study(parse_study({**STUDY, "seed": 8}), tmp_path / "other"))
    shutil.copytree(run.path / "looks", other.path / "looks")

    with pytest.raises(RunError, match="is a look at another run"):
        other.look("mine")
    assert any("another run" in found.words for found in verify_run(other.path))
    with (run.path / "looks/mine/rounds/0001.safetensors").open("ab") as file:
        file.write(b"x")
    (damage,) = verify_run(run.path)
    assert damage.damage
    assert "looks/mine/rounds/0001.safetensors (round 1) is damaged" in damage.words


def test_without_clients_weights_the_global_model_alone_is_looked_at(tmp_path: Path) -> None:
    run = made(tmp_path / "run", storage={"updates": "none", "scores": False})

    again = look(run)

    assert set(again.table("validity")["model"]) == {"global"}
    expected = run.table("validity")
    expected = expected[expected["model"] == "global"].reset_index(drop=True)
    assert again.table("validity").equals(expected)
    reasons = again.table("unavailable")
    assert set(reasons["part"]) == {"circuits of clients", "function", "overlap", "verdicts"}
    assert all("storage.updates is none" in reason for reason in reasons["reason"])
    assert again.observer_errors.empty


def test_half_precision_is_said_and_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = made(tmp_path / "run", storage={"updates": "delta-fp16"})
    again = look(run, rounds=(2,))
    assert "differences in half precision" in caplog.text
    assert set(again.table("verdicts")["client"]) == {"0", "1"}
