"""Where the files of a deployment are.

FOLDER/deployment.json     address and port of the SuperLink, number of SuperNodes
FOLDER/server/             certificates, the SuperLink's database and log, run folders
FOLDER/operator/           Flower's settings for the one who submits runs
FOLDER/nodes/0/            all that device 0 needs: copy this folder to the device
    node.json, ca.crt, key, key.pub, data/, supernode.log
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

CONNECTION = "deploy"  # name of the connection in Flower's settings
OFFLINE_SETTINGS = {  # neither installs packages for a run nor phones home
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


class DeploymentError(RuntimeError):
    """Something a person has to mend; the message says what and how."""


@dataclass(frozen=True)
class Deployment:
    """The operator's side: the SuperLink and its SuperNodes."""

    folder: Path
    host: str
    port: int
    n_nodes: int

    @classmethod
    def load(cls, folder: Path) -> Deployment:
        """The deployment in a folder."""
        values = _read(folder / "deployment.json", "'deploy.py prepare' makes it")
        return cls(folder.absolute(), values["host"], values["port"], values["n_nodes"])

    def save(self) -> None:
        """Write ``deployment.json``, and the settings of the one who submits runs."""
        values = {key: v for key, v in asdict(self).items() if key != "folder"}
        (self.folder / "deployment.json").write_text(json.dumps(values, indent=2) + "\n")
        self.operator.mkdir(parents=True, exist_ok=True)
        (self.operator / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "{self.address}"\nroot-certificates = "{self.server / "ca.crt"}"\n'
        )

    @property
    def address(self) -> str:
        """Where the SuperLink answers."""
        return f"{self.host}:{self.port}"

    @property
    def server(self) -> Path:
        """Certificates, database, log and runs of the SuperLink."""
        return self.folder / "server"

    @property
    def operator(self) -> Path:
        """``FLWR_HOME`` of the one who submits runs."""
        return self.folder / "operator"

    def node(self, index: int) -> Path:
        """The folder of a SuperNode."""
        return self.folder / "nodes" / str(index)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All SuperNodes."""
        return tuple(Node.load(self.node(index)) for index in range(self.n_nodes))


@dataclass(frozen=True)
class Node:
    """One SuperNode: its folder can be copied to the device."""

    folder: Path
    superlink: str
    partition: int
    n_partitions: int
    port: int  # of its own API on the device, on the loopback address
    node_id: str | None = None  # set when its key was registered
    registered_key: str | None = None  # fingerprint of that key

    @classmethod
    def load(cls, folder: Path) -> Node:
        """The SuperNode in a folder."""
        values = _read(folder / "node.json", "'deploy.py prepare' makes it for every device")
        return cls(folder.absolute(), **values)

    def save(self) -> None:
        """Write ``node.json``."""
        values = {key: v for key, v in asdict(self).items() if key != "folder"}
        (self.folder / "node.json").write_text(json.dumps(values, indent=2) + "\n")

    def fingerprint(self) -> str:
        """Of the public key that lies in the folder now."""
        return hashlib.sha256((self.folder / "key.pub").read_bytes().strip()).hexdigest()

    def registered(self, node_id: str) -> Node:
        """The same node, known to the SuperLink."""
        return replace(self, node_id=node_id, registered_key=self.fingerprint())


def _read(path: Path, hint: str) -> dict[str, object]:
    try:
        values: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DeploymentError(f"{path} is missing; {hint}") from error
    except ValueError as error:
        raise DeploymentError(f"{path} is damaged: {error}") from error
    return values
