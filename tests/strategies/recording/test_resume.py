"""A resumed run equals one that was never interrupted, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, Strategy
from observing_helpers import last_record, outcome, recorder_of
from toy_federation import arrays_of, bits, initial_weights, toy_app

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.learning.weights import Weights
from fedcircuit.records.runs.store import RunStore
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions

MAKE: dict[str, Callable[..., Strategy]] = {
    "FedAvg": lambda **to: observe(FedAvg(fraction_train=0.6), **to),
    "FedAdam": lambda **to: observe(FedAdam(fraction_train=0.6), **to),
    "FedAvgM": lambda **to: observe(FedAvgM(server_momentum=0.7), **to),
    "CircuitFedAvg": lambda **to: CircuitFedAvg(fraction_train=0.6, **to),
}


def go(
    name: str, store: RunStore, rounds: int, *, offset: int = 0, weights: Weights | None = None
) -> Strategy:
    options = RecorderOptions(seed=2, round_offset=offset, strict=True)
    strategy = MAKE[name](store=store, options=options)
    arrays = arrays_of(initial_weights() if weights is None else weights)
    strategy.start(InProcessGrid(toy_app(), 5), arrays, num_rounds=rounds)
    return strategy


@pytest.mark.parametrize("name", MAKE)
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole = RunStore.create(tmp_path / "whole", {})
    go(name, whole, 4)
    store = RunStore.create(tmp_path / "parts", {})
    go(name, store, 2)
    store.close()
    store = RunStore.open(tmp_path / "parts")
    go(name, store, 2, offset=2, weights=store.read(2).weights)
    assert store.rounds() == whole.rounds() == (0, 1, 2, 3, 4)
    for first, second in zip(whole, store, strict=True):
        assert bits(first.weights) == bits(second.weights)
        assert bits(first.state) == bits(second.state)
        assert [(c.client, bits(c.weights)) for c in first.clients] == [
            (c.client, bits(c.weights)) for c in second.clients
        ]


def test_without_its_state_a_strategy_would_go_elsewhere(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    go("FedAdam", store, 3)
    assert {name.split(":")[1] for name in store.read(3).state} >= {"m_t", "v_t"}
    fresh = RunStore.create(tmp_path / "fresh", {})
    go("FedAdam", fresh, 1, weights=store.read(2).weights)
    assert bits(fresh.read(1).weights) != bits(store.read(3).weights)


def test_rounds_are_counted_on(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    go("FedAvg", store, 1)
    strategy = go("FedAvg", store, 1, offset=1, weights=store.read(1).weights)
    assert last_record(strategy).round == recorder_of(strategy).round == 2


def test_one_may_go_on_from_other_weights(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    go("FedAdam", store, 1)
    strategy = go("FedAdam", store, 1, offset=1, weights=initial_weights())
    sent = recorder_of(strategy).before
    assert bits(sent) == bits(initial_weights())


def test_an_offset_that_does_not_fit_the_store_is_refused(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    go("FedAvg", store, 2)
    with pytest.raises(ValueError, match=r"RecorderOptions\(round_offset=2\)"):
        observe(FedAvg(), store=store)


def test_an_observed_outcome_needs_no_store() -> None:
    strategy = observe(FedAvg(), options=RecorderOptions(strict=True))
    result = strategy.start(InProcessGrid(toy_app(), 3), arrays_of(initial_weights()), num_rounds=1)
    assert outcome(result)[0]
