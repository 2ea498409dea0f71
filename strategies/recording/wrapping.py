"""Classes put around strategies, and copies by pickle or ``copy``: these are the strategy alone.

A run folder has one writer, so what is copied, for a checkpoint or for another process, is what
Flower would have copied without us.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

logger = logging.getLogger(__name__)

_WRAPPER = "fedcircuit_wrapper"


def put_around(strategy: object, kind: type, name: str) -> None:
    """Make a class of ours the class of an existing strategy.

    Parameters
    ----------
    strategy
        It keeps its state; copies of it are of the class that it had before.
    kind
        A class with one base, that of the strategy: only such a one may take its place.
    name
        What the class is called.
    """
    ours: Any = kind
    ours.__name__ = ours.__qualname__ = name
    ours.fedcircuit_wrapper = True
    ours.__reduce_ex__ = plain_reduction
    become: Any = strategy
    become.__class__ = kind


def plain_reduction(strategy: object, protocol: Any) -> Any:
    """How to make a copy of a strategy, of the class that it had before we put ours around it."""
    warn_of_copy(strategy)
    own: Any = next(kind for kind in type(strategy).__mro__ if _WRAPPER not in vars(kind))
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
