"""Reading a study: YAML, ``--set`` overrides, and errors that name the key and the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fedcircuit.app.config.study import StudyConfig
from fedcircuit.app.config.yaml_text import YamlError, brief, one_line, plain_values

MOST_PROBLEMS = 3  # told in one error
MOST_LEVELS = 20  # of a key in --set
MOST_PART = 60  # characters of one key in an error


class ConfigError(ValueError):
    """A study that cannot be run as written."""


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study of a YAML file, with ``key.path=value`` overrides applied before the check.

    Raises
    ------
    ConfigError
        If the file is missing or no YAML mapping, or a key or value is not allowed.
    """
    name = one_line(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the study {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the study {name} is no text in UTF-8: {error.reason}") from error
    try:
        raw = plain_values(text)
    except YamlError as error:
        raise ConfigError(f"{name} is not YAML: {error}") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{name} must hold keys and values, it holds a {type(raw).__name__}")
    return parse_study(raw, overrides, where=name)


def parse_study(
    raw: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "the configuration"
) -> StudyConfig:
    """The study in plain values; every problem in one :class:`ConfigError`."""
    values = dict(raw)
    for override in overrides:
        values = _with_override(values, override)
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        problems = [f"  {_sentence(problem)}" for problem in found[:MOST_PROBLEMS]]
        if len(found) > MOST_PROBLEMS:
            problems.append(f"  and {len(found) - MOST_PROBLEMS:,} more")
        text = "\n".join((f"{one_line(where)} cannot be used:", *problems))
        raise ConfigError(text) from error
    except (RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{one_line(where)} is nested too deeply, or holds huge numbers"
        ) from error


def _with_override(values: dict[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set expects key.path=value, got {brief(override)}")
    if len(parts) > MOST_LEVELS:
        raise ConfigError(f"--set {brief(override)}: the key has {len(parts):,} parts")
    try:
        value = plain_values(text)
    except YamlError as error:
        raise ConfigError(f"--set {brief(override)}: the value is not YAML: {error}") from error
    return _replaced(values, parts, value, override)


def _replaced(
    values: dict[str, Any], parts: Sequence[str], value: object, override: str
) -> dict[str, Any]:
    head, *rest = parts
    if not rest:
        return {**values, head: value}
    inner = values.get(head)
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise ConfigError(f"--set {brief(override)}: {brief(head)} holds a value, not further keys")
    return {**values, head: _replaced(inner, rest, value, override)}


def _sentence(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    path = one_line(".".join(part[:MOST_PART] for part in location), 80) or "the study"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1][:MOST_PART], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(known)
        return f"{path}: unknown key; {hint}"
    message = one_line(problem["msg"].removeprefix("Value error, "), 250)
    if problem["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message}, got {brief(problem['input'])}"


def _known_keys(location: Sequence[str]) -> list[str]:
    section: type[BaseModel] = StudyConfig
    for part in location:
        if part.isdigit():  # the place in a list of sections
            continue
        field = section.model_fields.get(part)
        if field is None:
            return []
        annotation = field.annotation
        candidates = [annotation, *get_args(annotation)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not models:
            return []
        section = models[0]
    return sorted(section.model_fields)
