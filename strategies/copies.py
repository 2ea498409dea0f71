"""Copies of observed strategies, by pickle or ``copy``: the strategy alone, which records nothing.

A run folder has one writer, so what is copied, for a checkpoint or for another process, is what
Flower would have copied without us.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)

WRAPPER = "fedcircuit_wrapper"


def plain_reduction(strategy: object, protocol: Any) -> Any:
    """How to make a copy of a strategy, of the class that it had before we put ours around it.

    Parameters
    ----------
    strategy
        Its class, and those around it that are ours, say ``fedcircuit_wrapper = True``.
    protocol
        As for ``__reduce_ex__``.
    """
    warn_of_copy(strategy)
    own: Any = next(kind for kind in type(strategy).__mro__ if WRAPPER not in vars(kind))
    maker, arguments, *rest = own.__reduce_ex__(strategy, protocol)
    plain = [own if argument is type(strategy) else argument for argument in arguments]
    return (partial(maker, *plain), (), *rest)  # pickle insists on the object's own class otherwise


def warn_of_copy(strategy: object) -> None:
    """Say that the copy is not observed."""
    logger.warning(
        "a copy of this %s (pickle, copy) is made without its recorder: it records nothing. To go "
        "on recording with it, observe the copy and resume the run folder",
        type(strategy).__name__,
    )
