"""What a run says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.manifest import build_manifest, commit_of, plain, versions
from fedcircuit.records.runs.store import RunStore


@dataclass(frozen=True)
class Thresholds:
    recall: float = 0.8


def test_a_manifest_holds_what_is_needed_to_repeat_the_run(tmp_path: Path) -> None:
    manifest = build_manifest(
        "three-experts",
        {"training": {"rounds": 5, "widths": (3, 4)}, "root": Path("data")},
        seed=0,
        class_names=("cat", "dog"),
        thresholds={"validity": Thresholds()},
        storage=Storage("none"),
    )
    RunStore.create(tmp_path / "run", manifest)
    written = json.loads((tmp_path / "run" / "manifest.json").read_text())
    created = datetime.fromisoformat(written.pop("created"))
    assert abs((datetime.now(UTC) - created).total_seconds()) < 60
    assert set(written.pop("versions")) == {
        "fedcircuit", "flwr", "torch", "numpy", "ray", "python",
    }  # fmt: skip
    written.pop("commit")
    assert len(written.pop("digest")) == 22
    assert written == {
        "schema": 1,
        "name": "three-experts",
        "seed": 0,
        "class_names": ["cat", "dog"],
        "config": {"training": {"rounds": 5, "widths": [3, 4]}, "root": "data"},
        "thresholds": {"validity": {"recall": 0.8}},
        "storage": {"updates": "none", "scores": False},
    }


def test_versions_are_those_installed() -> None:
    assert versions()["numpy"] == np.__version__
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_commit_is_that_of_the_folder_and_none_outside_a_repository(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert commit_of(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = (tmp_path / ".git" / "HEAD").read_text().removeprefix("ref: ").strip()
    assert commit_of(tmp_path) == (tmp_path / ".git" / head).read_text().strip()


def test_plain_values_keep_their_meaning() -> None:
    value = {"a": np.int64(3), 5: [np.array([1.5, np.nan])], "s": {2, 1}, "t": True, "n": None}
    assert plain(value, "x") == {"a": 3, "5": [[1.5, None]], "s": [1, 2], "t": True, "n": None}


def test_a_value_json_cannot_hold_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"manifest\.config\.loss\[1\] is <built-in function max>"):
        plain({"config": {"loss": [0, max]}}, "manifest")
