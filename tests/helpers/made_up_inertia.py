"""Runs made up for the pictures of layer inertia, written by the real store.

Four weights and a bias that move by known amounts: ``last`` three times as much as ``mid``,
``still`` never, and ``bias`` starts at zero. With clients, each has its own direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import (
    GLOBAL,
    ClientRecord,
    Observation,
    RoundRecord,
    Table,
)
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore

Weights = dict[str, NDArray[np.generic]]
WEIGHTS = ("first.weight", "mid.weight", "still.weight", "last.weight")
STEPS = {"first.weight": 0.2, "mid.weight": 0.1, "first.bias": 0.05, "last.weight": 0.3}


@dataclass(frozen=True)
class Course:
    """How long the run is, and what it holds."""

    rounds: int = 5
    clients: int = 2
    accuracy: bool = True
    extra_layers: int = 0  # more of the kind of ``mid``
    masked: tuple[int, ...] = ()  # rounds in which client 0 received another middle
    updates: str = "full"
    weights: bool = True  # False: nothing but a bias
    frozen: bool = False  # nothing moves but the bias, so that there is no index


def global_weights(course: Course, number: int) -> Weights:
    """Global weights after a round."""
    result: Weights = {
        "first.bias": np.full(3, 0.05 * number, dtype=np.float32),
        "first.running_mean": np.full(3, 9.0 * number, dtype=np.float32),
        "seen": np.array(number),
    }
    if course.weights:
        shapes = [*WEIGHTS[:2], *(f"mid{i}.weight" for i in range(course.extra_layers))]
        for name in (*shapes, *WEIGHTS[2:]):
            still = course.frozen or name.startswith("still")
            step = 0.0 if still else STEPS.get(name, 0.1)
            result[name] = np.full((2, 2), 1 + step * number, dtype=np.float32)
    return result


def make_inertia_run(path: Path, course: Course | None = None) -> Run:
    """Write the run and load it; no observer has looked at it but for the accuracy."""
    course = course or Course()
    manifest = build_manifest("moving", None, seed=0, class_names=("a", "b"), thresholds={})
    with RunStore.create(path, manifest, Storage(updates=course.updates)) as store:  # type: ignore[arg-type]
        store.append(RoundRecord(0, global_weights(course, 0)))
        for number in range(1, course.rounds + 1):
            store.append(_record(course, number))
    return Run.load(path)


def _record(course: Course, number: int) -> RoundRecord:
    observations = {}
    if course.accuracy:
        rows = ((GLOBAL, -1, min(1.0, number / 10), nan, 9, 1.0),)
        table = Table(("model", "class", "recall", "fpr", "n", "loss"), rows)
        observations["evaluation"] = Observation({"accuracy": table})
    after = global_weights(course, number)
    clients = tuple(_client(course, number, k) for k in range(course.clients))
    return RoundRecord(number, after, clients=clients, observations=observations)


def _client(course: Course, number: int, k: int) -> ClientRecord:
    rng = np.random.default_rng([number, k])
    before = global_weights(course, number - 1)
    end = {
        name: (values + rng.normal(size=values.shape)).astype(values.dtype)
        if values.dtype.kind == "f" and name != "still.weight"
        else values
        for name, values in before.items()
    }
    masked = k == 0 and number in course.masked
    received = {"mid.weight": np.zeros((2, 2), dtype=np.float32)} if masked else {}
    return ClientRecord(str(k), 10 + 20 * k, end, received=received)
