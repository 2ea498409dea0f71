import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from tiny_sweeps import SEEDS, tiny_sweep

from fedcircuit.app.config import parse_study
from fedcircuit.app.study import run_study
from fedcircuit.app.sweeps import Event, SweepError, run_sweep
from fedcircuit.app.sweeps.one_run import Task, make_run, patiently
from fedcircuit.records.files import LockedError, RunError, lock
from fedcircuit.records.runs import Run, RunStore
from fedcircuit.records.sweeps import Sweep, read_sweep
from fedcircuit.report.sweeps import compared


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two arms with three seeds, undisturbed."""
    return run_sweep(tiny_sweep(tmp_path_factory.mktemp("whole")))


def copied(sweep: Sweep, folder: Path) -> Sweep:
    shutil.copytree(sweep.path, folder / "sweep")
    return read_sweep(folder / "sweep")


def bits(run: Run) -> list[bytes]:
    return [
        values.tobytes() for number in (0, *run.rounds) for values in run.weights(number).values()
    ]


def cut_to(path: Path, rounds: int) -> None:
    """The run as if it had been killed after a round."""
    fresh = path.with_name("fresh")
    config = parse_study({**Run.load(path).manifest["config"]})

    class Stop(BaseException):
        pass

    def stop(record: object) -> None:
        if getattr(record, "round", 0) == rounds:
            raise Stop

    with pytest.raises(Stop):
        run_study(config, fresh, on_round=stop)
    shutil.rmtree(path)
    fresh.rename(path)


def no_seconds(sweep: Sweep) -> list[str]:
    found = compared(sweep)
    return [
        found.runs.drop(columns="seconds").to_csv(),
        found.arms.query("figure != 'seconds'").to_csv(),
        found.differences.query("figure != 'seconds'").to_csv(),
    ]


def test_every_arm_runs_with_every_seed(whole: Sweep) -> None:
    assert read_sweep(whole.path) == whole
    for arm, seed in whole.tasks:
        run = Run.load(whole.path / arm / f"seed{seed}")
        assert run.rounds == (1, 2, 3)
        assert run.manifest["seed"] == seed
        assert run.manifest["config"]["training"]["momentum"] == (0.9 if arm == "momentum" else 0)


def test_runs_of_one_seed_share_partition_initial_weights_and_draws(whole: Sweep) -> None:
    shared = []
    for seed in SEEDS:
        one, other = (Run.load(whole.run_path(arm, seed)) for arm in whole.arms)
        assert one.partition == other.partition
        assert bits(one)[: len(one.weights(0))] == bits(other)[: len(one.weights(0))]
        draws = [one.clients_of(number) for number in one.rounds]
        assert draws == [other.clients_of(number) for number in other.rounds]
        assert all(len(clients) == 2 for clients in draws)  # half of four
        assert bits(one) != bits(other)  # the arms do differ
        shared.append((json.dumps(one.partition), bits(one)[0], tuple(draws)))
    assert len(set(shared)) == len(SEEDS)  # and seeds do


def test_an_arm_alone_gives_the_same_bits_as_fedcircuit_run(whole: Sweep, tmp_path: Path) -> None:
    config = parse_study({**whole.arms["momentum"], "seed": 1})

    run_study(config, tmp_path / "run")

    assert bits(Run.load(tmp_path / "run")) == bits(Run.load(whole.run_path("momentum", 1)))


def test_finished_runs_are_left_as_they_are(whole: Sweep, tmp_path: Path) -> None:
    sweep = copied(whole, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in sweep.path.glob("*/seed*/**/*")}
    events: list[Event] = []

    run_sweep(sweep, on_event=events.append)

    assert events == []
    assert {path: path.stat().st_mtime_ns for path in sweep.path.glob("*/seed*/**/*")} == before


def test_stopped_and_missing_runs_give_the_undisturbed_sweep(whole: Sweep, tmp_path: Path) -> None:
    sweep = copied(whole, tmp_path)
    cut_to(sweep.run_path("fedavg", 1), 1)
    before_its_partition = sweep.run_path("momentum", 2)
    manifest = dict(Run.load(before_its_partition).manifest)
    shutil.rmtree(before_its_partition)
    RunStore.create(before_its_partition, manifest).close()
    shutil.rmtree(sweep.run_path("momentum", 0))
    leftovers = sweep.run_path("momentum", 0)  # killed before its manifest
    (leftovers / "rounds").mkdir(parents=True)
    (leftovers / ".manifest.json.tmp").write_text("{")
    assert len(compared(sweep).unfinished) == 3
    there: list[int] = []
    events: list[Event] = []

    run_sweep(sweep, on_event=events.append, on_start=there.append)

    assert there == [3]
    rounds = [(e.arm, e.seed, e.round) for e in events if e.kind == "round"]
    assert rounds == [
        ("momentum", 0, 1), ("momentum", 0, 2), ("momentum", 0, 3),
        ("fedavg", 1, 2), ("fedavg", 1, 3),
        ("momentum", 2, 1), ("momentum", 2, 2), ("momentum", 2, 3),
    ]  # fmt: skip
    assert no_seconds(sweep) == no_seconds(whole)
    for arm, seed in sweep.tasks:
        assert bits(Run.load(sweep.run_path(arm, seed))) == bits(
            Run.load(whole.run_path(arm, seed))
        )


def test_a_run_whose_clients_would_have_forgotten_is_made_again(tmp_path: Path) -> None:
    kept = "kept=training.momentum=0.9,training.optimizer_state=kept"
    sweep = run_sweep(tiny_sweep(tmp_path, kept, seeds=(0,)))
    path = sweep.run_path("kept", 0)
    before = bits(Run.load(path))
    cut_to(path, 2)
    (path.with_name(".seed0.unfinished")).mkdir()  # of a kill in the midst of this
    events: list[Event] = []

    run_sweep(sweep, on_event=events.append)

    assert [e.round for e in events if e.kind == "round"] == [1, 2, 3]
    assert bits(Run.load(path)) == before
    assert [p.name for p in path.parent.iterdir()] == ["seed0"]


def test_a_run_that_fails_costs_no_other_and_is_named(whole: Sweep, tmp_path: Path) -> None:
    sweep = copied(whole, tmp_path)
    shutil.rmtree(sweep.run_path("fedavg", 2))
    shutil.rmtree(sweep.run_path("fedavg", 0))
    sweep.run_path("fedavg", 0).write_text("in the way")

    with pytest.raises(SweepError, match=r"(?s)1 of 6 runs.*fedavg, seed 0: RunError.*is a file"):
        run_sweep(sweep)

    assert sweep.finished("fedavg", 2) is not None


def test_a_run_of_other_settings_is_not_taken_for_ours(whole: Sweep, tmp_path: Path) -> None:
    sweep = copied(whole, tmp_path)
    shutil.rmtree(sweep.run_path("fedavg", 0))
    shutil.copytree(sweep.run_path("momentum", 0), sweep.run_path("fedavg", 0))

    with pytest.raises(RunError, match=r"is not the run of arm 'fedavg' and seed 0"):
        run_sweep(sweep)


def test_two_processes_do_not_run_one_sweep(whole: Sweep, tmp_path: Path) -> None:
    sweep = copied(whole, tmp_path)
    child = os.fork()
    if child == 0:
        lock.acquire(sweep.path)
        (tmp_path / "held").touch()
        time.sleep(60)
        os._exit(0)
    try:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with pytest.raises(RunError, match="is being written by another process"):
            run_sweep(sweep)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_run_waits_for_the_process_that_still_holds_it() -> None:
    tries: list[int] = []

    def held_twice() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RunError("held") from LockedError("process 1")

    patiently(held_twice)

    assert len(tries) == 3
    with pytest.raises(RunError, match="held"):
        patiently(lambda: tries.clear() or held_twice(), seconds=0.0)
    with pytest.raises(RunError, match="damaged"):  # nothing to wait for
        patiently(lambda: (_ for _ in ()).throw(RunError("damaged")))


def test_jobs_below_one_are_refused(whole: Sweep) -> None:
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        run_sweep(whole, jobs=0)


@pytest.mark.slow
def test_processes_give_the_same_bits_and_one_that_dies_costs_its_run_alone(
    whole: Sweep, tmp_path: Path
) -> None:
    sweep = tiny_sweep(tmp_path)
    killed = threading.Event()

    def kill_the_first(event: Event) -> None:
        if event.kind == "round" and not killed.is_set():
            holder = (sweep.run_path(event.arm, event.seed) / ".lock").read_text()
            os.kill(int(holder.split()[1]), signal.SIGKILL)
            killed.set()

    with pytest.raises(SweepError, match=r"1 of 6 runs.*(?s:.*)its process ended by signal 9"):
        run_sweep(sweep, jobs=2, on_event=kill_the_first)
    assert len(compared(sweep).unfinished) == 1
    run_sweep(sweep, jobs=2)

    assert no_seconds(sweep) == no_seconds(whole)


def test_a_task_that_is_done_already_says_so(whole: Sweep) -> None:
    events: list[Event] = []

    task = Task("fedavg", 0, whole.run_path("fedavg", 0), dict(whole.arms["fedavg"]))
    make_run(task, events.append)

    assert events == [Event("done", "fedavg", 0, 3)]
    RunStore.open(task.path).close()  # and the run is free
