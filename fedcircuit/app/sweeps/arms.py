"""What is compared: ``NAME=FILE.yaml`` or ``NAME=key=value,key=value``, and the seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fedcircuit.app.config import ConfigError, StudyConfig, load_study

MOST_SEEDS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NEXT_KEY = re.compile(r",\s*(?=[A-Za-z_][\w.-]*\s*=)")
_OPEN, _CLOSE, _QUOTES = "[{(", "]})", "'\""
_OWN_FILES = "sweep"  # how the names of a sweep's own files begin


def parse_arms(
    study: Path, arms: Sequence[str] = (), overrides: Sequence[str] = ()
) -> dict[str, StudyConfig]:
    """The study of each arm, by name.

    Parameters
    ----------
    study
        What arms change; alone it is the one arm, under its own name.
    arms
        ``NAME=FILE.yaml``, a study of its own; ``NAME=key=value,key=value``, changes of the study;
        ``NAME=``, the study as it is. Commas inside brackets and quotes belong to the value.
    overrides
        ``key=value`` for every arm; an arm's own changes come after them.

    Raises
    ------
    ConfigError
        If an arm has no name, one that is no folder's name, or another's, or a study cannot be
        used as written.
    """
    if not arms:
        alone = load_study(study, overrides)
        return {alone.name: alone}
    found: dict[str, StudyConfig] = {}
    for text in arms:
        name, equals, what = text.partition("=")
        name, what = name.strip(), what.strip()
        if not equals or not _NAME.fullmatch(name) or name.casefold().startswith(_OWN_FILES):
            raise ConfigError(
                "--arm expects NAME=FILE.yaml or NAME=key=value,key=value, where NAME is letters, "
                f"digits, '.', '_', '-' and does not begin with {_OWN_FILES!r}, got {text!r}"
            )
        known = [other for other in found if other.casefold() == name.casefold()]
        if known:
            raise ConfigError(
                f"two arms are called {known[0]!r} and {name!r}, which is one folder on many "
                "disks; give each arm a name of its own"
            )
        found[name] = _arm(study, name, what, overrides)
    return found


def _arm(study: Path, name: str, what: str, overrides: Sequence[str]) -> StudyConfig:
    changes: list[str] = []
    if what.endswith((".yaml", ".yml")) and ("=" not in what or Path(what).is_file()):
        study = Path(what)
    elif what and "=" not in what:
        raise ConfigError(
            f"arm {name!r} is neither a study's file (FILE.yaml) nor changes of the study "
            f"(key=value,key=value): {what!r}"
        )
    elif what:
        changes = split_changes(what)
    if any(change.partition("=")[0].strip() == "seed" for change in (*changes, *overrides)):
        raise ConfigError(
            f"arm {name!r} sets seed, but every arm runs with the same seeds: give them with "
            "--seeds, such as --seeds 0-4"
        )
    try:
        return load_study(study, [*overrides, *changes])
    except ConfigError as error:
        raise ConfigError(f"arm {name!r}: {error}") from error


def split_changes(text: str) -> list[str]:
    """``a=1,b=[2, 3]`` in its parts: cut at commas before a key, outside brackets and quotes."""
    parts, start, depth, quote = [], 0, 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif depth == 0 and _NEXT_KEY.match(text, at):
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0-4`` or ``0,3,7-9``, in ascending order.

    Raises
    ------
    ConfigError
        If there is none, or something else, or one of them twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first or last - first >= MOST_SEEDS:
            raise ConfigError(
                f"--seeds expects numbers and ranges such as 0-4 or 0,3,7-9, at most {MOST_SEEDS:,}"
                f" of them, got {text[:60]!r}"
            )
        seeds += range(first, last + 1)
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})[:3]
    if twice:
        raise ConfigError(f"--seeds {text[:60]!r} names seed {twice[0]} twice")
    return tuple(sorted(seeds))
