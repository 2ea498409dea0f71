"""One line around any Flower strategy: rounds recorded, circuits found, nothing changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedXgbBagging, FedXgbCyclic, Strategy
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fedcircuit.circuits.probes import ProbeLike
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.records.rounds import Observer
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies.message_api import MessageHooks
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.recording import (
    DiscoverOn,
    RecorderOptions,
    RoundRecorder,
    Sources,
    build_recorder,
    put_around,
    put_resume,
)

logger = logging.getLogger(__name__)

AnyStrategy = TypeVar("AnyStrategy")


def observe(
    strategy: AnyStrategy,
    *,
    model: nn.Module | None = None,
    probe: ProbeLike | None = None,
    example: Tensor | ArrayLike | None = None,
    discover_on: DiscoverOn = "server",
    run_dir: Path | str | None = None,
    store: RunStore | None = None,
    observers: Sequence[Observer] = (),
    circuits: CircuitSettings | None = None,
    options: RecorderOptions | None = None,
    param_names: Sequence[str] | None = None,
    resume: bool = False,
) -> AnyStrategy:
    """Observe a strategy in place and return it; what it computes stays the same, bit for bit.

    It stays an instance of its class. Clients are sampled reproducibly, and replies reach it sorted
    by client; those that cannot be averaged are set aside (:class:`RecorderOptions`).

    Parameters
    ----------
    strategy
        Any strategy of ``flwr.serverapp.strategy`` or, legacy, of ``flwr.server.strategy``.
    model, probe
        Network and labelled samples (a Probe, inputs and labels, a Dataset or DataLoader) on which
        circuits and accuracy are measured every round. Left out: rounds are recorded alone.
    example, discover_on
        Where the server has no data: an input ``[1, ...]``, and ``"clients"``: circuits are those
        that clients found on their own data and sent (:class:`~fedcircuit.clients.ClientCircuits`).
    run_dir, store, resume
        Where rounds are recorded: a new folder, or a store that is open already. ``resume`` goes on
        in ``run_dir``, or begins where it is missing or empty; ``start(num_rounds=...)`` then
        counts the recorded rounds too (a legacy server runs as many more).
    observers, circuits, options
        More to look at every round; how circuits are found; how the recorder behaves.
    param_names
        Names of weights that are only numbered, as in the legacy API; left out: the model's.

    Raises
    ------
    TypeError, ValueError
        If it is no strategy of Flower, or observed already, or arguments contradict each other.
    RunError
        If the folder is not empty; with ``resume``, if it is another strategy's.
    """
    _check_kind(strategy)
    sources = Sources(model, probe, example, discover_on)
    recorder = build_recorder(
        strategy,
        sources,
        run_dir=run_dir,
        store=store,
        observers=observers,
        circuits=circuits,
        options=options or RecorderOptions(),
        resume=resume,
    )
    return _put_around(strategy, recorder, WeightNames(param_names, model), resume=resume)


def _go_on(strategy: object) -> None:
    if isinstance(strategy, Strategy):
        put_resume(strategy, strategy.fedcircuit_hooks)  # type: ignore[attr-defined]  # observed
        return
    from fedcircuit.strategies.legacy_api import put_legacy_resume

    put_legacy_resume(strategy)


def _put_around(
    strategy: AnyStrategy, recorder: RoundRecorder, names: WeightNames, *, resume: bool
) -> AnyStrategy:
    _warn_of_raw_updates(strategy, recorded=recorder.store is not None)
    if isinstance(strategy, Strategy):
        _observe_messages(strategy, MessageHooks(strategy, recorder, names))
    else:
        from fedcircuit.strategies.legacy_api import observe_legacy  # loads the legacy stack

        observe_legacy(strategy, recorder, names)
    if resume:
        _go_on(strategy)
    return strategy


def _check_kind(strategy: object) -> None:
    if getattr(strategy, "fedcircuit_observed", False):
        raise ValueError(f"{type(strategy).__name__} is observed already")
    if isinstance(strategy, (FedXgbBagging, FedXgbCyclic)):
        raise TypeError(f"{type(strategy).__name__} aggregates trees, which have no circuits")
    if isinstance(strategy, Strategy):
        return
    from fedcircuit.strategies.legacy_api import is_legacy

    if not is_legacy(strategy):
        raise TypeError(
            "expected a strategy of flwr.serverapp.strategy or flwr.server.strategy, "
            f"got {type(strategy).__module__}.{type(strategy).__qualname__}"
        )


def _warn_of_raw_updates(strategy: object, *, recorded: bool) -> None:
    """Noise that is added to the average does not cover what the server records of each client."""
    names = [kind.__name__ for kind in type(strategy).__mro__]
    if recorded and any(name.startswith("DifferentialPrivacyServerSide") for name in names):
        logger.warning(
            "%s adds its noise on the server, to the average alone: the run folder also holds "
            "every client's own update without noise. Observe the strategy inside it, "
            "DP(observe(...)), or record no updates (Storage(updates='none')); guard the folder",
            names[0],
        )


def _observe_messages(strategy: Strategy, hooks: MessageHooks) -> None:
    base = type(strategy)

    # A class with one base: only such a class may become the class of an existing instance.
    class Observed(base):  # type: ignore[misc, valid-type]
        fedcircuit_observed = True
        fedcircuit_hooks = hooks

        def configure_train(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            inner = super().configure_train
            return hooks.configure_train(inner, server_round, arrays, config, grid)

        def aggregate_train(
            self, server_round: int, replies: Iterable[Message]
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            return hooks.aggregate_train(super().aggregate_train, replies)

        def configure_evaluate(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            inner = super().configure_evaluate
            return hooks.configure_evaluate(inner, server_round, arrays, config, grid)

        def aggregate_evaluate(
            self, server_round: int, replies: Iterable[Message]
        ) -> MetricRecord | None:
            return hooks.aggregate_evaluate(super().aggregate_evaluate, replies)

    put_around(strategy, Observed, f"Observed{base.__name__}")
