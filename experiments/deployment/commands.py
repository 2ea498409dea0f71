"""Flower's commands for a deployment: what is started, and what the operator asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from layout import CONNECTION, OFFLINE_SETTINGS, Deployment, DeploymentError, Node


def superlink_command(deployment: Deployment) -> list[str]:
    """The SuperLink: TLS, only SuperNodes whose keys are registered, runs kept in a database."""
    server = deployment.server
    return [
        _program("flower-superlink"),
        "--ssl-ca-certfile", str(server / "ca.crt"),
        "--ssl-certfile", str(server / "server.pem"),
        "--ssl-keyfile", str(server / "server.key"),
        "--enable-supernode-auth",
        "--host", "0.0.0.0",
        "--port", str(deployment.port),
        "--database", str(server / "state.db"),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip


def superlink_environment(deployment: Deployment) -> dict[str, str]:
    """Apps are unpacked below the server's folder."""
    return _environment(deployment.server / "flwr")


def supernode_command(node: Node) -> list[str]:
    """A SuperNode with its key and its own data folder."""
    authority = node.folder / "ca.crt"
    return [
        _program("flower-supernode"),
        *(["--root-certificates", str(authority)] if authority.exists() else ["--insecure"]),
        "--superlink", node.superlink,
        "--auth-supernode-private-key", str(node.folder / "key"),
        "--node-config",
        f"partition-id={node.partition} num-partitions={node.n_partitions} "
        f"data='{node.folder / 'data'}'",
        "--port", str(node.port),
    ]  # fmt: skip


def supernode_environment(node: Node) -> dict[str, str]:
    """Apps are unpacked below the node's folder; one thread: equal bits on all devices."""
    return {**_environment(node.folder / "flwr"), "OMP_NUM_THREADS": "1"}


def asked(deployment: Deployment, *arguments: str) -> dict[str, Any]:
    """The answer of a ``flwr`` command about the deployment.

    Raises
    ------
    DeploymentError
        If the command fails; its own words are in the message.
    """
    command = [_program("flwr"), *arguments, "--format", "json"]
    result = subprocess.run(
        command, env=operator_environment(deployment), capture_output=True, text=True, check=False
    )
    text = result.stdout[result.stdout.find("{") :]
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        answer = {}
    if result.returncode or not answer.get("success"):
        words = answer.get("error-message") or (result.stdout + result.stderr).strip()
        raise DeploymentError(f"'flwr {' '.join(arguments)}' failed: {str(words)[-500:]}")
    return answer


def operator_environment(deployment: Deployment) -> dict[str, str]:
    """For ``flwr`` commands."""
    return {**os.environ, **_environment(deployment.operator)}


def register(deployment: Deployment, node: Node) -> Node:
    """Make a SuperNode's key known to the SuperLink; it notes its id in ``node.json``."""
    public = str(node.folder / "key.pub")
    answer = asked(deployment, "supernode", "register", public, CONNECTION)
    known = node.registered(str(answer["node-id"]))
    known.save()
    return known


def online(deployment: Deployment) -> set[str]:
    """Ids of the SuperNodes that the SuperLink counts as online."""
    nodes = asked(deployment, "supernode", "list", CONNECTION)["nodes"]
    return {str(node["node-id"]) for node in nodes if node["status"] == "online"}


def flwr(deployment: Deployment, *arguments: str, output: Any = None) -> subprocess.Popen[bytes]:
    """A ``flwr`` command in the background."""
    return subprocess.Popen(
        [_program("flwr"), *arguments], env=operator_environment(deployment), stdout=output
    )


def _environment(home: Path) -> dict[str, str]:
    """Flower starts its own programs by name: they must be on the path."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return {**OFFLINE_SETTINGS, "FLWR_HOME": str(home), "PATH": path}


def _program(name: str) -> str:
    """A program beside this Python, or on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise DeploymentError(f"{name} was not found; install fedcircuit in this environment")
    return found
