"""The command ``fedcircuit what-if``: recorded updates under other aggregation rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedcircuit.app.commands import completion
from fedcircuit.app.commands.verbosity import Quiet, Voice

EXAMPLE = "Example: fedcircuit what-if runs/first --every 5 --rules ccvr,ties --csv rules.csv"


def what_if(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run's folder.", metavar="RUN", autocompletion=completion.run_folders
        ),
    ],
    rules: Annotated[str | None, typer.Option(help="Such as ccvr,ties; left out: all.")] = None,
    round_: Annotated[int | None, typer.Option("--round", help="One round.")] = None,
    rounds: Annotated[str | None, typer.Option(help="Several, such as 1,4,8.")] = None,
    every: Annotated[int | None, typer.Option(help="All rounds that this divides.")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write the table there too, recall by class in it.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=0, help="Measure on at most so many test samples; 0: all, left out: 2000."
        ),
    ] = None,
    *,
    last: Annotated[bool, typer.Option("--last", help="The last round, as without it.")] = False,
    verdicts: Annotated[
        bool, typer.Option(help="Judge the clients' circuits in every new model.")
    ] = True,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Show every class's recall.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Aggregate recorded updates again under other rules: one step ahead, without training."""
    from fedcircuit.app.mending import Rounds, asked_for, tell

    named = Rounds(round_, rounds, last, every)
    found = asked_for(run, rules, named, verdicts=verdicts, samples=samples)
    tell(found, Voice(Console(soft_wrap=True), quiet=quiet), csv, by_class=by_class)
