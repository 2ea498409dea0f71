"""Every rule with our own clients: nothing is refused, all stays finite, and it trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg
from toy_federation import (
    N_CLASSES,
    SortedGrid,
    arrays_of,
    bits,
    build_net,
    data_of,
    initial_weights,
    samples_of,
    weights_of,
)

from fedcircuit.aggregation.named import RULE_NAMES
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.clients import ClientCircuits, client_app
from fedcircuit.learning import Weights, set_weights
from fedcircuit.learning.training import FeatureVariance, LocalTraining, evaluate
from fedcircuit.records.runs import Run
from fedcircuit.strategies import Mended, observe

N, ROUNDS = 4, 3
CIRCUITS = ClientCircuits(CircuitSettings(controls=2))
# what clients must be asked for; by default they say class counts and steps
ASKED: dict[str, dict[str, object]] = {
    "livar-head": {"feature_variance": FeatureVariance()},
    "livar-layers": {"path_importance": True},
    "ccvr": {"class_moments": True},
    "circuit-calibration": {"class_moments": True},
    "fisher": {"fisher": True},
    "feddyn": {"feddyn_alpha": 0.01},
    "scaffold": {"scaffold": True},
}
WITH_CIRCUITS = {"circuit-calibration", "covered-average", "conflict-projection"}
WITH_MODEL = {"weight-matching", "circuit-calibration", "covered-average", "conflict-projection"}
WITH_PROBE = {"logit-offsets"}


def accuracy(weights: Weights) -> float:
    model = build_net()
    set_weights(model, weights)
    return evaluate(model, samples_of(20), n_classes=N_CLASSES).accuracy


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_rule_works_with_our_clients(name: str, tmp_path: Path) -> None:
    training = LocalTraining(epochs=4, batch_size=8, lr=0.1, **ASKED.get(name, {}))  # type: ignore[arg-type]
    app = client_app(
        build_net, data_of, training, n_classes=N_CLASSES,
        circuits=CIRCUITS if name in WITH_CIRCUITS else None,
    )  # fmt: skip
    known = {"model": build_net()} if name in WITH_MODEL | WITH_PROBE else {}
    probe = {"probe": samples_of(9, 60)} if name in WITH_PROBE else {}
    rule = Mended(FedAvg(), [name], n_classes=N_CLASSES, **known, **probe)  # type: ignore[arg-type]
    strategy = observe(rule, run_dir=tmp_path / "run")
    result = strategy.start(SortedGrid(app, N), arrays_of(initial_weights()), num_rounds=ROUNDS)
    run = Run.load(tmp_path / "run")
    assert run.rounds == (1, 2, 3)
    assert run.failures.empty
    weights = weights_of(result.arrays)
    assert all(np.isfinite(values).all() for values in weights.values())
    assert bits(weights) != bits(initial_weights())
    assert accuracy(weights) > 0.5 > accuracy(initial_weights())  # chance is 1/3
