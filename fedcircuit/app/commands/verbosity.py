"""How much the command line says: the last line alone, what matters, or where the seconds go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say the last line and errors only.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say more: what is done, where the seconds go.")
]


class Voice:
    """What a command says on the terminal.

    Parameters
    ----------
    console
        Where it is said.
    quiet, verbose
        As asked for on the command line.

    Raises
    ------
    typer.BadParameter
        If both are asked for.
    """

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        if quiet and verbose:
            raise typer.BadParameter("choose one of --quiet and --verbose")
        self.console, self.quiet, self.verbose = console, quiet, verbose
        self._seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """What is said unless the command is to be quiet."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False)

    def more(self, text: str) -> None:
        """What is said only if more was asked for."""
        if self.verbose:
            self.console.print(text, highlight=False, markup=False)

    def last(self, text: str) -> None:
        """The last line, which is said in any case."""
        self.console.print(text, highlight=False, markup=False)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure the wall seconds of a part of the command."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - begin})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count seconds that somebody else has measured."""
        for name, value in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + value

    def tell_seconds(self) -> None:
        """Where the seconds went, the most costly part first, if more was asked for."""
        if self._seconds:
            self.more(f"seconds: {seconds_text(self._seconds)}")


def seconds_text(seconds: Mapping[str, float]) -> str:
    """Parts with their seconds, the most costly first; those below 5 ms are left out."""
    ordered = sorted(seconds.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {value:.2f}" for name, value in ordered if value >= 0.005)
