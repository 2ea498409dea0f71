"""Which errors speak to the user."""

from __future__ import annotations


def is_expected(error: Exception) -> bool:
    """Whether an error speaks to the user; anything else is a defect and keeps its traceback."""
    if isinstance(error, (ValueError, OSError, ImportError)):
        return True
    from fedcircuit.app.engines import EngineError
    from fedcircuit.records.files import RunError
    from fedcircuit.strategies.replies import AllClientsFailedError

    return isinstance(error, (EngineError, RunError, AllClientsFailedError))
