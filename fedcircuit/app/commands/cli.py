"""The command line: its door, and every command that has no file of its own."""

from __future__ import annotations

import gc
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fedcircuit.app.commands import completion, sweep_command, what_if_command
from fedcircuit.app.commands.verbosity import Quiet, Verbose, Voice

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcircuit.app.config import StudyConfig
    from fedcircuit.records.runs import Run

app = typer.Typer(
    name="fedcircuit",
    help="See what federated averaging breaks: circuits of every class, in every client.",
    no_args_is_help=True,
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


StudyFile = Annotated[
    Path,
    typer.Argument(
        help="A study's YAML file.", metavar="STUDY", autocompletion=completion.study_files
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(help="A run's folder.", metavar="RUN", autocompletion=completion.run_folders),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a key: --set training.rounds=3.")
]
Looked = Annotated[
    str | None,
    typer.Option("--look", help="A later look at the run.", autocompletion=completion.looks),
]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; it must not exist.")]


@app.command(epilog="Example: fedcircuit demo --out first")
def demo(out: Out = None, *, verbose: Verbose = False, quiet: Quiet = False) -> None:
    """Run a small federation on embedded data, and report on it."""
    voice = Voice(console, quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        import yaml

        from fedcircuit.app.commands.demo import introduction, what_one_sees
        from fedcircuit.app.config import parse_study
    text = files("fedcircuit.app.commands").joinpath("demo.yaml").read_text(encoding="utf-8")
    config = parse_study(yaml.safe_load(text), where="the demo")
    voice.say(introduction(config))
    _run(config, out, voice, seen=what_one_sees)


@app.command(epilog="Example: fedcircuit run study.yaml --set training.rounds=3 --out runs/first")
def run(
    study: StudyFile,
    overrides: Overrides = None,
    out: Out = None,
    *,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run a study and report on it."""
    voice = Voice(console, quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        from fedcircuit.app.config import load_study
    _run(load_study(study, overrides or ()), out, voice)


def _run(
    config: StudyConfig, out: Path | None, voice: Voice, seen: Callable[[Run], str] | None = None
) -> None:
    with voice.part("imports"):
        from fedcircuit.app.commands.progress import RoundProgress, study_text
        from fedcircuit.app.commands.stopping import stoppable
        from fedcircuit.app.study import new_run_path, run_study
    path = new_run_path(config, out)
    voice.more(f"{study_text(config)}\nrun folder: {path}")
    with stoppable(path, config.training.rounds):
        with RoundProgress(voice, config.training.rounds) as progress:
            run_study(config, path, on_round=progress)
        _conclude(path, voice, seen)


@app.command(epilog="Example: fedcircuit resume runs/first --rounds 10")
def resume(
    run: RunFolder,
    rounds: Annotated[int | None, typer.Option(help="Total rounds to reach.")] = None,
    *,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Go on after the last recorded round."""
    voice = Voice(console, quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        from fedcircuit.app.commands.progress import RoundProgress, study_text
        from fedcircuit.app.commands.stopping import stoppable
        from fedcircuit.app.study import resume_run, study_of
        from fedcircuit.records.runs import Run
    known = Run.load(run)
    study = study_of(known.manifest, run)
    target, done = rounds or study.training.rounds, max(known.rounds, default=0)
    voice.more(f"{study_text(study)}\nrun folder: {run}, {done} rounds recorded")
    with stoppable(run, target):
        with RoundProgress(voice, target, done) as progress:
            resume_run(run, rounds=rounds, on_round=progress)
        _conclude(run, voice)


def _conclude(
    path: Path,
    voice: Voice,
    seen: Callable[[Run], str] | None = None,
    *,
    look: str | None = None,
) -> None:
    with voice.part("imports"):
        from fedcircuit.records.runs import Run
        from fedcircuit.report.page import write_report
        from fedcircuit.report.tables import headline
    with voice.part("report"):
        loaded = Run.load(path) if look is None else Run.load(path).look(look)
        page = write_report(loaded)
    voice.say(f"\n{headline(loaded)}\n")
    if seen is not None:
        voice.say(f"{seen(loaded)}\n")
    voice.tell_seconds()
    voice.last(f"report: {page}")


@app.command(
    epilog="Example: fedcircuit look runs/first --set circuits.method=gates --name gates --rounds 4"
)
def look(
    run: RunFolder,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Of the look, below RUN/looks.")] = None,
    rounds: Annotated[str | None, typer.Option(help="Rounds to look at, such as 1,4,8.")] = None,
    *,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Look again at the recorded weights with other settings, without training."""
    voice = Voice(console, quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        from fedcircuit.app.commands.look_command import look_with_progress
    _conclude(look_with_progress(run, overrides or (), name, rounds, voice), voice)


@app.command(epilog="Example: fedcircuit report runs/first")
def report(
    run: RunFolder, look: Looked = None, *, verbose: Verbose = False, quiet: Quiet = False
) -> None:
    """Write report.html from what a run or a later look recorded, during the run or later."""
    _conclude(run, Voice(console, quiet=quiet, verbose=verbose), look=look)


@app.command(epilog="Example: fedcircuit plot runs/first --formats pdf")
def plot(
    run: RunFolder,
    formats: Annotated[
        str,
        typer.Option(help="Comma-separated: svg, pdf, png.", autocompletion=completion.formats),
    ] = "svg,pdf,png",
    look: Looked = None,
    *,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Draw figures for papers, each with its data as CSV."""
    voice = Voice(console, quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        from fedcircuit.records.runs import Run
        from fedcircuit.report.figures import write_figures
    with voice.part("figures"):
        loaded = Run.load(run) if look is None else Run.load(run).look(look)
        written = write_figures(loaded, formats=tuple(formats.split(",")))
    for path in written[:-1]:
        voice.say(str(path))
    voice.tell_seconds()
    voice.last(str(written[-1]))


sweep = app.command(epilog=sweep_command.SWEEP_EXAMPLE)(sweep_command.sweep)
compare = app.command(epilog=sweep_command.COMPARE_EXAMPLE)(sweep_command.compare)
what_if = app.command(name="what-if", epilog=what_if_command.EXAMPLE)(what_if_command.what_if)


@app.command(epilog="Example: fedcircuit partition study.yaml --set partition.clients=10")
def partition(study: StudyFile, overrides: Overrides = None) -> None:
    """Show who holds what, before any training."""
    from fedcircuit.app.commands.partition_table import partition_table
    from fedcircuit.app.config import load_study

    table, notes = partition_table(load_study(study, overrides or ()))
    wide = max(console.width, Console(width=_ANY_WIDTH).measure(table).maximum)
    Console(width=wide).print(table)  # a narrow terminal wraps lines, numbers stay whole
    for note in notes:
        console.print(note, highlight=False)


@app.command(epilog="Example: fedcircuit verify runs/first")
def verify(run: RunFolder, *, quiet: Quiet = False) -> None:
    """Read all of a run, check every digest, and say what is damaged."""
    from fedcircuit.records.runs import as_text, verify_run

    voice = Voice(console, quiet=quiet)
    findings = verify_run(run)
    *lines, end = as_text(findings, run).splitlines()
    for line in lines:
        voice.say(line)
    voice.last(end)
    if any(finding.damage for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: fedcircuit doctor --root data")
def doctor(
    root: Annotated[str | None, typer.Option(help="Folder of the data to look for.")] = None,
    *,
    quiet: Quiet = False,
) -> None:
    """Look at versions, memory, disk, data and leftovers before a run."""
    from fedcircuit.app.commands.doctor import examine

    findings = examine(root)
    for finding in findings:
        if quiet and finding.ok:
            continue
        mark = "[green]ok[/green]" if finding.ok else "[red]!![/red]"
        console.print(f"{mark} {finding.topic}: {finding.text}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def is_expected(error: Exception) -> bool:
    """Whether an error speaks to the user; anything else is a defect and keeps its traceback."""
    if isinstance(error, (ValueError, OSError, ImportError)):
        return True
    from fedcircuit.app.engines import EngineError
    from fedcircuit.records.files import RunError
    from fedcircuit.strategies.replies import AllClientsFailedError

    return isinstance(error, (EngineError, RunError, AllClientsFailedError))


def main() -> None:
    """Run the command line; expected errors become one message and exit code 1."""
    gc.set_threshold(100_000, 50, 100)  # imports make many objects and hardly any garbage
    try:
        app()
    except Exception as error:
        if not is_expected(error):
            raise
        for line in (str(error), *getattr(error, "__notes__", ())):
            print(f"error: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
