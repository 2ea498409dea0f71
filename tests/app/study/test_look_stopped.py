"""Looks that are killed, or whose observers fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from test_looking import assert_the_same, files_of, made

from fedcircuit.app.study.looking import look
from fedcircuit.observers.looking import Asked, look_again
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.verification import verify_run


def killed_at_replace(number: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed at its n-th rename; whether it was."""
    child = os.fork()
    if child == 0:  # pragma: no cover  # it never returns
        left, replace = [number], os.replace

        def counted(*paths: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*paths)

        os.replace = counted  # type: ignore[assignment]
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_look_that_is_killed_at_any_write_goes_on_to_the_same_end(tmp_path: Path) -> None:
    run = made(tmp_path / "run")

    def work() -> object:
        return look(Run.load(run.path), ["inertia.snapshot=1", "circuits.every=3"], name="killed")

    before = files_of(run.path)
    kills = 0
    while killed_at_replace(2 + kills % 3, work):  # each starts where the one before was killed
        kills += 1
        assert kills < 40
    interrupted = look(run, ["inertia.snapshot=1", "circuits.every=3"], name="killed")
    whole = look(run, ["inertia.snapshot=1", "circuits.every=3"], name="whole")

    assert kills > 2
    assert_the_same(interrupted, whole, whole.rounds)
    assert files_of(run.path) == before
    assert not [finding for finding in verify_run(run.path) if finding.damage]


def test_an_observer_that_fails_in_a_look_is_recorded_and_the_look_goes_on(tmp_path: Path) -> None:
    run = made(tmp_path / "run")

    class Broken:
        name = "circuits"

        def __call__(self, view: object) -> Any:
            raise OSError("nothing works today")

    again = look_again(run, Asked([Broken()], {"x": 1}))
    assert again.observer_errors["error"].tolist() == ["OSError: nothing works today"] * 3
    assert "verdicts" not in again.table_names
