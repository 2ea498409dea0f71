"""The command line: demo, run, resume, report, plot, compare, partition, verify, doctor."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    name="fedcircuit",
    help="See what federated averaging breaks: circuits of every class, in every client.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(soft_wrap=True)
_ANY_WIDTH = 10_000


def _tell_version(asked: bool | None) -> None:  # noqa: FBT001  # typer calls it so
    if asked:
        from importlib.metadata import version

        console.print(version("fedcircuit"), highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # acted on as it is read
        bool | None,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which."),
    ] = None,
) -> None:
    """See what federated averaging breaks: circuits of every class, in every client."""


StudyFile = Annotated[Path, typer.Argument(help="A study's YAML file.", metavar="STUDY")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a key: --set training.rounds=3.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; it must not exist.")]


@app.command()
def demo(out: Out = None) -> None:
    """Run a small federation on embedded data, and report on it."""
    with files("fedcircuit.app").joinpath("demo.yaml").open(encoding="utf-8") as handle:
        import yaml

        raw = yaml.safe_load(handle)
    from fedcircuit.app.config_files import parse_study

    config = parse_study(raw, where="the demo")
    clients = "; ".join(
        f"client {i} holds digits {', '.join(map(str, held))}"
        for i, held in enumerate(config.partition.classes or ())
    )
    console.print(f"Three clients, each with other digits: {clients}.", highlight=False)
    _run(config, out)


@app.command()
def run(study: StudyFile, overrides: Overrides = None, out: Out = None) -> None:
    """Run a study and report on it."""
    from fedcircuit.app.config_files import load_study

    _run(load_study(study, overrides or ()), out)


def _run(config: object, out: Path | None) -> None:
    from fedcircuit.app.config import StudyConfig
    from fedcircuit.app.federation import new_run_path, run_study
    from fedcircuit.app.progress import RoundProgress
    from fedcircuit.app.stopping import stoppable

    assert isinstance(config, StudyConfig)
    path = new_run_path(config, out)
    with stoppable(path, config.training.rounds):
        with RoundProgress(console, config.training.rounds) as progress:
            run_study(config, path, on_round=progress)
        _conclude(path)


@app.command()
def resume(
    run: RunFolder,
    rounds: Annotated[int | None, typer.Option(help="Total rounds to reach.")] = None,
) -> None:
    """Go on after the last recorded round."""
    from fedcircuit.app.federation import resume_run, study_of
    from fedcircuit.app.progress import RoundProgress
    from fedcircuit.app.stopping import stoppable
    from fedcircuit.records.run import Run

    known = Run.load(run)
    target = rounds or study_of(known.manifest, run).training.rounds
    with stoppable(run, target):
        with RoundProgress(console, target, max(known.rounds, default=0)) as progress:
            resume_run(run, rounds=rounds, on_round=progress)
        _conclude(run)


def _conclude(path: Path) -> None:
    from fedcircuit.records.run import Run
    from fedcircuit.report.page import write_report
    from fedcircuit.report.verdict_text import headline

    loaded = Run.load(path)
    console.print(f"\n{headline(loaded)}\n", highlight=False)
    console.print(f"report: {write_report(loaded)}", highlight=False)


@app.command()
def report(run: RunFolder) -> None:
    """Write report.html from what a run recorded, during the run or later."""
    _conclude(run)


@app.command()
def plot(
    run: RunFolder,
    formats: Annotated[str, typer.Option(help="Comma-separated: svg, pdf, png.")] = "svg,pdf,png",
) -> None:
    """Draw figures for papers, each with its data as CSV."""
    from fedcircuit.records.run import Run
    from fedcircuit.report.figures import write_figures

    for path in write_figures(Run.load(run), formats=tuple(formats.split(","))):
        console.print(str(path), highlight=False)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN RUN ...")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("comparison.html"),
) -> None:
    """Put runs side by side; runs of one study with other seeds become mean and spread."""
    from fedcircuit.records.run import Run
    from fedcircuit.report.compare import comparison_text, write_comparison

    loaded = [Run.load(path) for path in runs]
    console.print(comparison_text(loaded), highlight=False)
    console.print(f"page: {write_comparison(loaded, out)}", highlight=False)


@app.command()
def partition(study: StudyFile, overrides: Overrides = None) -> None:
    """Show who holds what, before any training."""
    from fedcircuit.app.config_files import load_study
    from fedcircuit.app.partition_table import partition_table

    table, notes = partition_table(load_study(study, overrides or ()))
    wide = max(console.width, Console(width=_ANY_WIDTH).measure(table).maximum)
    Console(width=wide).print(table)  # a narrow terminal wraps lines, numbers stay whole
    for note in notes:
        console.print(note, highlight=False)


@app.command()
def verify(run: RunFolder) -> None:
    """Read all of a run, check every digest, and say what is damaged."""
    from fedcircuit.records.verification import as_text, verify_run

    findings = verify_run(run)
    console.print(as_text(findings, run), highlight=False, markup=False)
    if any(finding.damage for finding in findings):
        raise typer.Exit(1)


@app.command()
def doctor(
    root: Annotated[str | None, typer.Option(help="Folder of the data to look for.")] = None,
) -> None:
    """Look at versions, memory, disk, data and leftovers before a run."""
    from fedcircuit.app.doctor import examine

    findings = examine(root)
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[red]!![/red]"
        console.print(f"{mark} {finding.topic}: {finding.text}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; expected errors become one message and exit code 1."""
    try:
        app()
    except Exception as error:
        if not is_expected(error):
            raise
        for line in (str(error), *getattr(error, "__notes__", ())):
            print(f"error: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def is_expected(error: Exception) -> bool:
    """Whether an error speaks to the user; anything else is a defect and keeps its traceback."""
    if isinstance(error, (ValueError, OSError, ImportError)):
        return True
    from fedcircuit.app.engines import EngineError
    from fedcircuit.records.store import RunError
    from fedcircuit.strategies.recorder import AllClientsFailedError

    return isinstance(error, (EngineError, RunError, AllClientsFailedError))
