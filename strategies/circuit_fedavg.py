"""FedAvg that records every round and looks for circuits after each aggregation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.settings import CircuitSettings
from fedcircuit.records.round_record import Observer
from fedcircuit.records.store import RunStore
from fedcircuit.strategies.message_api import MessageHooks
from fedcircuit.strategies.recorder import RecorderOptions
from fedcircuit.strategies.setup import build_recorder


class CircuitFedAvg(FedAvg):
    """Federated averaging (McMahan et al. 2017, arXiv 1602.05629) with circuits.

    Takes all arguments of Flower's ``FedAvg`` and, by keyword, those of
    :func:`fedcircuit.strategies.observe`. Unlike a strategy that is only observed, it stops with
    an error when all clients of a round fail or a round cannot be recorded, and gives integer
    buffers back as integers.

    Parameters
    ----------
    *args, **kwargs
        As for ``flwr.serverapp.strategy.FedAvg``.
    model, probe, run_dir, store, observers, circuits, options
        As for :func:`fedcircuit.strategies.observe`.
    """

    fedcircuit_observed = True

    def __init__(
        self,
        *args: Any,
        model: nn.Module | None = None,
        probe: Probe | tuple[Tensor, Tensor] | None = None,
        run_dir: Path | str | None = None,
        store: RunStore | None = None,
        observers: Sequence[Observer] = (),
        circuits: CircuitSettings | None = None,
        options: RecorderOptions | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if run_dir is not None and store is not None:
            raise ValueError("give run_dir or store, not both")
        self.fedcircuit_hooks = MessageHooks(
            build_recorder(
                model=model,
                probe=probe,
                store=store if run_dir is None else Path(run_dir),
                observers=observers,
                circuits=circuits,
                options=options or RecorderOptions(fail_when_all_fail=True),
                name="CircuitFedAvg",
            )
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample clients from (seed, round) in the stable order of their partitions."""
        return self.fedcircuit_hooks.configure_train(
            self, super().configure_train, server_round, arrays, config, grid
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the usable replies in the order of clients, record and observe."""
        hooks = self.fedcircuit_hooks
        arrays, metrics = hooks.aggregate_train(
            self, super().aggregate_train, server_round, replies
        )
        if arrays is not None:
            arrays = self._in_sent_dtypes(arrays)
        return arrays, metrics

    def _in_sent_dtypes(self, arrays: ArrayRecord) -> ArrayRecord:
        before = self.fedcircuit_hooks.recorder.before
        if all(array.dtype == str(before[name].dtype) for name, array in arrays.items()):
            return arrays
        cast = ArrayRecord()
        for name, array in arrays.items():
            values, dtype = array.numpy(), before[name].dtype
            exact = np.rint(values) if dtype.kind in "iub" else values
            cast[name] = Array(np.asarray(exact, dtype=dtype))
        return cast

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample clients for evaluation reproducibly."""
        return self.fedcircuit_hooks.configure_evaluate(
            super().configure_evaluate, server_round, arrays, config, grid
        )

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the clients' evaluation and keep it beside the round."""
        return self.fedcircuit_hooks.aggregate_evaluate(super().aggregate_evaluate, replies)
