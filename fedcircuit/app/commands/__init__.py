"""The command line."""

from fedcircuit.app.commands import cli
from fedcircuit.app.commands.cli import main
from fedcircuit.app.commands.data_examples import EXAMPLES

__all__ = [
    "EXAMPLES",
    "cli",
    "main",
]
