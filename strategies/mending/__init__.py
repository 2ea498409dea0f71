"""Rules that mend what a strategy has averaged, around any message-based strategy."""

from fedcircuit.strategies.mending.guard import Guard
from fedcircuit.strategies.mending.mended import Mended

__all__ = ["Guard", "Mended"]
