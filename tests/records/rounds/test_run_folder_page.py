"""The page on the run folder says what the files hold, and its example works as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from record_examples import a_round

from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.runs.store import RunStore

PAGE = (Path(__file__).parents[3] / "docs" / "run-folder.md").read_text("utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    manifest = build_manifest("run", seed=0, class_names=["a", "b", "c"])
    with RunStore.create(tmp_path / "run", manifest) as store:
        store.append(a_round(0))
        store.append(a_round(1))
        store.write_partition({"kind": "iid"})
        store.add_evaluation(1, {"accuracy": 0.5})
    return tmp_path / "run"


def under(title: str) -> str:
    """What stands under a heading, up to the next one."""
    match = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert match, title
    return match[1]


def first_cells(title: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` ", under(title), re.M))


def test_the_example_reads_a_clients_weights_without_fedcircuit(run: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert "fedcircuit" not in re.sub(r'"fedcircuit"', "", example)  # only the metadata's name
    code = (
        f"{example}\nimport sys\n"
        "for name, values in client_weights(sys.argv[1], 1, '1').items():\n"
        "    print(name, values.dtype, list(values.shape), values.tobytes().hex())\n"
        "assert 'fedcircuit' not in sys.modules and 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(run)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    weights = a_round(1).clients[1].weights
    assert told.splitlines() == [
        f"{name} {values.dtype} {list(values.shape)} {values.tobytes().hex()}"
        for name, values in weights.items()
    ]


@pytest.mark.parametrize("form", ["dense", "mask", "gaps", "signs", "wide gaps"])
def test_the_example_reads_every_form(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    raw = rng.standard_normal(90_000).astype(np.float32)
    values = {
        "dense": raw,
        "mask": raw * (raw > 0.5) + np.float32(0),
        "gaps": raw * (raw > 2.5) + np.float32(0),
        "signs": raw * (raw > 2.5),
        "wide gaps": raw * (np.arange(90_000) % 30_000 == 7) + np.float32(0),
    }[form]
    record = a_round(0)
    client = type(record.clients[0])("3", 1, {"w": values.reshape(300, 300)})
    with RunStore.create(tmp_path / "run", {}) as store:
        store.append(type(record)(0, {}, (client,)))
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    scope: dict[str, object] = {}
    exec(example, scope)
    read = scope["client_weights"](tmp_path / "run", 0, "3")["w"]  # type: ignore[operator]
    assert read.shape == (300, 300)
    assert read.tobytes() == values.tobytes()


def test_the_files_and_keys_are_those_of_a_run(run: Path) -> None:
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    listed = first_cells("The run folder")
    named = {re.sub(r"\d{4}(?=\.)", "0007", file) for file in files}
    assert named <= listed | {"rounds/0007.safetensors"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest) == first_cells("manifest.json")
    line = json.loads((run / "rounds.jsonl").read_text().splitlines()[1])
    assert list(line) == re.findall(r"^\| `([^`]+)` ", under("rounds.jsonl"), re.M)[: len(line)]


def test_the_policies_are_those_of_the_code() -> None:
    assert first_cells("What is kept") == {"full", "delta-fp16", "none"}
