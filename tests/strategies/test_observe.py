"""Observing changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, FedProx, Strategy
from observing_helpers import STRATEGIES, N, app_of, floats, outcome, recorder_of, run
from toy_federation import (
    Saboteur,
    SortedGrid,
    Witness,
    arrays_of,
    bits,
    initial_weights,
    node_ids,
    toy_app,
    weights_of,
)

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.records.runs.store import RunStore
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_observed_strategy_computes_what_the_bare_one_does(name: str, tmp_path: Path) -> None:
    rounds = 1 if name == "Bulyan" else 3  # it collects garbage for every client, in Flower
    bare = outcome(run(STRATEGIES[name](), rounds=rounds))
    witness = Witness()
    strategy = observe(
        STRATEGIES[name](),
        run_dir=tmp_path / "run",
        observers=[witness],
        options=RecorderOptions(strict=True),
    )
    assert outcome(run(strategy, rounds=rounds)) == bare
    assert [view.round for view in witness.views] == [1, 2, 3][:rounds]
    assert all([c.client for c in view.clients] == list("01234") for view in witness.views)


def scaled(message: Message, context: Context) -> Message:
    """A client whose floats are scaled by its partition: no training, no buffers."""
    factor = np.float32(1 + 0.1 * int(context.node_config["partition-id"]))
    weights = weights_of(message.content["arrays"])
    metrics = MetricRecord({"num-examples": 3, "train_loss": 1.5 * float(factor)})
    content = {"arrays": arrays_of({n: factor * w for n, w in weights.items()}), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


def test_qfedavg_is_left_alone_too() -> None:
    def qfedavg() -> Strategy:
        return flower.QFedAvg(client_learning_rate=0.1, fraction_evaluate=0.0)

    grids = [SortedGrid(app_of(scaled), 3) for _ in range(2)]
    bare = outcome(run(qfedavg(), grids[0], weights=floats(), rounds=1))
    observed = observe(qfedavg(), observers=[Witness()], options=RecorderOptions(strict=True))
    assert outcome(run(observed, grids[1], weights=floats(), rounds=1)) == bare


def test_a_strategys_state_and_class_survive_observation() -> None:
    strategy = FedProx(proximal_mu=0.3)
    observed = observe(strategy)
    assert observed is strategy
    assert isinstance(observed, FedProx)
    assert type(observed).__name__ == "ObservedFedProx"
    assert observed.proximal_mu == 0.3
    assert type(FedProx()) is FedProx


def recorded(store: RunStore) -> list[tuple[object, ...]]:
    return [
        (
            record.round,
            bits(record.weights),
            [(c.client, c.num_examples, bits(c.weights), dict(c.metrics)) for c in record.clients],
            dict(record.metrics),
        )
        for record in store
    ]


class Unordered(InProcessGrid):
    """Replies as other engines give them: in any order."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        random.Random(len(self._replies) + len(replies)).shuffle(replies)
        return replies[::-1]

    def get_node_ids(self) -> set[int]:  # type: ignore[override]
        return set(super().get_node_ids())


def test_the_order_of_replies_and_the_node_ids_change_nothing(tmp_path: Path) -> None:
    found = []
    for name, grid in {
        "plain": InProcessGrid(toy_app(), N),
        "shuffled": Unordered(toy_app(), N, node_ids=node_ids([3, 0, 4, 1, 2])),
    }.items():
        store = RunStore.create(tmp_path / name, {})
        options = RecorderOptions(seed=1, strict=True)
        strategy = observe(FedAvg(fraction_train=0.6), store=store, options=options)
        found.append((outcome(run(strategy, grid)), recorded(store)))
    assert found[0] == found[1]
    assert [len(clients) for _, _, clients, _ in found[0][1]] == [0, 3, 3, 3]


def chosen(options: RecorderOptions, *, seed: int) -> list[list[str]]:
    witness = Witness()
    random.seed(seed)
    strategy = observe(FedAvg(fraction_train=0.4), observers=[witness], options=options)
    run(strategy, InProcessGrid(toy_app(), N))
    return [[client.client for client in view.clients] for view in witness.views]


def test_clients_are_drawn_from_seed_and_round_alone() -> None:
    first = chosen(RecorderOptions(seed=4), seed=1)
    assert first == chosen(RecorderOptions(seed=4), seed=2)
    assert first != chosen(RecorderOptions(seed=5), seed=1)
    assert len({tuple(clients) for clients in first}) > 1
    assert all(len(clients) == 2 for clients in first)


def test_pythons_random_state_is_given_back() -> None:
    random.seed(8)
    expected = [random.random() for _ in range(3)]
    random.seed(8)
    run(observe(FedAvg(fraction_train=0.4)), InProcessGrid(toy_app(), N))
    assert [random.random() for _ in range(3)] == expected


def test_drawing_may_be_left_to_the_strategy() -> None:
    options = RecorderOptions(reproducible_sampling=False, strict=True)
    outcomes = []
    for strategy in (
        FedAvg(fraction_train=0.4),
        observe(FedAvg(fraction_train=0.4), options=options),
    ):
        random.seed(11)
        outcomes.append(outcome(run(strategy)))
    assert outcomes[0] == outcomes[1]


def test_an_observer_that_raises_loses_neither_the_round_nor_the_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = outcome(run(FedAvg()))
    witness = Witness()
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", observers=[Saboteur(), witness])
    assert outcome(run(strategy)) == bare
    records = list(recorder_of(strategy).store)
    assert bits(records[-1].weights) == bits(
        {n: w.astype(initial_weights()[n].dtype) for n, w in witness.views[-1].after.items()}
    )
    assert [set(record.observer_errors) for record in records] == [set(), *[{"saboteur"}] * 3]
    assert "read-only" in records[1].observer_errors["saboteur"]
    assert [set(record.observations) for record in records[1:]] == [{"witness"}] * 3
    assert "observer saboteur failed" in caplog.text


def test_strictness_raises_what_an_observer_raises() -> None:
    strategy = observe(FedAvg(), observers=[Saboteur()], options=RecorderOptions(strict=True))
    with pytest.raises(ValueError, match="read-only"):
        run(strategy)


@pytest.mark.parametrize("thing", [object(), torch.nn.Linear(1, 1), flower.FedXgbBagging()])
def test_what_is_no_strategy_with_circuits_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match=r"expected a strategy|trees"):
        observe(thing)


def test_a_strategy_is_observed_once() -> None:
    with pytest.raises(ValueError, match="observed already"):
        observe(observe(FedAvg()))
