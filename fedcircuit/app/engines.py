"""What runs the clients: this process, or Flower's Ray simulation, behind one option."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from fedcircuit.app.grid import InProcessGrid
from fedcircuit.learning.weights import Weights

# Flower and Ray would otherwise install packages, phone home or look for updates.
QUIET_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class EngineError(RuntimeError):
    """A federation that did not come to its end."""


@dataclass(frozen=True)
class Engine:
    """Which engine, and what each client gets.

    Parameters
    ----------
    name
        ``in-process``: one client after another here. ``ray``: Flower's simulation.
    cpus_per_client, gpus_per_client
        Ray: how many clients run at a time follows from these.
    """

    name: Literal["in-process", "ray"] = "in-process"
    cpus_per_client: float = 1.0
    gpus_per_client: float = 0.0


@dataclass(frozen=True)
class Federation:
    """Clients, and what they start from.

    Parameters
    ----------
    app, n_clients
        The ClientApp of every client, and how many there are.
    initial
        Weights that the first round sends.
    num_rounds
        Rounds to run.
    timeout
        Seconds a round may take (not kept in process).
    """

    app: ClientApp
    n_clients: int
    initial: Weights
    num_rounds: int
    timeout: float = 3600.0


def run_federation(engine: Engine, strategy: Strategy, federation: Federation) -> Result:
    """Run all rounds; the same weights, bit for bit, whatever the engine.

    Raises
    ------
    EngineError
        If Ray's simulation ended without a result.
    Exception
        Whatever the strategy raises, from either engine.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with quiet_flower():
        if engine.name == "in-process":
            return _run_in_process(strategy, federation)
        return _run_ray(engine, strategy, federation)


def _start(strategy: Strategy, grid: Grid, federation: Federation) -> Result:
    arrays = {name: Array(np.asarray(values)) for name, values in federation.initial.items()}
    return strategy.start(
        grid,
        ArrayRecord(arrays),
        num_rounds=federation.num_rounds,
        timeout=federation.timeout,
        train_config=ConfigRecord(),
    )


def _run_in_process(strategy: Strategy, federation: Federation) -> Result:
    grid = InProcessGrid(federation.app, federation.n_clients)
    try:
        return _start(strategy, grid, federation)
    except Exception as error:
        if grid.first_error is not None:  # where in the user's code the first client failed
            error.add_note(str(grid.first_error))
        raise


def _run_ray(engine: Engine, strategy: Strategy, federation: Federation) -> Result:
    from flwr.simulation import run_simulation

    results: list[Result] = []
    errors: list[Exception] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            results.append(_start(strategy, grid, federation))
        except Exception as error:
            errors.append(error)  # run_simulation reports the end of the thread, not its reason
            raise

    backend: Any = {
        "client_resources": {
            "num_cpus": engine.cpus_per_client,
            "num_gpus": engine.gpus_per_client,
        },
        "init_args": {"logging_level": "error", "log_to_driver": False},
    }
    try:
        run_simulation(
            server_app=server,
            client_app=federation.app,
            num_supernodes=federation.n_clients,
            backend_config=backend,
        )
    except Exception as error:
        if not errors:
            raise EngineError(f"Ray's simulation failed: {error}") from error
    if errors:
        raise errors[0]
    if not results:
        raise EngineError("Ray's simulation ended without a result; see its log above")
    return results[0]


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Flower's log at errors only: its rounds are shown in our own words."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
