"""What happens around an aggregation, whatever API the strategy speaks: check, record, observe."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit.learning import Weights
from fedcircuit.records.files import in_short
from fedcircuit.records.rounds import (
    GLOBAL,
    ClientRecord,
    Failure,
    Metric,
    Observation,
    Observer,
    RoundRecord,
    RoundView,
)
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies.preflight import ModelFit, PreflightError, RoundNumbers
from fedcircuit.strategies.recording.acceptance import judge
from fedcircuit.strategies.recording.memory_of_strategies import returned_state
from fedcircuit.strategies.recording.observation import Observers, seen_failures
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.recording.partial_rounds import store_round
from fedcircuit.strategies.recording.recorded_weights import (
    client_record,
    in_dtype,
    last_dtypes,
    read_only,
)
from fedcircuit.strategies.replies import (
    AllClientsFailedError,
    ClientError,
    Reply,
    client_order,
    first_non_finite,
    with_entry,
)

logger = logging.getLogger(__name__)

HIDDEN = "not available (secure aggregation)"


class RoundRecorder:
    """Collects one round after the other and hands each to observers and store.

    Parameters
    ----------
    store
        Where rounds are recorded; None records nothing.
    observers
        What looks at every aggregation, in this order.
    options
        Seed, offset and behaviour on errors.
    model
        The network whose weights are exchanged; the first weights sent must fit it.

    Raises
    ------
    ValueError
        If the store's last round is not the one the offset says.
    """

    def __init__(
        self,
        store: RunStore | None,
        observers: Sequence[Observer] = (),
        options: RecorderOptions | None = None,
        *,
        model: nn.Module | None = None,
    ) -> None:
        self.store = store
        self.options = options or RecorderOptions()
        self._observers = Observers(observers, self.options.observer_seconds)
        self._fit = ModelFit(model)
        self._gaps: list[RoundRecord] = []  # rounds that could not be recorded yet
        self._numbers = RoundNumbers(self.options.round_offset, store)
        self.round = self.options.round_offset
        self.before: dict[str, NDArray[np.generic]] = {}
        self.errors: list[str] = []  # our own, which did not stop the federation
        self._dtypes = last_dtypes(store, self.round)
        self._clients: tuple[ClientRecord, ...] = ()
        self._failures: tuple[Failure, ...] = ()
        self._seconds: dict[str, float] = {}
        self._mark = time.perf_counter()

    def expect(self, server_round: int) -> None:
        """Turn to a round of Flower's; what is known of the one before is forgotten."""
        self.round = self._numbers.next(server_round)
        self.before = {}
        self._clients, self._failures, self._seconds = (), (), {}

    def begin(self, weights: Weights, state: Weights) -> None:
        """Note the weights the round starts from; the first of a new run becomes round 0."""
        self._fit.settle(weights)
        self._numbers.check_start(weights)
        self.before = read_only(weights)
        if not self._dtypes:
            self._dtypes = {name: values.dtype for name, values in weights.items()}
        if self.store is not None and not self.store.rounds():
            observations = self._fit.observation()
            self._record(RoundRecord(0, self.before, observations=observations, state=state))

    def sent(self) -> None:
        """Start the clock of the clients' training."""
        self._lap()

    def accept(self, replies: Sequence[Reply]) -> list[int]:
        """Positions of the replies that may enter the average, sorted by client.

        Raises
        ------
        RuntimeError
            If the round was not begun, so that nothing is known to check replies against.
        """
        self._check_begun()
        self._seconds["train"] = self._lap()
        judged = judge(replies, self.before, self.options, self._dtypes)
        self._clients = tuple(client_record(replies[i]) for i in judged.good)
        self._failures = judged.failures
        for fault in self._failures:
            logger.warning(
                "round %d: client %s is set aside (%s): %s",
                self.round, fault.client, fault.kind, fault.reason,
            )  # fmt: skip
        if judged.differs:
            logger.warning("round %d: %s", self.round, judged.differs)
        self._seconds["record"] = self._lap()
        return list(judged.good if self.options.check_replies else judged.readable)

    def hide(self, replies: Sequence[Reply]) -> None:
        """Note who took part in a round whose clients' weights the server never sees."""
        self._seconds["train"] = self._lap()
        ordered = sorted(replies, key=lambda reply: client_order(reply.client))
        hidden = [r for r in ordered if r.error is None and np.isfinite(r.num_examples)]
        self._clients = tuple(
            replace(client_record(reply), extra=with_entry(reply.extra, "weights", HIDDEN))
            for reply in (replace(reply, weights={}) for reply in hidden)
        )
        self._failures = tuple(
            Failure(reply.client, *reply.error) for reply in ordered if reply.error is not None
        )

    def check_some_left(self, raised: ClientError | None = None) -> None:
        """Act on a round in which clients were asked and none sent a usable reply.

        Parameters
        ----------
        raised
            The first client's exception, where clients run in this process.

        Raises
        ------
        AllClientsFailedError
            If the options ask for it; what there is of the round is kept as evidence.
        """
        if self._clients or not self._failures or not self.options.check_replies:
            return
        first = self._failures[0]
        error = AllClientsFailedError(
            self.round,
            first.client,
            first.reason,
            n_clients=len(self._failures),
            where=raised.where if raised is not None else None,
        )
        if not self.options.fail_when_all_fail:
            logger.error("%s; the global weights stay as they were", error)
            return
        self.failed(str(error))
        raise error from (raised.exception if raised is not None else None)

    def finish(self, after: Weights | None, metrics: Mapping[str, Metric], state: Weights) -> None:
        """Observe and record the round; ``after`` is None where nothing was aggregated.

        Raises
        ------
        RuntimeError
            If the round was not begun.
        """
        self._check_begun()
        self._seconds["aggregate"] = self._lap()
        returned = self.before if after is None else after
        self._numbers.ended(self.round, returned)
        weights = read_only({name: self._in_initial_dtype(name, v) for name, v in returned.items()})
        self._judge(after)
        visible = tuple(client for client in self._clients if client.weights)
        hidden = tuple(client for client in self._clients if not client.weights)
        view = RoundView(
            self.round, self.before, weights, visible, hidden, dict(metrics), self._failures
        )
        observations, errors = self._observe(*self._fit.view(view))
        record = RoundRecord(
            round=self.round,
            weights=weights,
            clients=self._clients,
            metrics=dict(metrics),
            observations={**self._fit.observation(), **observations},
            failures=(*self._failures, *seen_failures(self.round, observations)),
            observer_errors=errors,
            seconds=dict(self._seconds),
            state={**state, **returned_state(returned, self._dtypes)},
        )
        self._record(record)

    def _check_begun(self) -> None:
        if not self.before:
            raise RuntimeError(f"the weights sent in round {self.round} are not known")

    def _judge(self, after: Weights | None) -> None:
        """Name an aggregation that gave nothing, or nothing finite."""
        fault = None
        if after is None and self._clients:
            fault = ("aggregation", "the strategy returned no weights; the model stays as it was")
        bad = None if after is None else first_non_finite(after)
        if bad is not None:
            fault = ("non-finite", f"{bad!r} of the global model holds NaN or infinity")
        if fault is not None:
            logger.error("round %d: %s", self.round, fault[1])
            self._failures = (*self._failures, Failure(GLOBAL, *fault))

    def _in_initial_dtype(self, name: str, values: NDArray[np.generic]) -> NDArray[np.generic]:
        dtype = self._dtypes.get(name, values.dtype)
        return in_dtype(values, dtype) if values.dtype != dtype else values

    def _observe(
        self, view: RoundView, no_model: str
    ) -> tuple[dict[str, Observation], dict[str, str]]:
        observations: dict[str, Observation] = {}
        errors: dict[str, str] = {}
        for observer in self._observers.all:
            if no_model and getattr(observer, "needs_model", False):
                errors[observer.name] = no_model
                continue
            try:
                view = replace(view, seen=dict(observations))
                observations[observer.name] = self._observers.observe(observer, view)
            except Exception as error:
                if self.options.strict:
                    raise
                logger.exception("round %d: observer %s failed", self.round, observer.name)
                errors[observer.name] = in_short(error)
            self._seconds[f"observe:{observer.name}"] = self._lap()
        return observations, errors

    def failed(self, error: str) -> None:
        """Keep what the clients sent in a round whose aggregation failed."""
        if self.store is None:
            return
        failures = (*self._failures, Failure(GLOBAL, "aggregation", error))
        clients = tuple(client for client in self._clients if client.weights)
        with self.guarded(f"the evidence of round {self.round}"):
            record = RoundRecord(self.round, self.before, clients, failures=failures)
            self.store.add_evidence(record, error)

    def evaluated(self, metrics: Mapping[str, Metric]) -> None:
        """Keep the clients' evaluation of the round."""
        if self.store is not None:
            self.store.add_evaluation(self.round, metrics)

    def _record(self, record: RoundRecord) -> None:
        if self.store is not None:
            self._gaps = store_round(self.store, record, self._gaps, strict=self.options.strict)
        if self.options.on_round is None:
            return
        try:
            self.options.on_round(record)
        except Exception as error:
            if self.options.strict:
                raise
            logger.exception("round %d: on_round failed", record.round)
            self.errors.append(f"on_round in round {record.round}: {in_short(error)}")

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Our own work: a federation that is only observed goes on where it fails."""
        try:
            yield
        except (AllClientsFailedError, PreflightError):
            raise
        except Exception as error:
            if self.options.strict or self.options.fail_when_all_fail:
                raise
            logger.exception("fedcircuit could not record %s", what)
            self.errors.append(f"{what}: {in_short(error)}")

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        return lap
