"""The command ``fedcircuit look``: a look with progress, and how to go on when it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedcircuit.app.commands.progress import RoundProgress
from fedcircuit.app.commands.stopping import stoppable
from fedcircuit.app.commands.verbosity import Voice
from fedcircuit.app.config import ConfigError
from fedcircuit.app.study import look
from fedcircuit.records.runs import Run, look_names


def look_with_progress(
    path: Path, overrides: Sequence[str], name: str | None, rounds: str | None, voice: Voice
) -> Path:
    """Look at a run and show every round; the folder of the look.

    Raises
    ------
    ConfigError
        If ``rounds`` is no list of numbers, or a setting would need training anew.
    RunError
        As `fedcircuit.app.study.look`.
    """
    run = Run.load(path)
    chosen = None if rounds is None else numbers(rounds)
    known = look_names(run.path)
    if run.manifest.get("storage", {}).get("updates") == "none":
        voice.say(
            "the run keeps no client weights (storage.updates none): only the global model can be "
            "looked at, without verdicts and overlaps"
        )
    go_on = "stopped; the same command goes on after the last round that was looked at"
    with (
        stoppable(path, 0, words=go_on),
        RoundProgress(voice, max(chosen or run.rounds, default=0)) as progress,
    ):
        found = look(run, overrides, name=name, rounds=chosen, on_round=progress)
    known_before = " (there already)" if found.path.name in known else ""
    voice.more(f"look: {found.path}{known_before}")
    return found.path


def numbers(text: str) -> tuple[int, ...]:
    """Round numbers from ``1,4,8``.

    Raises
    ------
    ConfigError
        If there is none, or something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--rounds expects numbers such as 1,4,8, got {text!r}")
    return tuple(sorted({int(part) for part in parts}))
