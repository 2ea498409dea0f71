"""What an engine is told: how to run clients, which clients, and what they start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from fedcircuit.learning import Weights


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
    workers
        Ray: most clients at a time; None is as many as the machine has room for.

    Raises
    ------
    ValueError
        If the name is unknown or a number out of range.
    """

    name: Literal["in-process", "ray"] = "in-process"
    cpus_per_client: float = 1.0
    gpus_per_client: float = 0.0
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ("in-process", "ray"):
            raise ValueError(f"engine must be 'in-process' or 'ray', got {self.name!r}")
        if self.cpus_per_client <= 0 or self.gpus_per_client < 0:
            raise ValueError(
                "cpus_per_client must be > 0 and gpus_per_client >= 0, "
                f"got {self.cpus_per_client} and {self.gpus_per_client}"
            )
        if self.workers is not None and (self.workers < 1 or self.name != "ray"):
            raise ValueError(
                f"workers must be >= 1 and belongs to engine 'ray', got {self.workers} "
                f"for {self.name!r}"
            )


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
        Seconds that all clients together have in a round (not kept in process).
    """

    app: ClientApp
    n_clients: int
    initial: Weights
    num_rounds: int
    timeout: float = 3600.0

    def start(self, strategy: Strategy, grid: Grid) -> Result:
        """Run all rounds on a Grid."""
        arrays = {name: Array(np.asarray(values)) for name, values in self.initial.items()}
        return strategy.start(
            grid,
            ArrayRecord(arrays),
            num_rounds=self.num_rounds,
            timeout=self.timeout,
            train_config=ConfigRecord(),
        )
