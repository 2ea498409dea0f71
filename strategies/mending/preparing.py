"""What is settled before rules are used: which they are, and what they are given in a round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from fedcircuit import messages
from fedcircuit.aggregation import Rule, Setting, Updates, named
from fedcircuit.samples import Samples
from fedcircuit.strategies.mending.reading import circuits_said

logger = logging.getLogger(__name__)


def as_rule(one: Rule | str) -> Rule:
    """A rule, of its name where that is given.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If no rule has this name.
    """
    if isinstance(one, str):
        return named.rule(one)
    known = callable(one) and isinstance(getattr(one, "name", None), str)
    if isinstance(one, type) or not known:
        raise TypeError(
            "rules must be names or rules (fedcircuit.aggregation.Rule), such as 'ccvr' or CCVR(), "
            f"got {one!r}"
        )
    return one


def given(known: Setting, updates: Updates) -> Setting:
    """The setting of a round: with the circuits, and the number of classes, that clients say."""
    n_classes = known.n_classes or _n_classes(updates, known.probe)
    return replace(known, n_classes=n_classes, masks=circuits_said(updates))


def _n_classes(updates: Updates, probe: Samples | None) -> int | None:
    counts = updates.clients[0].said.get(messages.CLASS_COUNTS)
    if isinstance(counts, list):
        return len(counts)
    if isinstance(counts, bytes):  # of float64, as a NumPyClient says them
        return len(counts) // 8
    return None if probe is None or not len(probe) else int(probe.labels.max()) + 1


def warn_of_noise(strategy: object, rules: Sequence[Rule]) -> None:
    """Noise that is added to the average is not in what rules make of the updates."""
    kinds = [kind.__name__ for kind in type(strategy).__mro__]
    if rules and any(name.startswith("DifferentialPrivacyServerSide") for name in kinds):
        logger.warning(
            "%s adds its noise to the average alone; rules read every client's own update, and "
            "what they make of it has no noise. Put the noise around them: DP(Mended(...))",
            kinds[0],
        )


def depth_of(strategy: object, kind: type) -> int:
    """How many of a kind are among the strategies that a strategy is made of."""
    inner = vars(strategy).get("strategy")
    return isinstance(strategy, kind) + (0 if inner is None else depth_of(inner, kind))
