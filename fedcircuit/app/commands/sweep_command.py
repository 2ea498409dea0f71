"""The commands ``fedcircuit sweep`` and ``fedcircuit compare``: many runs made and side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fedcircuit.app.commands import completion
from fedcircuit.app.commands.verbosity import Quiet, Verbose, Voice

if TYPE_CHECKING:
    from fedcircuit.app.sweeps import Event

SWEEP_EXAMPLE = (
    "Example: fedcircuit sweep study.yaml --seeds 0-4 --arm fedavg= --arm prox=strategy.name="
    "fedprox,training.proximal_mu=0.1 --out runs/prox"
)
COMPARE_EXAMPLE = (
    "Example: fedcircuit compare runs/seed0 runs/seed1 --out seeds.html; "
    "fedcircuit compare runs/prox"
)


def sweep(
    study: Annotated[
        Path,
        typer.Argument(
            help="A study's YAML file.", metavar="STUDY", autocompletion=completion.study_files
        ),
    ],
    seeds: Annotated[str, typer.Option(help="Such as 0-4 or 0,3,7-9.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs, new or of the same sweep.")],
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            help="NAME=FILE.yaml, NAME=key=value,key=value or NAME= (the study as it is); once "
            "for each arm, the first is what others are compared with.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of all arms.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, in processes.")] = 1,
    *,
    unpaired: Annotated[
        bool,
        typer.Option("--unpaired", help="Arms may differ in data, partition, model and probe."),
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run whole federations of several arms, paired by seed; the same command goes on."""
    voice = Voice(Console(soft_wrap=True), quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        from fedcircuit.app.commands.stopping import stoppable
        from fedcircuit.app.sweeps import parse_arms, parse_seeds, plan_sweep, run_sweep
    with stoppable(out, 0, words="stopped; the same command goes on where it was"):
        with voice.part("plan"):
            configs = parse_arms(study, arms or (), overrides or ())
            plan = plan_sweep(configs, parse_seeds(seeds), out, unpaired=unpaired)
        with SweepProgress(voice, len(plan.tasks)) as progress, voice.part("runs"):
            run_sweep(plan, jobs=jobs, on_event=progress, on_start=progress.begin)
        _conclude(out, None, voice)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, or the folder of a sweep.",
            metavar="RUN RUN ...",
            autocompletion=completion.run_folders,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Page to write; left out: comparison.html, or sweep.html in the sweep."),
    ] = None,
    *,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Put runs, or the arms of a sweep, side by side, with mean and spread over seeds."""
    voice = Voice(Console(soft_wrap=True), quiet=quiet, verbose=verbose)
    with voice.part("imports"):
        from fedcircuit.records.runs import Run
        from fedcircuit.records.sweeps import is_sweep
        from fedcircuit.report.page import comparison_text, write_comparison
    if _one_sweep(runs, [is_sweep(path) for path in runs]):
        _conclude(runs[0], out, voice)
        return
    with voice.part("comparison"):
        loaded = [Run.load(path) for path in runs]
        text = comparison_text(loaded)
        page = write_comparison(loaded, Path("comparison.html") if out is None else out)
    voice.say(text)
    voice.tell_seconds()
    voice.last(f"page: {page}")


def _one_sweep(paths: Sequence[Path], sweeps: Sequence[bool]) -> bool:
    if any(sweeps) and len(paths) > 1:
        raise ValueError(
            f"{paths[sweeps.index(True)]} is the folder of a sweep, which is compared alone: name "
            "it without other folders, or name single runs in it"
        )
    return any(sweeps)


def _conclude(path: Path, out: Path | None, voice: Voice) -> None:
    with voice.part("imports"):
        from fedcircuit.records.sweeps import read_sweep
        from fedcircuit.report.sweeps import sweep_text, write_sweep_report
    with voice.part("comparison"):
        page, found = write_sweep_report(read_sweep(path), out)
    voice.say(f"\n{sweep_text(found)}\n")
    voice.tell_seconds()
    voice.last(f"page: {page}")


class SweepProgress:
    """Shows a bar over all runs on a terminal, and a line for every run that ends."""

    def __init__(self, voice: Voice, n_runs: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed

        self._voice, self._n_runs, self._ended = voice, n_runs, 0
        self._last: dict[tuple[str, int], str] = {}
        self._bar = Progress(
            TextColumn("runs"),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
            TextColumn("{task.description}"),
            console=voice.console,
            transient=True,
            disable=not voice.console.is_terminal or voice.quiet,
        )
        self._task = self._bar.add_task("", total=n_runs)

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, finished: int) -> None:
        """Say how many runs are there already."""
        self._ended = finished
        self._voice.say(f"{finished} of {self._n_runs} runs are finished")
        self._bar.update(self._task, completed=finished)

    def __call__(self, event: Event) -> None:
        """Show what has come of a run."""
        run = f"{event.arm}, seed {event.seed}"
        if event.kind == "round":
            self._last[event.arm, event.seed] = event.text
            self._voice.more(f"{run}: {event.text}")
            self._bar.update(self._task, description=f"{run}: round {event.round}")
            return
        if event.kind == "failed":
            self._voice.last(f"{run}: failed: {event.text}")
            return
        self._ended += 1
        last = self._last.pop((event.arm, event.seed), "was finished")
        self._voice.say(f"{run}: {last}  ({self._ended} of {self._n_runs} runs)")
        self._bar.update(self._task, completed=self._ended, description="")
