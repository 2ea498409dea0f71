"""A safety net under rules: mended weights go on only where they have the lower loss.

The question is put inside the aggregation, over the Grid that ``configure_train`` was given: what a
strategy's ``aggregate_train`` returns is what is recorded, observed, evaluated and sent next, and
in Flower's own evaluation, which comes after it, a choice would be one round late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import nn

from fedcircuit.aggregation import RuleError, loaded
from fedcircuit.circuits.probes import Probe
from fedcircuit.learning import Weights
from fedcircuit.learning.training import evaluate
from fedcircuit.strategies.mending.applying import Memory

GUARD = "guard"  # stands for a rule in errors, and begins the names of what is remembered and said
_ASKED, _APPLIED = f"{GUARD}/asked", f"{GUARD}/applied"


@dataclass(frozen=True)
class Guard:
    """Keep what rules made of an average only if its loss is lower than the average's own.

    In guarded rounds each of the clients that the wrapped strategy's ``configure_evaluate`` draws
    gets two downloads, the strategy's own average and the mended weights, and evaluates both. The
    one with the lower federated loss goes on: the mean over clients weighted by the examples they
    evaluated on, over those that answered for both. A tie keeps the average. Until the next
    guarded round the verdict holds.

    Parameters
    ----------
    every
        Rounds from one question to the next, >= 1; the first mended round is always guarded.
    on
        ``clients``, or ``probe``: nobody is asked, the loss is that on the half of the server's
        probe that rules are not given. Observers measure on that half too.
    loss
        The metric of the clients' evaluation replies that is compared.
    held_out
        Clients of ours that have no samples but those they train on refuse; False: they measure on
        those. Other clients have to see to it themselves.
    min_clients
        How many must have answered for both; if fewer have, the round goes on with the average,
        the reason is recorded, and the next mended round is guarded.
    timeout
        Seconds that clients have for each of the two downloads.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    every: int = 1
    on: Literal["clients", "probe"] = "clients"
    loss: str = "loss"
    held_out: bool = True
    min_clients: int = 1
    timeout: float = 3600.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every of the guard must be >= 1 round, got {self.every}")
        if self.on not in ("clients", "probe"):
            raise ValueError(f"on of the guard must be 'clients' or 'probe', got {self.on!r}")
        if self.min_clients < 1:
            raise ValueError(f"min_clients of the guard must be >= 1, got {self.min_clients}")
        if not self.timeout > 0:
            raise ValueError(f"timeout of the guard must be > 0 seconds, got {self.timeout}")

    def asks(self, number: int, memory: Memory) -> bool:
        """Whether a round is guarded: no verdict is held, or it is ``every`` rounds old."""
        asked = memory.get(_ASKED)
        return asked is None or not int(asked) < number < int(asked) + self.every

    def check_probe(self, probe: Probe | None) -> None:
        """Refuse to measure on a probe that is not there.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.on == "probe" and probe is None:
            raise ValueError("Guard(on='probe') needs a probe: give Mended model and probe too")


@dataclass(frozen=True)
class Answer:
    """What one client's evaluation of some weights says.

    Parameters
    ----------
    n
        Examples it evaluated on, > 0.
    loss
        Mean over these; may be NaN or infinite.
    """

    n: float
    loss: float


@dataclass(frozen=True)
class Verdict:
    """Federated losses of the strategy's own average and of the mended weights.

    A loss is infinite where that of a client is not finite.

    Parameters
    ----------
    average, mended
        Losses.
    n_clients
        How many answered for both; 0 where the probe was asked.
    silent
        By client, why its answers do not count.
    """

    average: float
    mended: float
    n_clients: int
    silent: Mapping[str, str] = field(default_factory=dict)

    @property
    def applied(self) -> bool:
        """Whether the mended weights go on."""
        return self.mended < self.average

    def __str__(self) -> str:
        who = f"{self.n_clients} clients" if self.n_clients else "the probe"
        of = f"loss {self.average:.6g} of the average, {self.mended:.6g} mended, of {who}"
        return f"{of}; {'mended weights go' if self.applied else 'the average goes'} on"

    def figures(self) -> dict[str, float | int]:
        """What is recorded among the round's metrics."""
        return {
            f"{GUARD}-loss-average": self.average,
            f"{GUARD}-loss-mended": self.mended,
            f"{GUARD}-clients": self.n_clients,
            f"{GUARD}-applied": int(self.applied),
        }


def verdict_of(answers: Mapping[str, tuple[Answer | str, Answer | str]]) -> Verdict:
    """The verdict on the answers for the average and for the mended weights, by client.

    A client counts if it answered for both on as many examples, with a finite loss for one of them
    at least; in place of an answer there may be the reason why there is none. With no client that
    counts both losses are NaN, and nothing is applied.
    """
    counted: list[tuple[Answer, Answer]] = []
    silent: dict[str, str] = {}
    for client, (average, mended) in answers.items():
        if isinstance(average, str) or isinstance(mended, str):
            silent[client] = average if isinstance(average, str) else str(mended)
        elif average.n != mended.n:
            silent[client] = f"it evaluated on {average.n:g} and then on {mended.n:g} examples"
        elif not (math.isfinite(average.loss) or math.isfinite(mended.loss)):
            silent[client] = f"its losses are {average.loss} and {mended.loss}"
        else:
            counted.append((average, mended))
    return Verdict(
        _federated([average for average, _ in counted]),
        _federated([mended for _, mended in counted]),
        len(counted),
        silent,
    )


def _federated(answers: list[Answer]) -> float:
    """The mean loss over examples, whatever the order of clients; infinite where one is no number.

    NaN without answers.
    """
    if not answers:
        return math.nan
    if not all(math.isfinite(answer.loss) for answer in answers):
        return math.inf
    return math.fsum(a.n * a.loss for a in answers) / math.fsum(a.n for a in answers)


def verdict_on_probe(model: nn.Module, probe: Probe, average: Weights, mended: Weights) -> Verdict:
    """The verdict on the checking half of a probe, in float64 and eval mode.

    Raises
    ------
    RuleError
        If the weights do not fit the model.
    """
    losses = [
        evaluate(loaded(GUARD, model, weights), probe.checking, n_classes=probe.n_classes).loss
        for weights in (average, mended)
    ]
    one, other = (loss if math.isfinite(loss) else math.inf for loss in losses)
    return Verdict(one, other, 0)


def remember(memory: Memory, number: int, verdict: Verdict) -> None:
    """Keep a verdict until the next."""
    memory.update({_ASKED: np.array(number), _APPLIED: np.array(verdict.applied)})


def held(memory: Memory) -> Memory:
    """The entries of a memory that are the guard's."""
    return {name: values for name, values in memory.items() if name in (_ASKED, _APPLIED)}


def applies(memory: Memory) -> bool:
    """Whether the verdict that is held lets mended weights go on."""
    return bool(memory[_APPLIED])


def enough(guard: Guard, verdict: Verdict) -> None:
    """Refuse to decide by the answers of too few.

    Raises
    ------
    RuleError
        If fewer than ``min_clients`` clients answered for both.
    """
    if guard.on == "probe" or verdict.n_clients >= guard.min_clients:
        return
    first = next((f": client {who}: {why}" for who, why in verdict.silent.items()), "")
    raise RuleError(
        GUARD,
        f"needs {guard.min_clients} clients that evaluate both weights, got {verdict.n_clients} of "
        f"{verdict.n_clients + len(verdict.silent)} asked{first}",
    )
