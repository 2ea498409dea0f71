"""What a person is told: refusals, folders that are missing or damaged, commands, settings."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
from deployed_app import server_app
from deployed_app.task import training_samples
from flwr.app import Context, RecordDict
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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nodes", "0"], "need one SuperNode or more"),
        (["--nodes", "3", "--port", "65533"], "ports 65533 to 65536 within 1 to 65535"),
        (["--days", "-1"], "days >= 1"),
    ],
)
def test_what_cannot_be_prepared_is_refused(tmp_path: Path, options: list[str], words: str) -> None:
    told = deploy("prepare", tmp_path / "f", *options)
    assert told.returncode == 1
    assert words in told.stdout
    assert "Traceback" not in told.stderr


def test_a_port_that_is_taken_is_named_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        deploy("prepare", tmp_path / "f", "--nodes", "1", "--port", str(port))
        told = deploy("up", tmp_path / "f")
    assert told.returncode == 1
    assert f"port {port} is taken" in told.stdout
    assert not (tmp_path / "f" / "server" / "superlink.pid").exists()


def test_example_data_for_a_folder_that_was_never_prepared_are_refused(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, FOLDER / "example_data.py", tmp_path], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert told.returncode == 1
    assert told.stderr.strip().endswith("is no folder; 'deploy.py prepare' makes it")
    assert "Traceback" not in told.stderr


def test_labels_out_of_range_are_named_with_their_file(tmp_path: Path) -> None:
    images = np.zeros((2, 1, 8, 8))
    np.savez(tmp_path / "train.npz", inputs=images, labels=np.array([3, 42]))
    context = Context(1, 1, {"data": str(tmp_path)}, RecordDict(), {})
    with pytest.raises(ValueError, match=r"train\.npz must hold labels from 0 to 9, got 3 to 42"):
        training_samples(context)


FOLDERS: dict[str, tuple[dict[str, Any], str]] = {
    "resume nothing": ({"resume": True}, "run does not exist: there is nothing to go on with"),
    "relative": ({"run-dir": "run"}, "run-dir must be an absolute folder on the server"),
    "existing": ({"exists": True}, "choose another run-dir, or go on with -c resume=true"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_run_folder_that_cannot_be_used_is_refused_before_a_round(
    tmp_path: Path, name: str
) -> None:
    changes, words = FOLDERS[name]
    if changes.get("exists"):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "something").touch()
    config = {"run-dir": str(tmp_path / "run"), "resume": False, **changes}
    with pytest.raises(ValueError, match=words):
        server_app._folder(config, run_id=1)


class Attempts:
    """Stands for submitting a run: takes the reasons of failures from a list."""

    def __init__(self, *reasons: str | None) -> None:
        self.reasons = list(reasons)
        self.resumed: list[bool] = []

    def __call__(self, deployment: object, config: dict[str, str]) -> str | None:
        self.resumed.append(config.get("resume") == "true")
        return self.reasons.pop(0)


@pytest.mark.parametrize(
    ("reasons", "resumed", "completed"),
    [
        ([None], [False], True),
        (["killed", None], [False, True], True),
        (["killed", f"x does not exist: {runs.NOTHING}", None], [False, True, False], True),
        (["killed", "killed", "killed"], [False, True, True], False),
    ],
)
def test_a_failed_run_is_resumed_or_begun_where_nothing_was_recorded(
    monkeypatch: pytest.MonkeyPatch, reasons: list[str | None], resumed: list[bool], completed: bool
) -> None:
    attempts = Attempts(*reasons)
    monkeypatch.setattr(runs, "_once", attempts)
    assert runs.run(None, {"run-dir": "'/x'"}, 3) is completed  # type: ignore[arg-type]
    assert attempts.resumed == resumed


def test_both_sides_mean_the_same_by_nothing_to_go_on_with() -> None:
    assert runs.NOTHING == server_app.NOTHING
