"""Runs made up for the pictures of the information plane, written by the real store.

Layer ``fc0`` is saturated from the start; every later layer forgets its input round by round, and
learns the label. The average is above its clients in I(T;Y) by 0.25 and in I(X;T) by 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, log2, nan
from pathlib import Path

import numpy as np

from fedcircuit.analysis.estimators.estimate import Estimate
from fedcircuit.analysis.information.plane import (
    GAP_COLUMNS,
    PLANE_COLUMNS,
    ModelPlane,
    mean_plane,
    plane_gaps,
)
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import GLOBAL, Observation, RoundRecord, Table
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore

N = 512  # samples of the pool: log2 is 9
WIDTH = 6


@dataclass(frozen=True)
class Course:
    """How long the run is, and what was measured in it."""

    rounds: int = 8
    looked_at: tuple[int, ...] | None = None  # None: all
    layers: int = 3
    clients: int = 2
    bounds: bool = True  # False: one estimate of I(X;T)
    null: float = nan
    undefined: tuple[int, ...] = ()  # rounds in which the last layer has no I(X;T)
    worse: bool = False  # the average labels fewer samples rightly than its clients


def inputs_of(course: Course, layer: int, number: int, *, average: bool) -> float:
    """I(X;T) by the upper bound."""
    if layer == 0:
        return log2(N)
    if number in course.undefined and layer == course.layers - 1:
        return nan
    return 8.0 - layer - 3.0 * number / course.rounds + (0.5 if average else 0.0)


def labels_of(course: Course, layer: int, number: int, *, average: bool) -> float:
    """I(T;Y)."""
    return 1.0 + 0.1 * layer + number / course.rounds + (0.25 if average else 0.0)


def accuracy_of(course: Course, number: int, *, average: bool) -> float:
    """Accuracy on the pool."""
    better = -0.125 if course.worse else 0.125
    return 0.25 + 0.5 * number / course.rounds + (better if average else 0.0)


def plane_of(course: Course, name: str, number: int, *, shift: float = 0.0) -> ModelPlane:
    """The made-up estimates of one model; clients are shifted against each other."""
    average = name == GLOBAL
    layers = []
    for layer in range(course.layers):
        upper = inputs_of(course, layer, number, average=average)
        label = labels_of(course, layer, number, average=average) + shift
        found = [_inputs(upper - 1.0, "lower", number)] if course.bounds else []
        found.append(_inputs(upper, "upper", number))
        found.append(
            Estimate("I(T;Y)", label, "bits", "probe", "5 folds", N, WIDTH, 1.0, False, course.null)
        )
        layers.append((f"fc{layer}", tuple(found)))
    return ModelPlane(name, accuracy_of(course, number, average=average), tuple(layers))


def _inputs(value: float, side: str, number: int) -> Estimate:
    setting = f"noise variance {number / 100:g} = 0.1^2 x mean unit variance"
    reason = "activations are not finite" if isnan(value) else ""
    return Estimate(
        "I(X;T)", value, "bits", f"kolchinsky-tracey-{side}", setting, N, WIDTH, 0.75,
        value > 0.9 * log2(N), nan, reason,
    )  # fmt: skip


def make_information_run(path: Path, course: Course | None = None) -> Run:
    """Write the run and load it."""
    course = course or Course()
    manifest = build_manifest("plane", None, seed=0, class_names=("a", "b"), thresholds={})
    weights = {"w": np.zeros(2, dtype=np.float32)}
    looked_at = range(1, course.rounds + 1) if course.looked_at is None else course.looked_at
    with RunStore.create(path, manifest) as store:
        store.append(RoundRecord(0, weights))
        for number in range(1, course.rounds + 1):
            seen = {"information": _observation(course, number)} if number in looked_at else {}
            store.append(RoundRecord(number, weights, observations=seen))
    return Run.load(path)


def _observation(course: Course, number: int) -> Observation:
    average = plane_of(course, GLOBAL, number)
    shifts = np.linspace(-0.1, 0.1, course.clients) if course.clients > 1 else [0.0]
    clients = [
        plane_of(course, str(k), number, shift=float(shifts[k])) for k in range(course.clients)
    ]
    mean = mean_plane(clients) if clients else None
    planes = [average, *clients, *([] if mean is None else [mean])]
    return Observation(
        {
            "information": Table(PLANE_COLUMNS, tuple(r for plane in planes for r in plane.cells)),
            "information_gap": Table(
                GAP_COLUMNS, tuple(g.cells for g in plane_gaps(average, mean))
            ),
        }
    )
