"""How a recorder behaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedcircuit.records.rounds import RoundRecord


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
        Stop with an error when no reply of a round is usable, or a round cannot be recorded.
        Otherwise both are logged and the federation goes on, as it would without us. None is
        False for ``observe``, True for ``CircuitFedAvg``.
    identify
        Ask every client for its partition by a query message before the first round. Without it,
        and where a client does not answer, clients are named by their nodes.
    node_timeout
        Seconds to wait for as many nodes as the strategy asks for before a round; every 15 s a
        line says for whom. Then the run ends with a TimeoutError. 0 gives up at the second look.
    reproducible_sampling
        Draw clients from (seed, round) in the stable order of their identities; else as the
        strategy does, from Python's global random state.
    check_replies
        Set replies aside that do not fit the weights sent, are not finite or count no examples.
        Turn it off for strategies whose clients send something else than whole models.
    max_num_examples
        Replies that count more examples than this are set aside; None is no limit.
    max_abs_weight
        Replies with a weight beyond this are set aside; None is no limit.
    observer_seconds
        Seconds an observer may take in a round. One that takes longer is left to itself, its error
        is recorded, and it sees no further round until it has ended; None waits for every observer.
    hidden_updates
        The server never sees a client's own weights (secure aggregation): record who took part
        and the average alone. Flower's own secure aggregation is recognised without it.
    on_round
        Called with every recorded round, such as to show progress.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    seed: int = 0
    round_offset: int = 0
    strict: bool = False
    fail_when_all_fail: bool | None = None
    identify: bool = True
    node_timeout: float = 3600.0
    reproducible_sampling: bool = True
    check_replies: bool = True
    max_num_examples: float | None = 1e12
    max_abs_weight: float | None = 1e12
    observer_seconds: float | None = None
    hidden_updates: bool = False
    on_round: Callable[[RoundRecord], None] | None = None

    def __post_init__(self) -> None:
        if not self.node_timeout >= 0:
            raise ValueError(f"node_timeout must be >= 0 seconds, got {self.node_timeout}")
        for name in ("max_num_examples", "max_abs_weight", "observer_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be > 0, or None for no limit, got {value}")
