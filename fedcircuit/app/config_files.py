"""Reading a study: YAML, ``--set`` overrides, and errors that name the key and the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fedcircuit.app.config import StudyConfig


class ConfigError(ValueError):
    """A study that cannot be run as written."""


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study of a YAML file, with ``key.path=value`` overrides applied before the check.

    Raises
    ------
    ConfigError
        If the file is missing or no YAML mapping, or a key or value is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the study {path}: {error.strerror}") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold keys and values, it holds a {type(raw).__name__}")
    return parse_study(raw, overrides, where=str(path))


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
        problems = "\n".join(f"  {_sentence(problem)}" for problem in error.errors())
        raise ConfigError(f"{where} cannot be used:\n{problems}") from error


def _with_override(values: dict[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set expects key.path=value, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is not YAML: {error}") from error
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
        raise ConfigError(f"--set {override!r}: {head!r} holds a value, not further keys")
    return {**values, head: _replaced(inner, rest, value, override)}


def _sentence(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    path = ".".join(location) or "the study"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(known)
        return f"{path}: unknown key; {hint}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message}, got {problem['input']!r}"


def _known_keys(location: Sequence[str]) -> list[str]:
    section: type[BaseModel] = StudyConfig
    for part in location:
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
