"""Flower's Ray simulation, made to say when it fails: by itself it ends with exit code 0."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy
from flwr.simulation import run_simulation

from fedcircuit.app.engines import Engine, EngineError, Federation
from fedcircuit.strategies.grids import GridView

POLL_SECONDS = 0.05
CLIENT_CODES = (1, 2)  # Flower's error codes for what a ClientApp does wrong itself
LEAVE_SECONDS = 10.0  # for the server's thread to notice that the simulation is over


class WatchedGrid(GridView):
    """Flower's Grid, which stops waiting when the simulation is over or loses a worker."""

    def __init__(self, grid: Grid, stopped: threading.Event) -> None:
        super().__init__(grid)
        self._stopped = stopped

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Replies to messages, fewer where the time is up.

        Raises
        ------
        EngineError
            If the simulation has stopped, or a worker died: Flower does not replace it.
        """
        waiting = set(self.push_messages(messages))
        end = float("inf") if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and time.monotonic() < end:
            for reply in self.pull_messages(waiting):
                replies.append(reply)
                waiting.discard(reply.metadata.reply_to_message_id)
                if reply.has_error() and reply.error.code not in CLIENT_CODES:
                    raise EngineError(
                        "a Ray worker failed, perhaps for want of memory (use fewer workers) or "
                        f"because the client's code ended the process: {_short(reply.error.reason)}"
                    )
            if waiting and self._stopped.wait(POLL_SECONDS):
                raise EngineError("Ray's simulation stopped while clients were at work")
        return replies


def run_on_ray(engine: Engine, strategy: Strategy, federation: Federation) -> Result:
    """Run all rounds in Flower's simulation.

    Raises
    ------
    EngineError
        If the simulation fails or a worker dies.
    Exception
        Whatever the strategy raises.
    """
    results: list[Result] = []
    errors: list[Exception] = []
    stopped, left = threading.Event(), threading.Event()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            results.append(federation.start(strategy, WatchedGrid(grid, stopped)))
        except Exception as error:  # run_simulation may report another one instead
            errors.append(error)
            raise
        finally:
            left.set()

    try:
        with _no_telemetry():
            run_simulation(
                server_app=server,
                client_app=federation.app,
                num_supernodes=federation.n_clients,
                backend_config=_backend(engine),
            )
    except Exception as error:
        stopped.set()
        left.wait(LEAVE_SECONDS)
        own = [one for one in errors if not isinstance(one, EngineError)]
        if own:
            raise own[0] from None
        reason = error if error.__cause__ is None else error.__cause__.__cause__ or error.__cause__
        raise (
            errors[0]
            if errors and not error.__cause__
            else EngineError(f"Ray's simulation failed: {reason}")
        ) from error
    if not results:
        raise EngineError("Ray's simulation ended without a result")
    return results[0]


def _backend(engine: Engine) -> dict[str, Any]:
    resources = {"num_cpus": engine.cpus_per_client, "num_gpus": engine.gpus_per_client}
    ray: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if engine.workers is not None:
        ray["num_cpus"] = ceil(engine.workers * engine.cpus_per_client)
    return {"client_resources": resources, "init_args": ray}


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Flower reads its switch when it is imported, which is before we could set it."""
    from flwr.supercore import telemetry

    before = telemetry.FLWR_TELEMETRY_ENABLED
    telemetry.FLWR_TELEMETRY_ENABLED = os.environ.get("FLWR_TELEMETRY_ENABLED", "0")
    try:
        yield
    finally:
        telemetry.FLWR_TELEMETRY_ENABLED = before


def _short(reason: str | None) -> str:
    """The first line of a reason, which may hold a whole traceback."""
    return (reason or "unknown").strip().splitlines()[0]
