"""Flower's Ray simulation, made to say when it fails: by itself it ends with exit code 0."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from math import ceil
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy
from flwr.simulation import run_simulation

from fedcircuit.app.engines.engine import Engine, EngineError, Federation
from fedcircuit.flower import no_telemetry
from fedcircuit.strategies.nodes import GridView, NodeWait, wait_for_nodes
from fedcircuit.strategies.replies import readable

POLL_SECONDS = 0.05
CLIENT_CODES = (1, 2)  # Flower's error codes for what a ClientApp does wrong itself
NODES_SECONDS = 60.0  # for all nodes to be registered
GRACE_SECONDS = 1.0  # the server notices first that a client is late
TIMED_OUT = 124  # exit code of a worker that ran out of time
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
                        f"because the client's code ended the process: {_short(reply.error)}"
                    )
            if waiting and self._stopped.wait(POLL_SECONDS):
                raise EngineError("Ray's simulation stopped while clients were at work")
        return replies


class BoundedApp(ClientApp):
    """A ClientApp whose process ends where it hangs: Flower would wait for it for ever."""

    def __init__(self, app: ClientApp, seconds: float) -> None:
        super().__init__()
        self._app, self._seconds = app, seconds

    def __call__(self, message: Message, context: Context) -> Message:
        """Run the app, or end the worker's process when the time is up."""
        timer = threading.Timer(self._seconds, os._exit, (TIMED_OUT,))
        timer.daemon = True
        timer.start()
        try:
            return self._app(message, context)
        finally:
            timer.cancel()


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
        watched = WatchedGrid(grid, stopped)
        try:
            wait_for_nodes(watched, NodeWait(NODES_SECONDS, federation.n_clients))
            results.append(federation.start(strategy, watched))
        except Exception as error:  # run_simulation may report another one instead
            errors.append(error)
            raise
        finally:
            left.set()

    failed: Exception | None = None
    try:
        with no_telemetry(os.environ.get("FLWR_TELEMETRY_ENABLED", "0")):
            run_simulation(
                server_app=server,
                client_app=BoundedApp(federation.app, federation.timeout + GRACE_SECONDS),
                num_supernodes=federation.n_clients,
                backend_config=_backend(engine),
            )
    except Exception as error:  # noqa: BLE001  # whatever it is, _outcome raises it or its reason
        failed = error
    finally:  # after Ctrl-C, too: the server's thread would wait for ever, and keep the process
        stopped.set()
        left.wait(LEAVE_SECONDS)
    return _outcome(results, errors, failed)


def _outcome(results: list[Result], errors: list[Exception], failed: Exception | None) -> Result:
    """The result, or whatever came first: the strategy's own error, or the simulation's."""
    if results:
        return results[0]
    if errors and (failed is None or not isinstance(errors[0], EngineError)):
        raise errors[0]
    if failed is None:
        raise EngineError("Ray's simulation ended without a result")
    if errors and failed is errors[0]:
        raise failed
    reason: BaseException = failed
    while reason.__cause__ is not None:
        reason = reason.__cause__
    raise EngineError(f"Ray's simulation failed: {reason}") from failed


def _backend(engine: Engine) -> dict[str, Any]:
    resources = {"num_cpus": engine.cpus_per_client, "num_gpus": engine.gpus_per_client}
    ray: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if engine.workers is not None:
        ray["num_cpus"] = ceil(engine.workers * engine.cpus_per_client)
    return {"client_resources": resources, "init_args": ray}


def _short(error: Error) -> str:
    """The first line of what Ray says."""
    return readable(error.reason or "no reason given").splitlines()[0]
