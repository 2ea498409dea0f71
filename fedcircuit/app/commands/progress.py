"""What a person sees while a federation runs: a bar on a terminal, a line a round elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fedcircuit.app.commands.verbosity import Voice, seconds_text
from fedcircuit.app.config import StudyConfig
from fedcircuit.app.study import round_line
from fedcircuit.records.rounds import RoundRecord


class RoundProgress:
    """Shows every recorded round of a run, and with more asked for where its seconds went."""

    def __init__(self, voice: Voice, rounds: int, done: int = 0) -> None:
        self._voice, self._rounds = voice, rounds
        self._bar: Progress | None = None
        if voice.console.is_terminal and not voice.quiet:
            self._bar = Progress(
                TextColumn("rounds"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=voice.console,
                transient=True,
            )
            self._task = self._bar.add_task("rounds", total=rounds, completed=done)

    def __enter__(self) -> RoundProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, record: RoundRecord) -> None:
        """Show one round; the start, round 0, has nothing to show."""
        if record.round == 0:
            return
        self._voice.say(round_line(record, self._rounds))
        self._voice.more(f"  seconds: {seconds_text(record.seconds)}")
        self._voice.add(record.seconds)
        if self._bar is not None:
            self._bar.update(self._task, completed=record.round)


def study_text(config: StudyConfig) -> str:
    """What a study does, in two lines."""
    training, circuits = config.training, config.circuits
    work = f"{training.steps} steps" if training.steps else f"{training.epochs or 1} epochs"
    sparse = f", sparsity {training.sparsity.target:g}" if training.sparsity else ""
    looked = f"circuits by {circuits.method}" if circuits.enabled else "no circuits"
    return (
        f"{config.name}, seed {config.seed}: {config.data.name} over {config.n_clients} clients "
        f"({config.partition.kind}), {config.model.name}{sparse}\n"
        f"{config.strategy.name}, {training.rounds} rounds of {work} with {training.optimizer} "
        f"(lr {training.lr:g}), {looked}, engine {config.engine.name}"
    )
