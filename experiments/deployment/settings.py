"""The app's settings as a person gives them, checked before anything is submitted."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path

from layout import DeploymentError

PYPROJECT = Path(__file__).parent / "pyproject.toml"
_POSITIVE = ("num-rounds", "min-nodes", "node-timeout", "round-timeout")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
Value = bool | int | float | str


def checked(pairs: Sequence[str], attempts: int = 1) -> dict[str, str]:
    """``KEY=VALUE`` pairs by key, each value as Flower's command line takes it.

    Parameters
    ----------
    pairs
        Text needs no quotes.
    attempts
        How often a run may be submitted; the second time it is resumed, which needs its folder.

    Raises
    ------
    DeploymentError
        If a pair has no value, its key is no setting of the app, or its value is of another kind
        or out of range.
    """
    known = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    values: dict[str, Value] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals:
            raise DeploymentError(f"-c takes KEY=VALUE, got {pair!r}")
        if key not in known:
            raise DeploymentError(f"{key!r} is no setting of the app; there are {', '.join(known)}")
        values[key] = _value(key, text, type(known[key]))
    folder = values.get("run-dir", "")
    if folder and not str(folder).startswith("/"):
        raise DeploymentError(f"run-dir must be an absolute folder on the server, got {folder!r}")
    if not folder and (values.get("resume", False) or attempts > 1):
        what = "--attempts" if attempts > 1 else "resume=true"
        raise DeploymentError(f"{what} needs the folder to go on in: -c run-dir=/absolute/folder")
    return {key: _written(value) for key, value in values.items()}


def _value(key: str, text: str, kind: type) -> Value:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        value: Value = kind(text)
    except (KeyError, ValueError) as error:
        raise DeploymentError(f"{key} takes {_KINDS[kind]}, got {text!r}") from error
    if isinstance(value, str):
        if "'" in value or "\\" in value:
            raise DeploymentError(f"{key} must hold neither quotes nor backslashes, got {value!r}")
    elif key in _POSITIVE and not (value > 0 and math.isfinite(value)):
        raise DeploymentError(f"{key} must be above 0, got {text}")
    return value


def _written(value: Value) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    return str(value).lower()
