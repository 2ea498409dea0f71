"""A federation with TLS and SuperNode authentication: prepare, start, run, stop.

    python deploy.py prepare FOLDER --nodes 3      certificates, keys, a folder for every device
    python example_data.py FOLDER                  digits for every device, to try it with
    python deploy.py up FOLDER                     SuperLink and SuperNodes, on this machine
    python deploy.py run FOLDER -c num-rounds=3    a run; exit code 1 and one line if it fails
    python deploy.py stop FOLDER

On several machines: ``superlink FOLDER`` and ``register FOLDER`` on the server, then
``node FOLDER/nodes/0`` with a copy of that folder on each device.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from commands import (
    online,
    register,
    superlink_command,
    superlink_environment,
    supernode_command,
    supernode_environment,
)
from credentials import make_node_key, make_server_credentials
from layout import Deployment, DeploymentError, Node
from refusals import Ending, ending
from runs import run
from settings import checked
from supervisor import Supervisor, running, say, stop

UP_SECONDS = 120.0  # for SuperLink and SuperNodes to be there
KEY_SECONDS = 150.0  # a killed SuperNode's key is refused for about 60


def prepare(arguments: argparse.Namespace) -> int:
    """Make certificates, keys and folders."""
    folder: Path = arguments.folder.absolute()
    if folder.exists() and any(folder.iterdir()):
        raise DeploymentError(
            f"{folder} is not empty; new certificates would lock its devices out. Choose another"
        )
    last = arguments.port + arguments.nodes
    if arguments.nodes < 1 or arguments.port < 1 or last > 65535:
        raise DeploymentError(
            f"need one SuperNode or more, and ports {arguments.port} to {last} within 1 to 65535"
        )
    hosts = arguments.host or ["127.0.0.1", "localhost"]
    make_server_credentials(folder / "server", hosts, arguments.days)
    deployment = Deployment(folder, hosts[0], arguments.port, arguments.nodes)
    deployment.save()
    for index in range(arguments.nodes):
        path = deployment.node(index)
        make_node_key(path)
        (path / "data").mkdir()
        shutil.copy(deployment.server / "ca.crt", path / "ca.crt")
        Node(path, deployment.address, index, arguments.nodes, arguments.port + 1 + index).save()
    say(f"{folder}: certificates for {', '.join(hosts)}, {arguments.nodes} SuperNodes")
    return 0


def superlink(arguments: argparse.Namespace) -> int:
    """Keep the SuperLink alive, in the foreground."""
    deployment = Deployment.load(arguments.folder)
    return Supervisor(
        "SuperLink",
        superlink_command(deployment),
        superlink_environment(deployment),
        deployment.server / "superlink.log",
        lambda output: _superlink_ending(output, deployment),
        pause=1.0,
    ).run()


def _superlink_ending(output: str, deployment: Deployment) -> Ending:
    if "address already in use" in output:
        return Ending(f"port {deployment.port} is taken; end what listens there", final=True)
    words = ending(output, superlink=deployment.address, port=deployment.port).words
    return Ending(f"{words} (see {deployment.server / 'superlink.log'})", final=False)


def node(arguments: argparse.Namespace) -> int:
    """Keep a SuperNode alive, in the foreground."""
    here = Node.load(arguments.folder)
    name = f"SuperNode {here.partition}"
    if here.node_id is not None and here.registered_key != here.fingerprint():
        say(f"{name}: wrong key: key.pub is not the one that was registered as {here.node_id}")
        return 1

    def why(output: str) -> Ending:
        reason = ending(output, superlink=here.superlink, port=here.port)
        if "2004" in output and here.node_id is None:
            words = "key refused: it is not registered; run 'deploy.py register' on the server"
            return Ending(words, final=True)
        return reason

    return Supervisor(
        name,
        supernode_command(here),
        supernode_environment(here),
        here.folder / "supernode.log",
        why,
        patience=KEY_SECONDS if here.node_id is None else float("inf"),
    ).run()


def register_all(arguments: argparse.Namespace) -> int:
    """Make the keys of all nodes known to the SuperLink, those that are not yet."""
    deployment = Deployment.load(arguments.folder)
    for one in deployment.nodes:
        if one.registered_key != one.fingerprint():
            say(f"SuperNode {one.partition}: registered as {register(deployment, one).node_id}")
    return 0


def up(arguments: argparse.Namespace) -> int:
    """Start everything on this machine, in the background, and wait until it is there."""
    deployment = Deployment.load(arguments.folder)
    if not running(deployment.server / "superlink.pid"):
        _check_free(deployment.port)
    _background("superlink", deployment.folder, deployment.server / "supervisor.log")
    _wait(lambda: online(deployment) is not None, "the SuperLink", deployment.server)
    register_all(arguments)
    for one in deployment.nodes:
        _background("node", one.folder, one.folder / "supervisor.log")
    wanted = {str(one.node_id) for one in deployment.nodes}
    _wait(lambda: wanted <= online(deployment), "all SuperNodes", deployment.folder / "nodes")
    say(f"the SuperLink is at {deployment.address}, {len(wanted)} SuperNodes are online")
    return 0


def _check_free(port: int) -> None:
    """Make sure that nobody else listens on the SuperLink's port."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("0.0.0.0", port))
        except OSError as error:
            raise DeploymentError(
                f"port {port} is taken ({error.strerror}); end what listens there, or prepare "
                "another folder with --port"
            ) from error


def _background(what: str, folder: Path, log: Path) -> None:
    with log.open("ab") as file:
        subprocess.Popen(
            [sys.executable, __file__, what, str(folder)],
            stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip


def _wait(there: object, what: str, logs: Path) -> None:
    begin = said = time.monotonic()
    while True:
        try:
            if there():  # type: ignore[operator]
                return
            reason = ""
        except DeploymentError as error:
            reason = f": {error}"
        now = time.monotonic()
        if now - begin > UP_SECONDS:
            raise DeploymentError(
                f"{what} did not come within {UP_SECONDS:g} s{reason}; see supervisor.log in {logs}"
            )
        if now - said > 15:
            said = now
            say(f"waiting for {what} for {now - begin:.0f} s")
        time.sleep(1)


def submit(arguments: argparse.Namespace) -> int:
    """Run the app to its end."""
    deployment = Deployment.load(arguments.folder)
    config = {"min-nodes": str(deployment.n_nodes)}
    config |= checked(arguments.config, arguments.attempts)
    return 0 if run(deployment, config, arguments.attempts) else 1


def status(arguments: argparse.Namespace) -> int:
    """Say which SuperNodes are online."""
    deployment = Deployment.load(arguments.folder)
    here = online(deployment)
    for one in deployment.nodes:
        words = "online" if one.node_id in here else "offline"
        say(f"SuperNode {one.partition}: {words if one.node_id else 'not registered'}")
    return 0


def down(arguments: argparse.Namespace) -> int:
    """Stop all that 'up' started."""
    deployment = Deployment.load(arguments.folder)
    logs = [one.folder / "supernode.log" for one in deployment.nodes]
    stopped = [
        stop(log.with_suffix(".pid")) for log in (*logs, deployment.server / "superlink.log")
    ]
    say(f"{sum(stopped)} of {len(stopped)} processes were running and are stopped")
    return 0


def main() -> int:
    """Act on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    actions = {
        "prepare": prepare, "superlink": superlink, "node": node, "register": register_all,
        "up": up, "run": submit, "status": status, "stop": down,
    }  # fmt: skip
    parts = {}
    for name, action in actions.items():
        parts[name] = commands.add_parser(name, help=action.__doc__)
        parts[name].add_argument("folder", type=Path)
    parts["prepare"].add_argument("--nodes", type=int, default=3, help="number of SuperNodes")
    parts["prepare"].add_argument(
        "--host", action="append",
        help="a name or address that devices reach the SuperLink by; the first is used",
    )  # fmt: skip
    parts["prepare"].add_argument("--port", type=int, default=8443)
    parts["prepare"].add_argument("--days", type=int, default=365, help="certificates are valid")
    parts["run"].add_argument(
        "-c", dest="config", action="append", default=[], metavar="KEY=VALUE",
        help="a setting of the app, see pyproject.toml",
    )  # fmt: skip
    parts["run"].add_argument(
        "--attempts", type=int, default=1, help="resume after failures; needs -c run-dir=FOLDER"
    )
    arguments = parser.parse_args()
    try:
        return actions[arguments.command](arguments)
    except (DeploymentError, OSError, RuntimeError, ValueError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; go on with -c resume=true and the same run-dir")
        return 130


if __name__ == "__main__":
    sys.exit(main())
