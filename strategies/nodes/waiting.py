"""Waiting for nodes: said aloud, and not for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from flwr.serverapp import Grid

logger = logging.getLogger(__name__)

SAY_SECONDS = 15.0  # between two lines about the same wait
POLL_SECONDS = (0.1, 3.0)  # shortest and longest pause between two looks at the nodes
_MOST_NAMES = 10


def _nobody() -> Mapping[int, str]:
    return {}


@dataclass
class NodeWait:
    """One wait for nodes: who counts them notes every count here.

    Parameters
    ----------
    limit
        Seconds after which it gives up.
    wanted
        Number of nodes waited for; None where only the strategy knows it.
    names
        Clients by node id, as far as they are known: who was there before and is missing.
    every
        Seconds between two lines that say so.
    """

    limit: float
    wanted: int | None = None
    names: Callable[[], Mapping[int, str]] = _nobody
    every: float = SAY_SECONDS
    _begin: float | None = field(default=None, init=False)
    _said: float = field(default=0.0, init=False)

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return 0.0 if self._begin is None else time.monotonic() - self._begin

    def note(self, here: Collection[int]) -> None:
        """Take note that these nodes were counted, and somebody may go on waiting.

        Raises
        ------
        TimeoutError
            If the limit is over.
        """
        if self._begin is None:
            self._begin = self._said = time.monotonic()
            return
        if self.wanted is not None and len(here) >= self.wanted:
            return
        if self.seconds >= self.limit:
            raise TimeoutError(
                f"gave up after {self.seconds:.0f} s of waiting for nodes: {self._who(here)}. "
                "Start those that are missing, ask for fewer (min_available_nodes), or wait longer "
                "(RecorderOptions.node_timeout); the rounds recorded so far are kept"
            )
        if time.monotonic() - self._said >= self.every:
            self._said = time.monotonic()
            logger.warning("waiting for nodes for %.0f s: %s", self.seconds, self._who(here))

    def pause(self) -> float:
        """Seconds until the next look: soon at first, later seldom."""
        shortest, longest = POLL_SECONDS
        return min(longest, max(shortest, self.seconds / 10))

    def _who(self, here: Collection[int]) -> str:
        of = "" if self.wanted is None else f" of {self.wanted}"
        text = f"{len(here)}{of} are there"
        missing = sorted(name for node, name in self.names().items() if node not in set(here))
        if missing:
            more = f" and {len(missing) - _MOST_NAMES} more" if len(missing) > _MOST_NAMES else ""
            text += f", missing is client {', '.join(missing[:_MOST_NAMES])}{more}"
        return text


@contextmanager
def telling(what: str, every: float = SAY_SECONDS) -> Iterator[None]:
    """Say every so many seconds that something in the block is still waited for, and for how long.

    For calls that only return when they are done, as those of Flower's Grids.
    """
    begin, over = time.monotonic(), threading.Event()

    def tell() -> None:
        while not over.wait(every):
            logger.warning("%s: %.0f s by now", what, time.monotonic() - begin)

    thread = threading.Thread(target=tell, name="fedcircuit-telling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def wait_for_nodes(grid: Grid, wait: NodeWait) -> None:
    """Return when the wanted number of nodes is there; at the start of a run there may be none.

    Raises
    ------
    TimeoutError
        If they do not come in time.
    """
    while len(here := list(grid.get_node_ids())) < (wait.wanted or 0):
        wait.note(here)
        time.sleep(wait.pause())
