"""SuperNodes that must not be let in, and what they are told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from credentials import make_node_key, make_server_credentials
from layout import Deployment, Node

DEPLOY = Path(__file__).parent.parent / "deployment" / "deploy.py"
SECONDS = 120.0
# kind -> what the person must read
REFUSED = {
    "wrong key": "wrong key",
    "unregistered key": "key refused",
    "no certificate": "no certificate",
    "wrong certificate": "certificate refused",
}


def try_refusal(kind: str, deployment: Deployment, number: int) -> tuple[str, bool]:
    """What a SuperNode said that tried to get in, and whether it was refused in the right words."""
    folder = deployment.folder / "forged" / f"{kind.replace(' ', '-')}-{number}"
    folder.parent.mkdir(exist_ok=True)
    shutil.copytree(deployment.node(0), folder, ignore=shutil.ignore_patterns("*.pid", "*.log"))
    node = Node.load(folder)
    values = {**vars(node), "port": node.port + 2000 + number}
    if kind.endswith("key"):
        for name in ("key", "key.pub"):
            (folder / name).unlink()
        make_node_key(folder)
        if kind == "unregistered key":
            values |= {"node_id": None, "registered_key": None}
    else:
        (folder / "ca.crt").unlink()
    if kind == "wrong certificate":
        make_server_credentials(folder / "other", ["127.0.0.1"], 1)
        shutil.copy(folder / "other" / "ca.crt", folder / "ca.crt")
    Node(**values).save()
    result = subprocess.run(
        [sys.executable, DEPLOY, "node", folder],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    said = (result.stdout + result.stderr).strip()
    return said[-300:], result.returncode == 1 and REFUSED[kind] in said
