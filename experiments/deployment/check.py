"""A whole deployment on the loopback address, and the same bits as in one process.

    python check.py [--nodes 3] [--rounds 3] [--folder FOLDER] [--port 0]

Certificates, keys, SuperLink with TLS, SuperNodes with authentication, a run, its report; then the
same app in this process; then all is stopped. Exit code 0 only if every weight, circuit and table
is the same. This is what ``make deploy-test`` runs.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from layout import Deployment
from reference import differences, run_in_process

from fedcircuit import Run

HERE = Path(__file__).parent


def main() -> int:
    """Run the check; 0 where all of it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--folder", type=Path, help="new folder; left out: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="deployment-") as temporary:
        folder = arguments.folder or Path(temporary) / "federation"
        port = arguments.port or free_ports(arguments.nodes + 1)
        deploy("prepare", folder, "--nodes", str(arguments.nodes), "--port", str(port))
        subprocess.run([sys.executable, HERE / "example_data.py", folder], check=True)
        try:
            deploy("up", folder)
            return compare(folder, arguments.rounds)
        finally:
            deploy("stop", folder)


def deploy(command: str, folder: Path, *options: str) -> float:
    """Seconds that a command of ``deploy.py`` took.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails; it has said why.
    """
    begin = time.perf_counter()
    subprocess.run([sys.executable, HERE / "deploy.py", command, folder, *options], check=True)
    return time.perf_counter() - begin


def compare(folder: Path, rounds: int) -> int:
    """The deployed run beside the one in this process."""
    torch.set_num_threads(1)
    deployed, alone = folder / "deployed", folder / "in-process"
    seconds = deploy("run", folder, "-c", f"num-rounds={rounds}", "-c", f"run-dir='{deployed}'")
    begin = time.perf_counter()
    run_in_process(Deployment.load(folder), {"num-rounds": rounds, "run-dir": str(alone)})
    here = time.perf_counter() - begin
    print(f"seconds a round: {seconds / rounds:.1f} deployed, {here / rounds:.2f} in process")
    report = deployed / "report.html"
    wrong = differences(deployed, alone)
    if not report.exists():
        wrong.append("no report")
    masks = Run.load(deployed).masks(rounds)
    if masks is None or not masks.found.any():
        wrong.append("no circuits came from the clients")
    for line in wrong:
        print(f"differs: {line}", file=sys.stderr)
    print("the same bits" if not wrong else f"{len(wrong)} differences")
    return 1 if wrong else 0


def free_ports(n: int) -> int:
    """The first of ``n`` neighbouring ports that are free now."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
        if port + n > 65_535:
            continue
        try:
            for other in range(port, port + n):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", other))
        except OSError:
            continue
        return port


if __name__ == "__main__":
    sys.exit(main())
