"""What a run must say of itself so that it can be understood and repeated."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("fedcircuit", "flwr", "torch", "torchvision", "ray", "numpy")


def build_manifest(
    name: str,
    *,
    seed: int,
    class_names: Sequence[str],
    config: Mapping[str, object] | None = None,
    thresholds: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The content of ``manifest.json``, but for schema and storage, which the store adds."""
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "class_names": list(class_names),
        "config": None if config is None else dict(config),
        "thresholds": dict(thresholds or {}),
        "versions": versions(),
        "commit": _commit(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on; missing ones are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Commit of the git repository of the current folder; None outside of one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
