"""Copies of observed strategies, by pickle or ``copy``: the strategy alone, which records nothing.

A run folder has one writer, so what is copied, for a checkpoint or for another process, is what
Flower would have copied without us.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)


def plain_reduction(observed: type, strategy: object, protocol: Any) -> Any:
    """How to make a copy of a strategy, of the class that it had before it was observed.

    Parameters
    ----------
    observed
        The class that observes; its one base is the strategy's own.
    strategy
        An instance of it.
    protocol
        As for ``__reduce_ex__``.
    """
    warn_of_copy(strategy)
    base: Any = observed.__bases__[0]
    maker, arguments, *rest = base.__reduce_ex__(strategy, protocol)
    own = [base if argument is observed else argument for argument in arguments]
    return (partial(maker, *own), (), *rest)  # pickle insists on the object's own class otherwise


def warn_of_copy(strategy: object) -> None:
    """Say that the copy is not observed."""
    logger.warning(
        "a copy of this %s (pickle, copy) is made without its recorder: it records nothing. To go "
        "on recording with it, observe the copy and resume the run folder",
        type(strategy).__name__,
    )
