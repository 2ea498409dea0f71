"""Layer inertia from a run folder: exactly what the observer recorded, whatever the strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from made_up_inertia import Course, global_weights, make_inertia_run
from torch import nn
from toy_federation import N_CLASSES, N_INPUTS, arrays_of, data_of

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.clients.app import client_app
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.learning.weights import get_weights
from fedcircuit.observers.inertia import InertiaObserver
from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.report.tables import inertia as reported
from fedcircuit.report.tables.inertia import InertiaTables, inertia_of_run, inertia_tables
from fedcircuit.strategies.lips import LIPS
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions

ROUNDS = 6
PATHS = ["0.weight", "1.weight", "1.bias", "3.weight", "3.bias", "5.weight", "5.bias"]
LAYERS = [
    "fc1.weight", "norm1.weight", "norm1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias",
]  # fmt: skip


def deep_net() -> nn.Module:
    """Three weights; a bias before batch norm would have no gradient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Linear(N_INPUTS, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(),
            nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, N_CLASSES),
        )  # fmt: skip


def federation(
    path: Path,
    make: Callable[..., Strategy],
    *,
    updates: Any = "full",
    rounds: int = ROUNDS,
    observer: InertiaObserver | None = None,
) -> Run:
    """A run in this process, observed."""
    if path.exists():
        store = RunStore.open(path)
        done = max(store.rounds())
        start = store.read(done).weights
    else:
        manifest = build_manifest("toy", None, seed=0, class_names=("a",), thresholds={})
        store, done = RunStore.create(path, manifest, Storage(updates=updates)), 0
        start = get_weights(deep_net())
    options = RecorderOptions(seed=1, round_offset=done, strict=True)
    strategy = make(store=store, observers=[observer or InertiaObserver()], options=options)
    training = LocalTraining(epochs=1, batch_size=8, lr=0.1)
    app = client_app(deep_net, data_of, training, n_classes=N_CLASSES)
    strategy.start(InProcessGrid(app, 4), arrays_of(start), num_rounds=rounds)
    store.close()
    return Run.load(path)


def wrapped(inner: Callable[[], Strategy]) -> Callable[..., Strategy]:
    return lambda **to: observe(inner(), **to)


MAKE: dict[str, Callable[..., Strategy]] = {
    "FedAvg": wrapped(lambda: FedAvg(fraction_train=0.6)),
    "FedAvgM": wrapped(lambda: flower.FedAvgM(server_momentum=0.5)),
    "FedMedian": wrapped(flower.FedMedian),
    "LIPS": lambda **to: LIPS(observe(FedAvg(), **to), period=2, score="random"),
}


def assert_equal(found: InertiaTables, run: Run) -> None:
    for name, table in (("inertia", found.layers), ("inertia_index", found.index)):
        pd.testing.assert_frame_equal(table, run.table(name), check_exact=True)


@pytest.mark.parametrize("name", MAKE)
def test_what_is_computed_later_is_exactly_what_was_recorded(name: str, tmp_path: Path) -> None:
    run = federation(tmp_path / "run", MAKE[name])
    found = inertia_of_run(run)
    assert_equal(found, run)
    table = found.layers
    assert table["layer"].tolist() == LAYERS * ROUNDS
    assert table["path"].tolist() == PATHS * ROUNDS
    measures = ["u", "r", "drift", "cosine", "m", "kappa"]
    assert list(table.columns) == ["round", "layer", "path", *measures]
    assert table.loc[table["round"] < 3, ["drift", "cosine"]].isna().all(axis=None)
    others = table.drop(columns=["layer", "path", "drift", "cosine"])
    assert np.isfinite(others.to_numpy(dtype=float)).all()
    assert (table["u"] > 0).all()
    assert found.index["index"].notna().all()


def test_movement_is_coherence_times_client_movement_unless_clients_received_other_weights(
    tmp_path: Path,
) -> None:
    plain = inertia_of_run(federation(tmp_path / "plain", wrapped(FedAvg)))
    layers = plain.layers
    np.testing.assert_allclose(layers["u"], layers["kappa"] * layers["m"], rtol=1e-4, atol=1e-7)
    assert plain.index["start"].tolist() == ["global"] * ROUNDS

    masked = inertia_of_run(federation(tmp_path / "masked", MAKE["LIPS"]))
    starts = masked.index.set_index("round")["start"]
    # with period 2 the downloads of rounds 2, 4 and 6 are masked: the first of them has i = 0
    assert starts.to_dict() == {n: "received" if n % 2 == 0 else "global" for n in range(1, 7)}
    middle = masked.layers[masked.layers["layer"] == "fc2.weight"].set_index("round")
    gap = (middle["u"] / (middle["kappa"] * middle["m"]) - 1).abs()
    assert (gap[[1, 3, 5]] < 1e-4).all()
    assert (gap[[2, 4, 6]] > 0.01).all()


def test_a_run_without_client_weights_has_no_client_measures(tmp_path: Path) -> None:
    run = federation(tmp_path / "run", wrapped(FedAvg), updates="none")
    found, recorded = inertia_of_run(run), run.table("inertia")
    assert found.layers[["m", "kappa"]].isna().all(axis=None)
    assert found.index["start"].isna().all()
    assert recorded[["m", "kappa"]].notna().all(axis=None)  # the observer did see them
    shared = ["round", "layer", "u", "r", "drift", "cosine"]
    pd.testing.assert_frame_equal(found.layers[shared], recorded[shared], check_exact=True)


def test_half_precision_differences_give_the_client_measures_nearly(tmp_path: Path) -> None:
    run = federation(tmp_path / "run", wrapped(FedAvg), updates="delta-fp16")
    found, recorded = inertia_of_run(run).layers, run.table("inertia")
    np.testing.assert_allclose(found["m"], recorded["m"], rtol=2e-3)
    np.testing.assert_allclose(found["kappa"], recorded["kappa"], rtol=2e-2)
    np.testing.assert_array_equal(found["u"], recorded["u"])


def test_a_resumed_run_equals_one_that_was_never_interrupted(tmp_path: Path) -> None:
    whole = federation(tmp_path / "whole", MAKE["FedAvgM"])
    first = federation(tmp_path / "parts", MAKE["FedAvgM"], rounds=4)
    observer = InertiaObserver(first.weights(3))
    parts = federation(tmp_path / "parts", MAKE["FedAvgM"], rounds=2, observer=observer)
    for name in ("inertia", "inertia_index"):
        pd.testing.assert_frame_equal(parts.table(name), whole.table(name), check_exact=True)
    assert_equal(inertia_of_run(parts), parts)


def test_numbers_of_a_made_up_run(tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run", Course(masked=(2,)))
    found = inertia_of_run(run)
    rows = found.layers.set_index(["round", "layer"])
    assert "first.running_mean" not in found.layers["layer"].unique()
    assert rows.loc[(4, "mid.weight"), "u"] == pytest.approx(0.2)  # four numbers moved by 0.1
    assert rows.loc[(4, "mid.weight"), "r"] == pytest.approx(0.1 / 1.3)
    assert rows.loc[(4, "last.weight"), "drift"] == pytest.approx(0.3 / 1.9)
    assert rows.loc[(4, "still.weight"), "r"] == 0
    assert math.isnan(rows.loc[(4, "still.weight"), "kappa"])
    assert rows.loc[(1, "first.bias"), "r"] > 1e10  # it was zero before
    middle = (0.1 / 1.3 + 0) / 2  # of mid and still
    assert found.index["index"][3] == pytest.approx(middle / ((0.2 / 1.6 + 0.3 / 1.9) / 2))
    assert found.index["start"].tolist() == ["global", "received", "global", "global", "global"]
    before, record = global_weights(Course(), 1), run.record(2)
    starts = [np.zeros((2, 2)), before["mid.weight"]]
    moved = [
        np.linalg.norm(np.asarray(c.weights["mid.weight"], float) - start)
        for c, start in zip(record.clients, starts, strict=True)
    ]
    assert rows.loc[(2, "mid.weight"), "m"] == pytest.approx(0.25 * moved[0] + 0.75 * moved[1])


def test_layers_and_the_round_of_the_snapshot_can_be_chosen(tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run")
    found = inertia_of_run(run, snapshot_round=1, layers=["mid.weight"], clients=False)
    assert found.layers["layer"].unique().tolist() == ["mid.weight"]
    np.testing.assert_allclose(found.layers["drift"], np.arange(5) * 0.1 / 1.1, rtol=1e-5)
    assert found.layers["m"].isna().all()


def test_a_run_without_rounds_is_refused(tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run", Course(rounds=0))
    with pytest.raises(ValueError, match="has no round yet"):
        inertia_of_run(run)
    assert inertia_tables(run) is None


def test_a_report_takes_what_was_recorded_first(tmp_path: Path) -> None:
    run = federation(tmp_path / "run", wrapped(FedAvg), updates="none")
    found = inertia_tables(run)
    assert found is not None
    pd.testing.assert_frame_equal(found.layers, run.table("inertia"))
    assert found.layers["m"].notna().all()


def test_a_report_reads_the_weights_only_of_small_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_inertia_run(tmp_path / "run")
    size = sum(values.size for values in run.weights(0).values())
    assert size == 3 + 3 + 1 + 4 * 4

    def found(most: int) -> InertiaTables | None:
        monkeypatch.setattr(reported, "MOST_NUMBERS", most)
        return inertia_tables(run.refresh())  # a new object, so that nothing is known of it

    everything = size * (6 + 5 * 2)  # rounds 0 to 5, and two clients in five rounds
    whole, without = found(everything), found(everything - 1)
    assert whole is not None
    assert without is not None
    assert whole.layers["m"].notna().all()
    assert without.layers["m"].isna().all()
    assert found(size * 6) is not None
    assert found(size * 6 - 1) is None
