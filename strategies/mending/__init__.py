"""Rules that mend what a strategy has averaged, around any message-based strategy."""

from fedcircuit.strategies.mending.applying import Memory, Mend, mend, state_of
from fedcircuit.strategies.mending.guard import Guard
from fedcircuit.strategies.mending.mended import Mended
from fedcircuit.strategies.mending.preparing import as_rule, given, warn_of_noise
from fedcircuit.strategies.mending.reading import READING, updates_of

__all__ = [
    "READING",
    "Guard",
    "Memory",
    "Mend",
    "Mended",
    "as_rule",
    "given",
    "mend",
    "state_of",
    "updates_of",
    "warn_of_noise",
]
