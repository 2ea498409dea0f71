"""What runs the clients: this process, or Flower's Ray simulation, behind one option."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from flwr.serverapp.strategy import Result, Strategy

from fedcircuit.app.engines.engine import Engine, EngineError, Federation
from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.strategies import observe
from fedcircuit.strategies.recording import RecorderOptions

__all__ = ["Engine", "EngineError", "Federation", "quiet_flower", "run_federation"]

# Flower and Ray would otherwise install packages, phone home or look for updates.
QUIET_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # after the end nothing may start Ray again
}


def run_federation(engine: Engine, strategy: Strategy, federation: Federation) -> Result:
    """Run all rounds; the same weights, bit for bit, whatever the engine.

    For that to hold every process must use the same number of torch threads. A strategy that is
    not observed yet is observed from now on, without recording anything: replies reach it sorted
    by client, clients are sampled reproducibly, and a round in which all of them fail is an error
    (unless the strategy's options say otherwise).

    Raises
    ------
    ValueError
        If the strategy waits for more clients than there are.
    AllClientsFailedError
        If no client of a round sends a usable reply.
    EngineError
        If Ray's simulation fails, or one of its workers dies.
    Exception
        Whatever the strategy raises, from either engine.
    """
    _check_enough(strategy, federation.n_clients)
    _observed(strategy)
    with quiet_flower():
        if engine.name == "in-process":
            grid = InProcessGrid(federation.app, federation.n_clients)
            return federation.start(strategy, grid)
        with quiet_environment():
            from fedcircuit.app.engines.ray_engine import run_on_ray

            return run_on_ray(engine, strategy, federation)


def _check_enough(strategy: object, n_clients: int) -> None:
    """Flower waits for ever for clients that never come."""
    for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes"):
        wanted = getattr(strategy, name, 0)
        if wanted > n_clients:
            raise ValueError(
                f"the strategy's {name} is {wanted}, but there are {n_clients} clients: it would "
                "wait for ever"
            )
    if hasattr(strategy, "strategy"):  # what Flower's wrappers wrap
        _check_enough(strategy.strategy, n_clients)


def _observed(strategy: Strategy) -> None:
    hooks = getattr(strategy, "fedcircuit_hooks", None)
    if hooks is None:
        observe(strategy, options=RecorderOptions(fail_when_all_fail=True))
    elif hooks.recorder.options.fail_when_all_fail is None:
        hooks.recorder.options = replace(hooks.recorder.options, fail_when_all_fail=True)


@contextmanager
def quiet_flower() -> Iterator[None]:
    """Flower's log off, unless ``FLWR_LOG_LEVEL`` asks for it: what matters is said by us."""
    logger = logging.getLogger("flwr")
    level = logger.level
    if "FLWR_LOG_LEVEL" not in os.environ:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def quiet_environment() -> Iterator[None]:
    """The environment in which Ray's processes start; ours is given back as it was."""
    names = (*QUIET_ENVIRONMENT, "PYTHONPATH")  # Flower sets the last for Ray's workers
    before = {name: os.environ.get(name) for name in names}
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
