"""Submitting a run, following it to its end, and saying truly how it ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from commands import asked, flwr
from layout import CONNECTION, Deployment, DeploymentError
from supervisor import say

APP = Path(__file__).parent
POLL_SECONDS = 3.0
SELDOM_SECONDS = 20.0  # between two questions while the log goes on: each is a process of its own
NOTHING = "there is nothing to go on with"  # of deployed_app.server_app
PATIENCE = 180.0  # seconds without an answer of the SuperLink; it may be starting again
LOG_SECONDS = 3.0  # for the last lines of the log


def run(deployment: Deployment, config: Mapping[str, str], attempts: int) -> bool:
    """Run the app to its end; a run that fails is resumed, ``attempts`` times in all.

    Returns
    -------
    bool
        Whether it completed. Where it did not, one line says why.
    """
    begun = False
    for attempt in range(1, attempts + 1):
        reason = _once(deployment, {**config, **({"resume": "true"} if begun else {})})
        if reason is None:
            return True
        begun = NOTHING not in reason  # a ServerApp that ended before it made the folder
        if attempt < attempts:
            say(f"attempt {attempt} of {attempts} failed: {reason}; resuming")
    say(f"error: {reason}")
    return False


def _once(deployment: Deployment, config: Mapping[str, str]) -> str | None:
    """One submission; None where the run completed, else why it did not."""
    try:
        run_id = _submit(deployment, config)
    except DeploymentError as error:
        return str(error)
    say(f"run {run_id} is submitted")
    log = flwr(deployment, "log", run_id, CONNECTION)
    try:
        return _ended(deployment, run_id, log)
    except KeyboardInterrupt:
        asked(deployment, "stop", run_id, CONNECTION)
        raise
    finally:
        _finish(log)


def _submit(deployment: Deployment, config: Mapping[str, str]) -> str:
    """Hand the run in, as soon as the SuperLink takes it."""
    given = " ".join(f"{key}={value}" for key, value in config.items())
    end = time.monotonic() + PATIENCE
    while True:
        try:
            answer = asked(
                deployment, "run", str(APP), CONNECTION, *(["-c", given] if given else [])
            )
            return str(answer["run-id"])
        except DeploymentError as error:
            unreachable = "onnect" in str(error) or "unavailable" in str(error).lower()
            if not unreachable or time.monotonic() > end:
                raise
        time.sleep(POLL_SECONDS)


def _ended(deployment: Deployment, run_id: str, log: subprocess.Popen[bytes]) -> str | None:
    """Wait for the end of a run, which ends its log too; None where it completed, else why not."""
    last_answer = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            log.wait(SELDOM_SECONDS)
        try:
            (state,) = asked(deployment, "list", "--run-id", run_id, CONNECTION)["runs"]
            last_answer = time.monotonic()
        except DeploymentError as error:
            if time.monotonic() - last_answer > PATIENCE:
                return str(error)
            state = {"status": "unknown"}
        status = str(state["status"])
        if status == "finished:completed":
            return None
        if status.startswith("finished"):
            details = str(state.get("status-details") or "")
            return details.removeprefix("ServerApp failed with exception: ") or status
        if log.poll() is not None:
            time.sleep(POLL_SECONDS)


def _finish(log: subprocess.Popen[bytes]) -> None:
    """Give the log's last lines time to come, then stop following it."""
    try:
        log.wait(LOG_SECONDS)
    except subprocess.TimeoutExpired:
        log.terminate()
        log.wait()
