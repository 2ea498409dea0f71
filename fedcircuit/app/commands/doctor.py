"""What this machine has for a federation: versions, threads, disk, memory, data, leftovers."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from fedcircuit.app.config import EXAMPLES, DataExample
from fedcircuit.learning.sources import DataSource, MissingDataError, data_root
from fedcircuit.records.rounds import versions

_SUPERLINK_PORT = 39091  # of the local SuperLink that `flwr run` starts and leaves behind
_DATA = ("mnist", "fashion-mnist", "cifar10", "cifar100")


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``ok`` is False where a run would suffer."""

    topic: str
    ok: bool
    text: str


def examine(root: str | None = None) -> list[Finding]:
    """Everything worth knowing before a run."""
    return [
        Finding("versions", True, ", ".join(f"{k} {v}" for k, v in versions().items())),
        _threads(),
        _disk(),
        _memory(),
        _torchvision(),
        _superlink(),
        *(_data(name, root) for name in _DATA),
        *(_kind(example) for example in EXAMPLES),
    ]


def _threads() -> Finding:
    import torch

    text = f"{os.cpu_count()} processors, torch uses {torch.get_num_threads()} threads"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Finding("processors", True, f"{text} (studies use engine.threads), {gpus} GPUs")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding("disk", free > 1, f"{free:.1f} GiB free in {Path.cwd()}")


def _memory() -> Finding:
    """Memory of this process (one worker is about as large) against what the machine has."""
    if not hasattr(os, "sysconf") or sys.platform == "darwin":
        return Finding("memory", True, "not measured on this system")
    page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * page
    text = (
        f"{total * page / 2**30:.1f} GiB in all; a worker with torch takes about "
        f"{resident / 2**20:.0f} MiB before data"
    )
    return Finding("memory", total * page > 4 * resident, text)


def _torchvision() -> Finding:
    from fedcircuit.learning.data import import_torchvision

    try:
        module = import_torchvision()
    except ImportError as error:
        return Finding("torchvision", False, str(error))
    return Finding("torchvision", True, f"loads ({module.__version__})")


def _superlink() -> Finding:
    port = int(os.environ.get("FLWR_LOCAL_SUPERLINK_HTTP_API_PORT", _SUPERLINK_PORT))
    connection = HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        connection.getresponse()
    except (OSError, HTTPException):
        return Finding("SuperLink", True, f"none is running on local port {port}")
    finally:
        connection.close()
    return Finding(
        "SuperLink",
        False,
        f"one answers on local port {port}; 'flwr run' would use it, with the code and the "
        "environment of the folder it was started in. End its process if it is a leftover",
    )


def _kind(example: DataExample) -> Finding:
    """A kind of data set, and how a study names it."""
    missing = ", ".join(example.missing())
    text = f"{example.yaml.replace(chr(10), '; ')}  ({example.files.replace('`', '')})"
    if missing:
        text += f"; needs {missing}: pip install 'fedcircuit[parquet]'"
    return Finding(f"data {example.name}", True, text)


def _data(name: str, root: str | None) -> Finding:
    from fedcircuit.learning.data import missing_files

    folder = data_root(DataSource(name, root))
    try:
        missing_files(name, folder)
    except MissingDataError:
        return Finding(name, True, f"not below {folder}")
    return Finding(name, True, f"found below {folder}")
