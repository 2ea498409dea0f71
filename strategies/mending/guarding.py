"""A guard at work: whom it reaches, and what it has found."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import nn

from fedcircuit.aggregation import RuleError
from fedcircuit.circuits.probes import Probe
from fedcircuit.records.files import in_short
from fedcircuit.records.rounds import Failure
from fedcircuit.strategies.mending.applying import Memory
from fedcircuit.strategies.mending.asking import Asking
from fedcircuit.strategies.mending.guard import (
    GUARD,
    Guard,
    Verdict,
    applies,
    enough,
    remember,
    verdict_on_probe,
)
from fedcircuit.strategies.mending.reading import weights_of
from fedcircuit.strategies.nodes import Roster
from fedcircuit.strategies.preflight import WeightNames

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Where:
    """A round, to be guarded.

    Parameters
    ----------
    number, counted
        The round of the run, and as the wrapped strategy counts.
    seed
        Of the draw of clients.
    names
        Of weights.
    roster
        Of clients.
    note
        Takes what has to be recorded of clients whose answers do not count.
    """

    number: int
    counted: int
    seed: int
    names: WeightNames
    roster: Roster
    note: Callable[[Failure], None]


class Guarding:
    """Asks clients, or the probe, which of two sets of weights has the lower loss.

    Parameters
    ----------
    guard
        How it asks.
    strategy
        What draws the clients that evaluate.
    model, probe
        For a guard that asks the probe.

    Raises
    ------
    ValueError
        If that guard lacks them.
    """

    def __init__(
        self, guard: Guard, strategy: Strategy, model: nn.Module | None, probe: Probe | None
    ) -> None:
        guard.check_probe(probe)
        self.guard = guard
        self.grid: Grid | None = None  # of the round; not kept longer, as it may be a connection
        self._strategy, self._model, self._probe = strategy, model, probe
        self._config = ConfigRecord()

    def started(self, *args: Any, **kwargs: Any) -> None:
        """Take the evaluation's config from the arguments of ``start``."""
        given = inspect.signature(Strategy.start).bind_partial(self._strategy, *args, **kwargs)
        self.configured(given.arguments.get("evaluate_config"))

    def configured(self, config: ConfigRecord | None) -> None:
        """Take the evaluation's config, as clients of one's own may need what it says."""
        if config is not None:
            self._config = config.copy()

    def __getstate__(self) -> dict[str, Any]:
        """All but the Grid."""
        return {**self.__dict__, "grid": None}

    def chosen(
        self, where: Where, pair: tuple[ArrayRecord, ArrayRecord], memory: Memory,
        metrics: MetricRecord | None,
    ) -> tuple[ArrayRecord, MetricRecord]:  # fmt: skip
        """The average or the mended weights, and the metrics with the guard's figures.

        Parameters
        ----------
        where
            The round.
        pair
            The strategy's own average, and what rules made of it.
        memory
            Takes the verdict, which holds until the next.
        metrics
            The strategy's own.

        Raises
        ------
        RuleError
            If there is no verdict; the next round then asks again, as the last one is too old.
        """
        if self.guard.asks(where.number, memory):
            verdict = self._verdict(where, pair)
            for client, why in verdict.silent.items():
                where.note(Failure(client, GUARD, why))
            enough(self.guard, verdict)
            remember(memory, where.number, verdict)
            figures = verdict.figures()
            logger.info("round %d, guard: %s", where.number, verdict)
        else:
            figures = {f"{GUARD}-applied": int(applies(memory))}
        both = MetricRecord({**({} if metrics is None else metrics), **figures})
        return pair[applies(memory)], both

    def _verdict(self, where: Where, pair: tuple[ArrayRecord, ArrayRecord]) -> Verdict:
        """What is found of the two; whatever fails costs the round nothing."""
        try:
            if self.guard.on == "probe" and self._model is not None and self._probe is not None:
                average, mended = (weights_of(arrays, where.names) for arrays in pair)
                return verdict_on_probe(self._model, self._probe, average, mended)
            if self.grid is None:
                raise RuleError(GUARD, "needs the Grid that configure_train is given")
            name = where.roster.name
            asking = Asking(self.guard, self._strategy, self.grid, self._config, name)
            return asking.verdict(where.counted, where.seed, *pair)
        except RuleError:
            raise
        except Exception as error:
            raise RuleError(GUARD, f"it failed with {in_short(error)}") from error
