"""What happens around an aggregation, whatever API the strategy speaks: check, record, observe."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedcircuit.learning.weights import Weights
from fedcircuit.records.round_record import (
    ClientRecord,
    Failure,
    Observation,
    Observer,
    RoundRecord,
    RoundView,
)
from fedcircuit.records.store import RunStore

logger = logging.getLogger(__name__)


class AllClientsFailedError(RuntimeError):
    """No reply of a round could enter the average."""


@dataclass(frozen=True)
class Reply:
    """One client's answer, in whatever order it came.

    ``error`` is set where the client failed; the other fields are then empty.
    """

    client: str
    num_examples: float = 0.0
    weights: Weights = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    error: tuple[str, str] | None = None  # kind and reason of a Failure


@dataclass(frozen=True)
class RecorderOptions:
    """How a recorder behaves.

    Parameters
    ----------
    seed
        Seed of client sampling.
    round_offset
        Added to Flower's round numbers: the last recorded round of a resumed run.
    strict
        Raise what observers and the recorder raise, instead of recording it; for tests.
    fail_when_all_fail
        Raise :class:`AllClientsFailedError` when no reply of a round is usable.
    identify
        Ask every client for its partition by a query message before the first round.
    on_round
        Called with every recorded round, such as to show progress.
    """

    seed: int = 0
    round_offset: int = 0
    strict: bool = False
    fail_when_all_fail: bool = False
    identify: bool = False
    on_round: Callable[[RoundRecord], None] | None = None


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
    """

    def __init__(
        self,
        store: RunStore | None,
        observers: Sequence[Observer],
        options: RecorderOptions,
    ) -> None:
        self.store = store
        self.observers = tuple(observers)
        self.options = options
        self.before: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {}
        self.round = options.round_offset
        self._clients: tuple[ClientRecord, ...] = ()
        self._failures: tuple[Failure, ...] = ()
        self._seconds: dict[str, float] = {}
        self._mark = time.perf_counter()

    def begin(self, round_number: int, weights: Weights, state: Weights) -> None:
        """Note the weights a round starts from; the first of a new run becomes round 0."""
        self.round = round_number
        self.before = {name: np.array(values) for name, values in weights.items()}
        self._seconds = {}
        self._mark = time.perf_counter()
        if self.store is not None and not self.store.rounds():
            start = RoundRecord(round=0, weights=self.before, state=state)
            self._guarded("the start", lambda: self._append(start))

    def accept(self, replies: Sequence[Reply]) -> list[int]:
        """Positions of the replies that may enter the average, sorted by client.

        Raises
        ------
        AllClientsFailedError
            If none may, and the options ask for it.
        """
        self._seconds["train"] = self._lap()
        checked = [(client_order(reply.client), i, self._fault(reply)) for i, reply in
                   enumerate(replies)]  # fmt: skip
        checked.sort(key=lambda item: item[:2])
        accepted = [index for _, index, fault in checked if fault is None]
        self._failures = tuple(fault for _, _, fault in checked if fault is not None)
        self._clients = tuple(
            ClientRecord(
                client=replies[i].client,
                num_examples=int(replies[i].num_examples),
                weights={n: np.array(v) for n, v in replies[i].weights.items()},
                metrics=dict(replies[i].metrics),
                extra=dict(replies[i].extra),
            )
            for i in accepted
        )
        for failure in self._failures:
            logger.warning(
                "round %d: client %s set aside (%s): %s",
                self.round, failure.client, failure.kind, failure.reason,
            )  # fmt: skip
        if not accepted:
            self._nobody_left()
        return accepted

    def _nobody_left(self) -> None:
        first = self._failures[0] if self._failures else None
        reason = "no client answered" if first is None else f"client {first.client}: {first.reason}"
        message = f"round {self.round}: all {len(self._failures)} replies failed; first {reason}"
        if self.options.fail_when_all_fail:
            self.failed(message)
            raise AllClientsFailedError(message)
        logger.error("%s; the global weights stay as they were", message)

    def _fault(self, reply: Reply) -> Failure | None:
        """Why a reply cannot enter the average; None where it can."""
        if reply.error is not None:
            return Failure(reply.client, *reply.error)
        missing = [name for name in self.before if name not in reply.weights]
        extra = [name for name in reply.weights if name not in self.before]
        if missing or extra:
            return Failure(reply.client, "names", f"missing {missing}, unexpected {extra}")
        for name, values in reply.weights.items():
            expected = self.before[name].shape
            if values.shape != expected:
                return Failure(
                    reply.client, "shape", f"{name!r} has shape {values.shape}, not {expected}"
                )
            if np.issubdtype(values.dtype, np.inexact) and not np.isfinite(values).all():
                return Failure(reply.client, "non-finite", f"{name!r} holds NaN or infinity")
        if not (np.isfinite(reply.num_examples) and reply.num_examples > 0):
            return Failure(
                reply.client, "count", f"num-examples must be > 0, got {reply.num_examples}"
            )
        return None

    def finish(
        self, after: Weights | None, metrics: Mapping[str, float], state: Weights
    ) -> RoundRecord:
        """Observe and record the round; ``after`` is None where nothing was aggregated."""
        self._seconds["aggregate"] = self._lap()
        weights = {
            name: self._as_before(name, (self.before if after is None else after)[name])
            for name in self.before
        }
        view = RoundView(self.round, self.before, weights, self._clients)
        observations, errors = self._observe(view)
        record = RoundRecord(
            round=self.round,
            weights=weights,
            clients=self._clients,
            metrics=dict(metrics),
            observations=observations,
            failures=self._failures,
            observer_errors=errors,
            seconds=dict(self._seconds),
            state=state,
        )
        self._guarded(f"round {self.round}", lambda: self._append(record))
        if self.options.on_round is not None:
            self.options.on_round(record)
        return record

    def _as_before(
        self, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """A copy in the dtype sent: strategies return averages of integers as float64."""
        dtype = self.before[name].dtype
        return np.rint(values).astype(dtype) if dtype.kind in "iub" else np.array(values, dtype)

    def _observe(self, view: RoundView) -> tuple[dict[str, Observation], dict[str, str]]:
        observations: dict[str, Observation] = {}
        errors: dict[str, str] = {}
        for observer in self.observers:
            try:
                observations[observer.name] = observer(view)
            except Exception as error:
                if self.options.strict:
                    raise
                logger.exception("round %d: observer %s failed", self.round, observer.name)
                errors[observer.name] = f"{type(error).__name__}: {error}"
            self._seconds[f"observe:{observer.name}"] = self._lap()
        return observations, errors

    def failed(self, error: str) -> None:
        """Keep what the clients sent in a round whose aggregation failed."""
        if self.store is None:
            return
        store = self.store
        record = RoundRecord(
            round=self.round,
            weights=self.before,
            clients=self._clients,
            failures=(*self._failures, Failure("", "aggregation", error)),
        )
        self._guarded("the evidence", lambda: store.add_evidence(record, error))

    def evaluated(self, round_number: int, metrics: Mapping[str, float]) -> None:
        """Keep the clients' evaluation of a round."""
        if self.store is not None:
            store = self.store
            self._guarded("an evaluation", lambda: store.add_evaluation(round_number, metrics))

    def _append(self, record: RoundRecord) -> None:
        if self.store is not None:
            self.store.append(record)

    def _guarded(self, what: str, write: Callable[[], object]) -> None:
        """Write; a federation that is only observed goes on where that fails."""
        try:
            write()
        except Exception:
            if self.options.strict or self.options.fail_when_all_fail:
                raise
            logger.exception("%s could not be recorded", what)

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        return lap


def client_order(client: str) -> tuple[int, int, str]:
    """Sort key: numbers in numeric order, then names."""
    return (0, int(client), "") if client.isdecimal() else (1, 0, client)
