"""What a person is told: refusals, folders that are missing or damaged, commands, settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args
from layout import Deployment, DeploymentError, Node
from refusals import ending
from settings import checked

FOLDER = Path(__file__).parents[2] / "experiments" / "deployment"

ENDINGS = {
    "other authority": (
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
        "copy the operator's server/ca.crt", True,
    ),
    "other name": (
        "CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is "
        "not valid for 'x'", "is not for the address link:8443", True,
    ),
    "expired": (
        "CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired",
        "look at the clock", True,
    ),
    "key not registered": ("\x1b[91mError code: 2001\x1b[0m", "registers key.pub", True),
    "in use": ("code: 2004", "for about a minute after", False),
    "no certificate": ("Exit Code: 303", "no certificate: there is a key but no ca.crt", True),
    "port": ("[Errno 98] Address already in use", "port 9000 of this device is taken", True),
    "silent": ("urllib3: Connection refused", "link:8443 does not answer", False),
    "unknown": ("one\n\n  a last line  \n", "its last words: a last line", False),
    "nothing": ("", "its last words: none", False),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_why_a_supernode_ended(name: str) -> None:
    output, words, final = ENDINGS[name]
    found = ending(output, superlink="link:8443", port=9000)
    assert words in found.words
    assert found.final is final


def deploy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FOLDER / "deploy.py", *arguments], capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


def test_prepare_makes_what_every_device_needs_and_never_twice(tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    made = deploy("prepare", folder, "--nodes", "2", "--host", "link.example", "--port", "9100")
    assert made.returncode == 0, made.stdout
    deployment = Deployment.load(folder)
    assert (deployment.address, deployment.n_nodes) == ("link.example:9100", 2)
    authority = (folder / "server" / "ca.crt").read_bytes()
    fingerprints = set()
    for index, node in enumerate(deployment.nodes):
        assert (node.partition, node.n_partitions, node.port) == (index, 2, 9101 + index)
        assert (node.folder / "ca.crt").read_bytes() == authority
        assert node.node_id is None
        fingerprints.add(node.fingerprint())
    assert len(fingerprints) == 2
    assert not list(folder.glob("nodes/*/ca.key"))
    again = deploy("prepare", folder)
    assert again.returncode == 1
    assert "new certificates would lock its devices out" in again.stdout
    assert (folder / "server" / "ca.crt").read_bytes() == authority


def test_a_registered_node_keeps_its_id_and_notices_another_key(tmp_path: Path) -> None:
    deploy("prepare", tmp_path / "f", "--nodes", "2")
    one, other = Deployment.load(tmp_path / "f").nodes
    one.registered("17").save()
    known = Node.load(one.folder)
    assert (known.node_id, known.registered_key) == ("17", one.fingerprint())
    (one.folder / "key.pub").write_bytes((other.folder / "key.pub").read_bytes())
    told = deploy("node", one.folder)
    assert told.returncode == 1
    assert "wrong key: key.pub is not the one that was registered as 17" in told.stdout


@pytest.mark.parametrize("command", ["up", "run", "register", "status", "stop", "superlink"])
def test_a_folder_that_was_never_prepared_is_named(tmp_path: Path, command: str) -> None:
    told = deploy(command, tmp_path)
    assert told.returncode == 1
    assert "deployment.json is missing; 'deploy.py prepare' makes it" in told.stdout
    assert "Traceback" not in told.stderr


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text('{"host": ')
    with pytest.raises(DeploymentError, match=r"deployment\.json is damaged"):
        Deployment.load(tmp_path)


SETTINGS = {
    "num-rounds": "-c takes KEY=VALUE, got 'num-rounds'",
    "num-rounds=abc": "num-rounds takes a whole number, got 'abc'",
    "num-rounds=0": "num-rounds must be above 0, got 0",
    "round-timeout=nan": "round-timeout must be above 0, got nan",
    "nonsense=1": "'nonsense' is no setting of the app; there are num-rounds, min-nodes",
    "evaluate=perhaps": "evaluate takes true or false, got 'perhaps'",
    "run-dir=here/run": "run-dir must be an absolute folder on the server, got 'here/run'",
    "run-dir=/it's": "run-dir must hold neither quotes nor backslashes",
    "resume=true": "resume=true needs the folder to go on in: -c run-dir=/absolute/folder",
}


@pytest.mark.parametrize("pair", SETTINGS)
def test_a_setting_that_cannot_be_used_is_refused_before_a_run_is_submitted(pair: str) -> None:
    with pytest.raises(DeploymentError, match=re.escape(SETTINGS[pair])):
        checked([pair])


def test_settings_are_written_as_flower_reads_them() -> None:
    pairs = ["num-rounds = 5", "evaluate=False", "run-dir=/data/run 1", "round-timeout=2.5"]
    written = checked([*pairs, "resume=true"], attempts=4)
    assert written == {
        "num-rounds": "5", "evaluate": "false", "run-dir": "'/data/run 1'",
        "round-timeout": "2.5", "resume": "true",
    }  # fmt: skip
    given = [" ".join(f"{key}={value}" for key, value in written.items())]
    assert parse_config_args(given) == {
        "num-rounds": 5, "evaluate": False, "run-dir": "/data/run 1", "round-timeout": 2.5,
        "resume": True,
    }  # fmt: skip
    assert checked(["run-dir='/data/run-1'"]) == checked(["run-dir=/data/run-1"])


def test_attempts_without_a_folder_to_resume_in_are_refused(tmp_path: Path) -> None:
    deploy("prepare", tmp_path / "f", "--nodes", "1")
    told = deploy("run", tmp_path / "f", "--attempts", "3")
    assert told.returncode == 1
    assert "--attempts needs the folder to go on in" in told.stdout
