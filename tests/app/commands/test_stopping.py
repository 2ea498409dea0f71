"""Ctrl-C and SIGTERM in real processes: one line that says how to go on, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import fedcircuit

from fedcircuit.app.commands.stopping import how_to_go_on
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.verification import verify_run

STUDY = """
name: stopped
partition: {kind: iid, clients: 2}
model: {name: mlp, widths: [16]}
training: {rounds: 400, epochs: 1}
circuits: {enabled: false}
"""


def started(tmp_path: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fedcircuit", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def until(there: Path, n_lines: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if there.exists() and there.read_bytes().count(b"\n") >= n_lines:
            return
        time.sleep(0.02)
    raise AssertionError(f"{there} did not come: {process.communicate(timeout=5)}")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on_and_goes_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(STUDY)
    run = tmp_path / "run"
    process = started(tmp_path, "run", "s.yaml", "--out", str(run))
    until(run / "rounds.jsonl", 3, process)

    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode == code
    assert "Traceback" not in said
    done = max(Run.load(run).rounds)
    line = f"stopped after round {done}, which is recorded; go on with 'fedcircuit resume {run}'"
    assert said.strip().splitlines()[-1] == line
    assert all(not finding.damage for finding in verify_run(run))
    on = fedcircuit("resume", run, "--rounds", str(done + 1), cwd=tmp_path)
    assert on.returncode == 0, on.stderr
    whole, rounds = tmp_path / "whole", f"training.rounds={done + 1}"
    fedcircuit("run", "s.yaml", "--set", rounds, "--out", whole, cwd=tmp_path)
    a, b = Run.load(run).weights(done + 1), Run.load(whole).weights(done + 1)
    assert all(np.array_equal(a[name], b[name]) for name in b)


@pytest.mark.slow
def test_a_run_on_ray_is_stopped_too_and_its_process_ends(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"{STUDY}engine: {{name: ray}}\n")
    run = tmp_path / "run"
    process = started(tmp_path, "run", "s.yaml", "--out", str(run))
    until(run / "rounds.jsonl", 2, process)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)  # a thread that goes on would keep it for ever

    assert process.returncode == 130
    assert "Traceback" not in said
    done = max(Run.load(run).rounds)
    line = f"stopped after round {done}, which is recorded; go on with 'fedcircuit resume {run}'"
    assert said.strip().splitlines()[-1] == line


def test_what_to_do_depends_on_how_far_it_came(tmp_path: Path) -> None:
    assert how_to_go_on(tmp_path / "none", 3) == "stopped before anything was recorded"
    (tmp_path / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in how_to_go_on(tmp_path, 3)
