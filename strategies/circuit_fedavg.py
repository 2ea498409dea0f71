"""FedAvg that records every round and looks for circuits after each aggregation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fedcircuit.circuits.probes import ProbeLike
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.records.rounds import Observer
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies.message_api import MessageHooks
from fedcircuit.strategies.nodes import wait_for_nodes
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.recording import (
    DiscoverOn,
    RecorderOptions,
    RoundRecorder,
    Sources,
    build_recorder,
    in_dtype,
    put_resume,
    warn_of_copy,
)


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
    model, probe, example, discover_on, run_dir, store, observers, circuits, options, resume
        As for :func:`fedcircuit.strategies.observe`; ``fail_when_all_fail`` is True if not set.

    Raises
    ------
    ValueError
        As for :func:`fedcircuit.strategies.observe`.
    """

    fedcircuit_observed = True

    def __init__(
        self,
        *args: Any,
        model: nn.Module | None = None,
        probe: ProbeLike | None = None,
        example: Tensor | ArrayLike | None = None,
        discover_on: DiscoverOn = "server",
        run_dir: Path | str | None = None,
        store: RunStore | None = None,
        observers: Sequence[Observer] = (),
        circuits: CircuitSettings | None = None,
        options: RecorderOptions | None = None,
        resume: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        options = options or RecorderOptions()
        if options.fail_when_all_fail is None:
            options = replace(options, fail_when_all_fail=True)
        recorder = build_recorder(
            self,
            Sources(model, probe, example, discover_on),
            run_dir=run_dir,
            store=store,
            observers=observers,
            circuits=circuits,
            options=options,
            resume=resume,
        )
        self.fedcircuit_hooks = MessageHooks(self, recorder, WeightNames(None, model))
        if resume:
            put_resume(self, self.fedcircuit_hooks)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the recorder: a copy records nothing."""
        if type(self) is CircuitFedAvg:  # else plain_reduction has said so
            warn_of_copy(self)
        options = replace(self.fedcircuit_hooks.recorder.options, on_round=None)
        return {**self.__dict__, "fedcircuit_hooks": options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A strategy that behaves as the one copied, without a folder and observers."""
        self.__dict__.update(state)
        recorder = RoundRecorder(None, (), replace(state["fedcircuit_hooks"], round_offset=0))
        self.fedcircuit_hooks = MessageHooks(self, recorder)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample clients from (seed, round) in the stable order of their partitions."""
        if self.fraction_train > 0:  # FedAvg counts the nodes before it waits for them
            wait_for_nodes(grid, self.fedcircuit_hooks.wait(self.min_available_nodes))
        inner = super().configure_train
        return self.fedcircuit_hooks.configure_train(inner, server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the usable replies in the order of clients, record and observe."""
        average = super().aggregate_train

        def inner(
            number: int, usable: Iterable[Message]
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            arrays, metrics = average(number, usable)
            return None if arrays is None else self._in_sent_dtypes(arrays), metrics

        return self.fedcircuit_hooks.aggregate_train(inner, replies)

    def _in_sent_dtypes(self, arrays: ArrayRecord) -> ArrayRecord:
        """Averages of integers and booleans as such again; Flower gives float64."""
        dtypes = self.fedcircuit_hooks.sent_dtypes
        return ArrayRecord(
            {
                name: array
                if array.dtype == str(dtypes.get(name, array.dtype))
                else Array(in_dtype(array.numpy(), dtypes[name]))
                for name, array in arrays.items()
            }
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Sample clients for evaluation reproducibly."""
        inner = super().configure_evaluate
        return self.fedcircuit_hooks.configure_evaluate(inner, server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the clients' evaluation and keep it beside the round."""
        return self.fedcircuit_hooks.aggregate_evaluate(super().aggregate_evaluate, replies)
