"""The inertia observer: its tables, its snapshot, and clients it cannot see."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from fedcircuit.learning.weights import Weights
from fedcircuit.observers.inertia import InertiaObserver
from fedcircuit.records.rounds.round_record import ClientRecord, Observation, RoundView

COLUMNS = ("layer", "u", "r", "drift", "cosine", "m", "kappa")


def weights(*values: float) -> Weights:
    """Three weights, a bias and what trains nothing."""
    return {
        "in.weight": np.full((2, 1), values[0], dtype=np.float32),
        "in.bias": np.full(2, values[1], dtype=np.float32),
        "norm.running_mean": np.full(2, 7 * values[2], dtype=np.float32),
        "norm.num_batches_tracked": np.array(int(values[0])),
        "mid.weight": np.full((2, 2), values[2], dtype=np.float32),
        "out.weight": np.full((1, 2), values[3], dtype=np.float32),
    }


HISTORY = [weights(1 + t, 2 + t * t, 4 + t / 8, 8 - t) for t in range(6)]
VIEWS = [RoundView(i, a, b, ()) for i, (a, b) in enumerate(pairwise(HISTORY), start=1)]


def rows(observation: Observation) -> dict[str, dict[str, object]]:
    table = observation.tables["inertia"]
    assert table.columns == COLUMNS
    return {str(row[0]): dict(zip(COLUMNS, row, strict=True)) for row in table.rows}


def test_a_row_for_every_layer_and_one_for_the_index() -> None:
    observation = InertiaObserver()(VIEWS[0])
    assert set(observation.tables) == {"inertia", "inertia_index"}
    found = rows(observation)
    assert list(found) == ["in.weight", "in.bias", "mid.weight", "out.weight"]
    assert found["in.weight"]["r"] == pytest.approx(1.0)
    assert found["in.bias"]["r"] == pytest.approx(0.5)
    assert found["mid.weight"]["u"] == pytest.approx(0.125 * 2)
    index = observation.tables["inertia_index"]
    assert index.columns == ("index", "start")
    assert index.rows[0][0] == pytest.approx((0.125 / 4) / ((1 + 1 / 8) / 2))


def test_clients_nobody_sees_leave_their_measures_and_the_start_undefined() -> None:
    observation = InertiaObserver()(VIEWS[0])
    assert all(math.isnan(row["m"]) for row in rows(observation).values())
    assert all(math.isnan(row["kappa"]) for row in rows(observation).values())
    assert observation.tables["inertia_index"].rows[0][1] is None


def test_clients_are_measured_from_what_they_received() -> None:
    before = HISTORY[0]
    end = {**before, "mid.weight": before["mid.weight"] + 3}
    zeroed = {"mid.weight": np.zeros((2, 2), dtype=np.float32)}
    plain = ClientRecord("0", 10, end)  # moved by 6 in the middle
    masked = ClientRecord("1", 30, end, received=zeroed)  # moved by 14, in the same direction
    together = InertiaObserver()(RoundView(1, before, HISTORY[1], (plain, masked)))
    assert rows(together)["mid.weight"]["m"] == pytest.approx(0.25 * 6 + 0.75 * 14)
    assert rows(together)["mid.weight"]["kappa"] == pytest.approx(1.0)
    assert rows(together)["in.weight"]["m"] == 0.0
    assert together.tables["inertia_index"].rows[0][1] == "received"
    alone = InertiaObserver()(RoundView(1, before, HISTORY[1], (plain,)))
    assert alone.tables["inertia_index"].rows[0][1] == "global"


def test_drift_is_measured_from_the_third_round_on() -> None:
    observer = InertiaObserver()
    found = [rows(observer(view)) for view in VIEWS]
    drifts = [row["out.weight"]["drift"] for row in found]
    assert [math.isnan(d) for d in drifts] == [True, True, False, False, False]
    assert drifts[2:] == pytest.approx([0, 1 / 5, 2 / 5])
    assert [row["out.weight"]["cosine"] for row in found[2:]] == pytest.approx([1, 1, 1])


def test_a_resumed_run_goes_on_from_the_snapshot_it_is_given() -> None:
    first = InertiaObserver()
    whole = [first(view) for view in VIEWS]
    resumed = InertiaObserver(HISTORY[3])
    assert [resumed(view) for view in VIEWS[3:]] == whole[3:]
    lost = InertiaObserver()
    assert math.isnan(rows(lost(VIEWS[4]))["out.weight"]["drift"])


def test_a_run_resumed_before_the_snapshot_takes_its_own() -> None:
    first, resumed = InertiaObserver(), InertiaObserver()
    for view in VIEWS[:2]:
        first(view)
    assert [resumed(view) for view in VIEWS[2:]] == [first(view) for view in VIEWS[2:]]


def test_the_round_of_the_snapshot_and_the_layers_can_be_chosen() -> None:
    observer = InertiaObserver(snapshot_round=1, layers=["out.weight"])
    found = [rows(observer(view)) for view in VIEWS]
    assert all(list(row) == ["out.weight"] for row in found)
    assert found[1]["out.weight"]["drift"] == pytest.approx(1 / 7)
    with pytest.raises(ValueError, match="snapshot_round must be >= 1, got 0"):
        InertiaObserver(snapshot_round=0)


def test_read_only_weights_are_enough() -> None:
    for values in (*HISTORY[0].values(), *HISTORY[1].values()):
        values.flags.writeable = False
    client = ClientRecord("0", 10, HISTORY[1])
    found = InertiaObserver()(RoundView(1, HISTORY[0], HISTORY[1], (client,)))
    assert rows(found)["in.bias"]["kappa"] == pytest.approx(1.0)
