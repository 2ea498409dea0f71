"""The command line."""

from fedcircuit.app.commands import cli
from fedcircuit.app.commands.cli import main
from fedcircuit.app.commands.data_examples import EXAMPLES
from fedcircuit.app.commands.progress import round_line

__all__ = [
    "EXAMPLES",
    "cli",
    "main",
    "round_line",
]
