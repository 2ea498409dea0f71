"""What trackers wrote, read back with their own libraries: numbers by round and name."""

from __future__ import annotations

import json
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

Rounds = dict[int, dict[str, float]]


def tensorboard_values(folder: Path) -> Rounds:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder))
    seen.Reload()
    rounds: Rounds = defaultdict(dict)
    for name in seen.Tags()["scalars"]:
        events = seen.Scalars(name)
        assert len({event.step for event in events}) == len(events), name
        for event in events:
            rounds[event.step][name] = event.value
    return dict(sorted(rounds.items()))


def wandb_values(folder: Path) -> list[tuple[str, Rounds]]:
    """By offline run, the identity and the history in its file."""
    from wandb.proto import wandb_internal_pb2

    runs = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        rounds, identity = {}, ""
        for data in _whole(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                identity = record.run.run_id
            if record.HasField("history"):
                items = {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
                numbers = {k: v for k, v in items.items() if not k.startswith("_")}
                rounds[int(numbers["round"])] = numbers
        runs.append((identity, rounds))
    return runs


def _whole(file: Path, seconds: float = 30) -> list[bytes]:
    """All records, the exit the last: another process of wandb's writes them out in its time."""
    from wandb.proto import wandb_internal_pb2

    end = time.monotonic() + seconds
    while True:
        records = list(_records(file.read_bytes()))
        last = wandb_internal_pb2.Record()
        last.ParseFromString(records[-1] if records else b"")
        if last.HasField("exit"):
            return records
        assert time.monotonic() < end, f"{file} has no end"
        time.sleep(0.05)


def _records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log of blocks of 32 KiB behind a header of seven bytes."""
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at < len(data):
        if (left := -at % 32768) and left < 7:
            at += left  # a rest of zeros
            continue
        if at + 7 > len(data):
            return  # not written yet
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def mlflow_values(folder: Path) -> tuple[Rounds, str, list[str]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "fedcircuit"]
    (run,) = client.search_runs([experiment.experiment_id])
    rounds: Rounds = defaultdict(dict)
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            rounds[metric.step][name] = metric.value
    artifacts = [file.path for file in client.list_artifacts(run.info.run_id)]
    return dict(sorted(rounds.items())), run.info.status, artifacts
