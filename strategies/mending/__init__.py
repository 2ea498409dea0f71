"""Rules that mend what a strategy has averaged, around any message-based strategy."""

from fedcircuit.strategies.mending.applying import Mend, mend
from fedcircuit.strategies.mending.mended import Mended

__all__ = ["Mend", "Mended", "mend"]
