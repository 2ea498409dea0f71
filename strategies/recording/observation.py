"""Observers at work: whatever they do, the round goes on, and what went wrong is in its record."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from fedcircuit.records.files import in_short
from fedcircuit.records.rounds import Failure, Observation, Observer, RoundView

logger = logging.getLogger(__name__)


class Observers:
    """Calls observers one after the other.

    Parameters
    ----------
    observers
        What looks at a round, in this order.
    seconds
        How long each may take in a round; None waits for all of them. An observer cannot be
        stopped from outside, so one that takes longer goes on in a thread of its own, and is left
        out of all rounds until it has ended.

    Raises
    ------
    ValueError
        If two observers have one name.
    """

    def __init__(self, observers: Sequence[Observer], seconds: float | None = None) -> None:
        names = [observer.name for observer in observers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"every observer needs a name of its own, got {twice} twice")
        self.all = tuple(observers)
        self._seconds = seconds
        self._late: dict[str, tuple[int, threading.Thread]] = {}

    def observe(self, observer: Observer, view: RoundView) -> Observation:
        """What an observer sees.

        Raises
        ------
        TimeoutError
            If it takes, or still takes, too long.
        TypeError
            If it returns no Observation.
        Exception
            Whatever it raises; that it wants to exit is an error like any other.
        """
        if self._seconds is None:
            return _checked(_called(observer, view))
        return self._bounded(observer, view, self._seconds)

    def _bounded(self, observer: Observer, view: RoundView, seconds: float) -> Observation:
        late = self._late.get(observer.name)
        if late is not None and late[1].is_alive():
            raise TimeoutError(f"still at work on round {late[0]}, so it is left out")
        seen: list[object] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                seen.append(_called(observer, view))
            except Exception as error:  # noqa: BLE001  # raised again in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=work, name=f"observer {observer.name}", daemon=True)
        begin = time.monotonic()
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._late[observer.name] = (view.round, thread)
            spent = time.monotonic() - begin
            raise TimeoutError(f"took more than observer_seconds = {seconds:g} ({spent:.1f} s)")
        if failed:
            raise failed[0]
        return _checked(seen[0])


def seen_failures(number: int, observations: Mapping[str, Observation]) -> tuple[Failure, ...]:
    """Models that observers could not measure, each once; several may see the same."""
    seen: dict[tuple[str, str], Failure] = {}
    for observation in observations.values():
        for failure in observation.failures:
            if seen.setdefault((failure.client, failure.kind), failure) is failure:
                logger.warning("round %d: %s: %s", number, failure.client, failure.reason)
    return tuple(seen.values())


def _called(observer: Observer, view: RoundView) -> object:
    try:
        return observer(view)
    except SystemExit as error:
        raise RuntimeError(f"it wanted to end the process: {in_short(error)}") from error


def _checked(seen: object) -> Observation:
    if not isinstance(seen, Observation):
        raise TypeError(f"it returned {type(seen).__name__}, expected an Observation")
    return seen
