"""The example app: what everybody types first works, with nothing set and nothing added."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedcircuit import Run, simulate
from fedcircuit.app.engines.simulation import Simulation

APP = Path(__file__).parents[3] / "experiments" / "flower-app"
CONFIG: dict[str, Any] = tomllib.loads((APP / "pyproject.toml").read_text("utf-8"))["tool"]["flwr"]
FLOWERS_DEFAULT = 2  # simulated clients, since flwr 1.32
LIMIT = 150.0  # seconds; about 55 on an idle machine with two cores


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(APP))
    yield importlib.import_module
    for name in [name for name in sys.modules if name.partition(".")[0] == "circuit_app"]:
        del sys.modules[name]


def run(load: Any, clients: int, **config: Any) -> Simulation:
    parts = [
        load(CONFIG["app"]["components"][part].partition(":")[0]).app
        for part in ("serverapp", "clientapp")
    ]
    return simulate(*parts, clients=clients, run_config={**CONFIG["app"]["config"], **config})


@pytest.mark.parametrize("clients", [FLOWERS_DEFAULT, 4])
def test_the_app_runs_with_its_own_settings_and_as_many_clients_as_there_are(
    clients: int, app: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"run-dir": str(tmp_path / "run"), "num-rounds": 1}
    simulation = run(app, clients, **config)
    assert simulation.errors == ()
    assert set(Run.load(tmp_path / "run").clients["client"]) == {str(i) for i in range(clients)}
    assert f"report: {tmp_path / 'run' / 'report.html'}" in capsys.readouterr().out


def test_clients_that_never_come_end_the_run_with_the_line_to_type(
    app: Any, tmp_path: Path
) -> None:
    config = {"run-dir": str(tmp_path / "run"), "min-clients": 5, "wait-seconds": 0}
    with pytest.raises(TimeoutError, match="--federation-config num-supernodes=5"):
        run(app, 2, **config)
    assert not (tmp_path / "run").exists()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def process_on(port: int, home: Path) -> list[int]:
    """Processes whose command line names the port: the SuperLink and what it started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue  # it has ended meanwhile
        if f":{port}".encode() in line or str(home).encode() in line:
            found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@contextmanager
def clean_flower(folder: Path) -> Iterator[dict[str, str]]:
    """An environment of somebody who never used Flower; what it started is ended."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "RAY_"))}
    environment |= {
        "HOME": str(folder),
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(port),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "UV_OFFLINE": "1",  # nothing is fetched
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    try:
        yield environment
    finally:
        for pid in process_on(port, folder / "flwr"):
            os.kill(pid, signal.SIGTERM)


@pytest.mark.slow
def test_flwr_run_of_the_folder_and_nothing_else_completes(tmp_path: Path) -> None:
    with clean_flower(tmp_path) as environment:
        begin = time.monotonic()
        subprocess.run(
            ["flwr", "run", str(APP)], cwd=tmp_path, env=environment, timeout=60, check=True,
            capture_output=True,
        )  # fmt: skip
        status = "pending"
        while time.monotonic() - begin < LIMIT and not status.startswith("finished"):
            time.sleep(2)
            listing = subprocess.run(
                ["flwr", "list", "local", "--format", "json"], cwd=tmp_path, env=environment,
                timeout=60, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
            (one,) = json.loads(listing[listing.index("{") :])["runs"]
            status = one["status"]
        assert status == "finished:completed", one
    (folder,) = (tmp_path / "runs").iterdir()
    assert Run.load(folder).rounds == (1, 2, 3)
    assert (folder / "report.html").is_file()
