"""One line around any Flower strategy: rounds recorded, circuits found, nothing changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import Tensor, nn

from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.settings import CircuitSettings
from fedcircuit.records.round_record import Observer
from fedcircuit.records.store import RunStore
from fedcircuit.strategies.message_api import MessageHooks
from fedcircuit.strategies.recorder import RecorderOptions, RoundRecorder
from fedcircuit.strategies.setup import build_recorder
from fedcircuit.strategies.state import restore_state

logger = logging.getLogger(__name__)

AnyStrategy = TypeVar("AnyStrategy")


def observe(
    strategy: AnyStrategy,
    *,
    model: nn.Module | None = None,
    probe: Probe | tuple[Tensor, Tensor] | None = None,
    run_dir: Path | str | None = None,
    store: RunStore | None = None,
    observers: Sequence[Observer] = (),
    circuits: CircuitSettings | None = None,
    options: RecorderOptions | None = None,
    param_names: Sequence[str] | None = None,
) -> AnyStrategy:
    """Observe a strategy in place and return it; the global weights stay the same, bit for bit.

    The strategy keeps its state and stays an instance of its class. Clients are sampled
    reproducibly from ``options.seed``; replies reach the strategy sorted by client; failed,
    non-finite or wrongly shaped ones are set aside with a reason.

    Parameters
    ----------
    strategy
        Any strategy of ``flwr.serverapp.strategy`` or, legacy, of ``flwr.server.strategy``.
    model, probe
        Network and labelled samples (a Probe, or inputs and labels) on which circuits are found
        after every aggregation. Left out: rounds are recorded without circuits.
    run_dir, store
        Where rounds are recorded: a new folder, or a store that is open already.
    observers
        More to look at every round.
    circuits
        How circuits are found and checked.
    options
        Seed, offset of a resumed run, strictness.
    param_names
        Legacy strategies only: names of the weights, which that API does not send.

    Raises
    ------
    TypeError
        If the object is no strategy of Flower.
    ValueError
        If it is observed already, or model and probe are not given together.
    """
    if getattr(type(strategy), "fedcircuit_observed", False):
        raise ValueError("the strategy is observed already")
    recorder = build_recorder(
        model=model,
        probe=probe,
        store=_store(run_dir, store),
        observers=observers,
        circuits=circuits,
        options=options or RecorderOptions(),
        name=type(strategy).__name__,
    )
    if isinstance(strategy, Strategy):
        _observe_messages(strategy, recorder)
    else:
        from fedcircuit.strategies.legacy import is_legacy, observe_legacy

        if not is_legacy(strategy):
            raise TypeError(
                "expected a strategy of flwr.serverapp.strategy or flwr.server.strategy, "
                f"got {type(strategy).__module__}.{type(strategy).__qualname__}"
            )
        observe_legacy(strategy, recorder, param_names)
    _restore(strategy, recorder)
    return strategy


def _store(run_dir: Path | str | None, store: RunStore | None) -> Path | RunStore | None:
    if run_dir is not None and store is not None:
        raise ValueError("give run_dir or store, not both")
    return store if run_dir is None else Path(run_dir)


def _restore(strategy: object, recorder: RoundRecorder) -> None:
    """Give a resumed strategy the state of the round it goes on from."""
    offset = recorder.options.round_offset
    if offset and recorder.store is not None:
        restore_state(strategy, recorder.store.read(offset).state)


def _observe_messages(strategy: Strategy, recorder: RoundRecorder) -> None:
    base = type(strategy)
    hooks = MessageHooks(recorder)

    # A class with one base: only such a class may become the class of an existing instance.
    class Observed(base):  # type: ignore[misc, valid-type]
        fedcircuit_observed = True
        fedcircuit_hooks = hooks

        def configure_train(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            inner = super().configure_train
            return hooks.configure_train(self, inner, server_round, arrays, config, grid)

        def aggregate_train(
            self, server_round: int, replies: Iterable[Message]
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            return hooks.aggregate_train(self, super().aggregate_train, server_round, replies)

        def configure_evaluate(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            inner = super().configure_evaluate
            return hooks.configure_evaluate(inner, server_round, arrays, config, grid)

        def aggregate_evaluate(
            self, server_round: int, replies: Iterable[Message]
        ) -> MetricRecord | None:
            return hooks.aggregate_evaluate(super().aggregate_evaluate, replies)

    Observed.__name__ = f"Observed{base.__name__}"
    Observed.__qualname__ = Observed.__name__
    become: Any = strategy
    become.__class__ = Observed
