"""A ServerApp and a ClientApp, run in this process without Ray."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result

from fedcircuit.app.engines.engine import EngineError
from fedcircuit.app.engines.grid import InProcessGrid, round_of
from fedcircuit.flower import RUN_ID, SERVER_NODE_ID, LegacyResult, noted_results
from fedcircuit.learning import derived_seed
from fedcircuit.strategies.replies import ClientError

logger = logging.getLogger(__name__)

Config = Mapping[str, str | int | float | bool]
_WANTED = (  # what a strategy waits for, and the share that turns it off; legacy names beside
    ("min_available_nodes", None),
    ("min_available_clients", None),
    ("min_train_nodes", "fraction_train"),
    ("min_evaluate_nodes", "fraction_evaluate"),
)


@dataclass(frozen=True)
class Simulation:
    """What a simulated federation gave.

    Parameters
    ----------
    result
        What ``Strategy.start`` returned last: the final weights and the metrics of every round.
        None where the ServerApp never started a strategy, or has a legacy one.
    legacy
        The same of a legacy strategy: its ``history`` and final ``parameters``; else None.
    state
        ``context.state`` of the ServerApp, where it may leave what it likes.
    errors
        The first exception of every round that a client raised; ``.where`` is the user's own line.
    seconds
        How long it took.
    """

    result: Result | None
    legacy: LegacyResult | None
    state: RecordDict
    errors: tuple[ClientError, ...]
    seconds: float


def simulate(
    server_app: ServerApp,
    client_app: ClientApp,
    clients: int = 10,
    *,
    run_config: Config | None = None,
    node_configs: Sequence[Config] | None = None,
    seed: int | None = 0,
) -> Simulation:
    """Run an existing Flower app in this process: no Ray, no SuperLink, nothing installed.

    Clients run one after the other and get what Flower's own simulation gives them:
    ``partition-id`` and ``num-partitions`` in ``context.node_config``, a state that lasts,
    ``context.run_config``. What one raises is an error reply, logged with the user's own line.

    Parameters
    ----------
    server_app
        With ``@app.main()``, or with a legacy ``server_fn``.
    client_app
        With ``@app.train()`` and the like, or with a legacy ``client_fn``.
    clients
        How many there are; client ``i`` has ``partition-id`` i.
    run_config
        What both read as ``context.run_config``: the app's ``[tool.flwr.app.config]``, which is
        not read from the disk.
    node_configs
        More for ``context.node_config``, one mapping a client.
    seed
        Python's, NumPy's and torch's global random states are set from it when the server starts,
        and from (seed, round, client) for every client, so that neither the order of clients nor
        what others draw matters; afterwards they are as before. None leaves them alone: clients
        then share one random state.

    Returns
    -------
    Simulation
        Final weights, metrics, errors of clients.

    Raises
    ------
    TypeError
        If one of the apps is none, or a value of ``run_config`` is none of str, int, float, bool.
    ValueError
        If there are no clients, or another number of ``node_configs``.
    EngineError
        If the strategy waits for more clients than there are.
    Exception
        Whatever the ServerApp raises, with a note of the first client that failed.
    """
    _check_app(server_app, ServerApp, "server_app")
    _check_app(client_app, ClientApp, "client_app")
    config = _checked(run_config or {})
    grid = _SimulationGrid(
        client_app, clients, run_config=config, node_configs=node_configs, seed=seed
    )
    return _simulated(server_app, grid, config, seed)


def _simulated(
    server_app: ServerApp, grid: _SimulationGrid, config: Config, seed: int | None
) -> Simulation:
    clients = len(list(grid.get_node_ids()))
    context = Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), dict(config))
    begin = time.perf_counter()
    results: list[Result] = []
    legacy: list[LegacyResult] = []
    try:
        with (
            _random_states(None if seed is None else derived_seed(seed, "server")),
            noted_results(results, legacy, lambda strategy: _check_enough(strategy, clients)),
        ):
            server_app(grid, context)
    except Exception as error:
        if grid.first_error is not None:
            error.add_note(f"before that, {_words(grid.first_error)}")
        raise
    return Simulation(
        results[-1] if results else None,
        legacy[-1] if legacy else None,
        context.state,
        grid.errors,
        time.perf_counter() - begin,
    )


class _SimulationGrid(InProcessGrid):
    """The in-process Grid with seeded clients, which says at once what a client raises."""

    def __init__(
        self,
        app: ClientApp,
        n_clients: int,
        *,
        run_config: Config,
        node_configs: Sequence[Config] | None,
        seed: int | None,
    ) -> None:
        super().__init__(app, n_clients, run_config=run_config, node_configs=node_configs)
        self._seed = seed

    def _ask(self, message: Message) -> Message:
        known = len(self.errors)
        client = int(self._contexts[message.metadata.dst_node_id].node_config["partition-id"])
        kind, number = message.metadata.message_type, round_of(message)
        seed = None if self._seed is None else derived_seed(self._seed, kind, number or 0, client)
        with _random_states(seed):
            reply = super()._ask(message)
        for error in self.errors[known:]:
            logger.warning("%s; the other clients go on", _words(error))
        return reply


def _words(error: ClientError) -> str:
    number = "" if error.round is None else f" in round {error.round}"
    what = f"{type(error.exception).__name__}: {error.exception}"
    return f"client {error.client} raised{number}: {what}\n  at {error.where}"


@contextmanager
def _random_states(seed: int | None) -> Iterator[None]:
    """Global random states from a seed, and back afterwards; None leaves them alone."""
    if seed is None:
        yield
        return
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _check_app(app: object, kind: type, name: str) -> None:
    if not isinstance(app, kind):
        raise TypeError(f"{name} must be a {kind.__name__} of Flower, got a {type(app).__name__}")


def _checked(config: Config) -> Config:
    for key, value in config.items():
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError(
                f"run_config[{key!r}] must be text, a number or a bool, as in Flower, got {value!r}"
            )
    return config


def _check_enough(strategy: object, clients: int) -> None:
    """Flower would wait for ever: there are never more clients than these."""
    for name, share in _WANTED:
        wanted = getattr(strategy, name, 0)
        used = share is None or getattr(strategy, share, 1) > 0
        if used and isinstance(wanted, int) and wanted > clients:
            raise EngineError(
                f"the strategy waits for {wanted} clients ({name}) and there are {clients}: "
                f"simulate with clients={wanted}, or lower {name}"
            )
