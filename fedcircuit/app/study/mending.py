"""The rules of a study around its strategy."""

from __future__ import annotations

import logging
from itertools import groupby

from flwr.serverapp.strategy import Strategy

from fedcircuit.app.config import RuleConfig, StudyConfig
from fedcircuit.app.study.parts import Study
from fedcircuit.strategies import Mended

logger = logging.getLogger(__name__)


def mended(study: Study, strategy: Strategy) -> Strategy:
    """The strategy with the study's rules around it, in their order; itself where there are none.

    Rules that follow each other and mend in the same rounds share one wrapper.

    Raises
    ------
    ValueError
        If the probe does not fit the model.
    """
    _warn_of_half(study.config)
    for (every, last_only), rules in groupby(study.config.strategy.rules, _rounds):
        strategy = Mended(
            strategy,
            [config.rule() for config in rules],
            model=study.model(),
            probe=study.probe,
            n_classes=len(study.class_names),
            every=every,
            last_only=last_only,
            seed=study.config.seed,
        )
    return strategy


def _rounds(config: RuleConfig) -> tuple[int, bool]:
    return config.every, config.last_only


def _warn_of_half(config: StudyConfig) -> None:
    """Say it where clients do their part of a rule and the server does not do its own."""
    training, named = config.training, {rule.name for rule in config.strategy.rules}
    for name, asked in (("scaffold", training.scaffold), ("feddyn", training.feddyn_alpha > 0)):
        if asked and name not in named:
            logger.warning(
                "clients train for the rule %s, which strategy.rules does not name: the run is "
                "neither FedAvg nor what the rule is about",
                name,
            )
