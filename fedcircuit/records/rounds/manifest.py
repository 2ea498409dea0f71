"""What a run must say of itself so that it can be understood and repeated."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fedcircuit.records.rounds.client_weights import Storage

_PACKAGES = ("fedcircuit", "flwr", "torch", "numpy", "ray")


def build_manifest(
    name: str,
    config: Mapping[str, object] | None = None,
    *,
    seed: int,
    class_names: Sequence[str],
    thresholds: Mapping[str, object] | None = None,
    storage: Storage | None = None,
    network: str | None = None,
) -> dict[str, Any]:
    """The content of ``manifest.json``, but for the schema, which the store adds.

    Parameters
    ----------
    name
        Name of the run.
    config
        The resolved configuration; None where there is none (a run of one's own script).
    seed
        The one seed.
    class_names
        By class index.
    thresholds
        Of statuses and verdicts, by name; dataclasses will do.
    storage
        What the run keeps; None leaves it to ``RunStore.create``.
    network
        The network as it prints itself; a run is continued with the same. None is not known.

    Raises
    ------
    TypeError
        If a value is nothing that JSON could hold; its place is named.
    """
    content: dict[str, object] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "name": name,
        "config": config,
        "seed": seed,
        "class_names": list(class_names),
        "versions": versions(),
        "thresholds": thresholds or {},
        "commit": commit_of(Path.cwd()),
    }
    if storage is not None:
        content["storage"] = storage
    if network is not None:
        content["network"] = network
    result: dict[str, Any] = plain(content, "manifest")
    return result


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages a result depends on; None where not installed."""
    found = {package: _version(package) for package in _PACKAGES}
    return {**found, "python": platform.python_version()}


@cache  # looking through the installed packages takes as long as writing a small round
def _version(package: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit_of(folder: Path) -> str | None:
    """Commit of the git repository that a folder lies in; None where there is none."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def plain(value: object, where: str) -> Any:
    """A value as JSON holds it: mappings, lists, text, numbers; NaN and infinity are None.

    Raises
    ------
    TypeError
        If a part is nothing of the kind; its place below ``where`` is named.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes)):
        items = sorted(value, key=str) if isinstance(value, Set) else value
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(items)]
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"{where} is {value!r} of type {type(value).__name__}: JSON holds no such thing"
    )
