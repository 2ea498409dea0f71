"""The command line."""

from fedcircuit.app.commands import cli
from fedcircuit.app.commands.cli import main

__all__ = [
    "cli",
    "main",
]
