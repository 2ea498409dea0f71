"""LIPS around strategies: what clients receive, what they keep, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from lips_helpers import (
    MIDDLE,
    N,
    Spied,
    averages,
    build,
    del_gradient_before_round_2,
    start,
    typed,
)
from observing_helpers import floats, last_record, outcome
from observing_helpers import run as run_toy
from torch import nn
from toy_federation import (
    SortedGrid,
    Witness,
    arrays_of,
    bits,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.aggregation.lips import kept_entries, scores
from fedcircuit.clients.lips import GRADIENT
from fedcircuit.clients.memory import recalled
from fedcircuit.records.runs.run import Run
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.lips import LIPS
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions


@pytest.mark.parametrize("score", ["magnitude", "low", "random"])
def test_the_server_masks_the_middle_and_leaves_all_else_as_it_was(score: str) -> None:
    clients = Spied()
    clients.run(LIPS(FedAvg(), period=3, d0=0.3, score=score, seed=4), rounds=3)

    for client in range(N):
        assert bits(clients.received["train", 1, client]) == bits(start())  # round 1 is dense
        dense, masked = averages(clients, 1), clients.received["train", 2, client]
        assert np.count_nonzero(masked[MIDDLE]) == 12  # floor(0.3 * 40)
        for name, values in masked.items():
            if name != MIDDLE:
                np.testing.assert_allclose(values, dense[name], rtol=1e-6, atol=1e-7)
        kept = masked[MIDDLE] != 0
        np.testing.assert_allclose(masked[MIDDLE][kept], dense[MIDDLE][kept], rtol=1e-6)
        if score != "random":
            expected = kept_entries(scores({MIDDLE: dense[MIDDLE]}, score), 0.3)[MIDDLE]  # type: ignore[arg-type]
            np.testing.assert_array_equal(kept, expected)
        assert clients.configs["train", 2, client][messages.LIPS_DENSITY] == 0.3
        assert np.count_nonzero(clients.received["train", 3, client][MIDDLE]) == 40
        assert clients.configs["train", 3, client][messages.LIPS_DENSITY] == 1.0


def test_untouched_tensors_are_bit_equal_to_the_global_model() -> None:
    witness, clients = Witness(), Spied()
    clients.run(observe(LIPS(FedAvg(), period=1, d0=0.5), observers=[witness]), rounds=3)
    for view in witness.views[1:]:
        for client in range(N):
            got = dict(clients.received["train", view.round, client])
            touched = got.pop(MIDDLE)
            assert bits(got) == bits({k: v for k, v in view.before.items() if k != MIDDLE})
            assert not np.array_equal(touched, view.before[MIDDLE])


def test_one_local_step_makes_the_model_dense_again() -> None:
    clients = Spied(epochs=1, batch_size=64)  # one step
    clients.run(LIPS(FedAvg(), period=1, d0=0.5, schedule="const"), rounds=2)
    for client in range(N):
        assert np.count_nonzero(clients.received["train", 2, client][MIDDLE]) == 20
        alive = clients.sent[2, client][MIDDLE] != 0
        # a unit that is dead on the client's data gets no gradient: its column stays
        assert alive.mean() > 0.9


@pytest.mark.parametrize(
    "make", [FedAvg, lambda: flower.FedProx(proximal_mu=0.1), flower.FedAdam, flower.FedMedian]
)
def test_a_density_of_one_is_the_wrapped_strategy_bit_for_bit(
    make: Callable[[], Strategy],
) -> None:
    weights = floats() if make is flower.FedAdam else None
    plain = run_toy(make(), weights=weights)
    wrapped = run_toy(LIPS(make(), d0=1.0, layers=["0.weight"]), weights=weights)
    assert outcome(wrapped) == outcome(plain)


def test_the_wrapped_strategy_keeps_the_dense_model_for_its_own_arithmetic() -> None:
    """Server momentum is taken from the dense model, not from what clients were sent."""
    clients = Spied()
    strategy = flower.FedAvgM(server_learning_rate=0.5, server_momentum=0.0)
    floating = {name: values for name, values in start().items() if values.dtype.kind == "f"}
    witness = Witness()
    observe(strategy, observers=[witness])
    clients.run(LIPS(strategy, period=1, d0=0.5), rounds=2)
    second = witness.views[1]
    mean = averages(clients, 2)
    for name in floating:
        expected = 0.5 * second.before[name] + 0.5 * mean[name]
        np.testing.assert_allclose(second.after[name], expected, rtol=1e-4, atol=1e-6)


def test_one_seed_gives_one_run_and_another_changes_the_random_score_alone() -> None:
    def final(score: str, seed: int) -> dict[str, tuple[str, bytes]]:
        strategy = LIPS(FedAvg(), period=1, d0=0.5, score=score, seed=seed)
        return bits(weights_of(Spied().run(strategy, rounds=3).arrays))

    for score in ("magnitude", "sensitivity", "low"):
        assert final(score, 1) == final(score, 1) == final(score, 2)
    assert final("random", 1) == final("random", 1) != final("random", 2)


@pytest.mark.parametrize("score", ["magnitude", "sensitivity"])
def test_clients_evaluate_the_dense_global_model(score: str) -> None:
    witness, clients = Witness(), Spied()
    clients.run(
        observe(LIPS(FedAvg(), period=1, d0=0.2, score=score), observers=[witness]), rounds=3
    )
    for view in witness.views:
        for client in range(N):
            got = clients.received["evaluate", view.round, client]
            assert bits(typed(got)) == bits(typed(view.after))


def test_sensitivity_without_a_gradient_is_magnitude_then_the_clients_own() -> None:
    witness, clients = Witness(), Spied()
    strategy = LIPS(FedAvg(fraction_train=1.0), period=1, d0=0.4, score="sensitivity")
    observe(strategy, observers=[witness])
    del_gradient_before_round_2(clients, client=0)
    clients.run(strategy, rounds=3)
    for view in witness.views[1:]:
        for client in range(N):
            np.testing.assert_array_equal(  # the server has masked nothing
                clients.received["train", view.round, client][MIDDLE], view.before[MIDDLE]
            )
    second = witness.views[1]
    before = {MIDDLE: second.before[MIDDLE]}
    magnitude = kept_entries(scores(before, "magnitude"), 0.4)[MIDDLE]
    starts = [second.start_of(str(client))[MIDDLE] for client in range(N)]
    np.testing.assert_array_equal(starts[0] != 0, magnitude)
    for client in (1, 2):
        gradient = recalled(clients.contexts[1, client], GRADIENT)
        expected = kept_entries(scores(before, "sensitivity", gradient=gradient), 0.4)[MIDDLE]
        np.testing.assert_array_equal(starts[client] != 0, expected)
        assert not np.array_equal(expected, magnitude)


def test_with_sync_bn_every_small_tensor_is_the_global_one_and_without_it_the_clients_own() -> None:
    small = [name for name, values in start().items() if values.ndim < 2]
    synced, apart = Witness(), Witness()
    for sync, witness in ((True, synced), (False, apart)):
        clients = Spied(epochs=2, batch_size=8)
        strategy = LIPS(FedAvg(), period=5, d0=0.5, sync_bn=sync)
        clients.run(observe(strategy, observers=[witness]), rounds=2)
        for client in range(N):
            got = clients.received["train", 2, client]
            assert bits({n: got[n] for n in small}) == bits(
                {n: witness.views[1].before[n] for n in small}
            )
    assert len(small) == 13  # three biases, two batch norms of five tensors each
    first, second = apart.views
    for record in second.clients:
        was = next(c for c in first.clients if c.client == record.client).weights
        # batch norm counts its steps: its own goes on, the averaged one would start from the mean
        assert record.weights["1.num_batches_tracked"] == 2 * was["1.num_batches_tracked"]
        assert set(record.received) >= {MIDDLE}
    # aggregated all the same: the server's batch norm is the mean of the clients'
    sizes = np.array([record.num_examples for record in second.clients])
    mean = sum(
        n / sizes.sum() * record.weights["1.running_mean"]
        for n, record in zip(sizes, second.clients, strict=True)
    )
    np.testing.assert_allclose(second.after["1.running_mean"], mean, rtol=1e-5, atol=1e-6)
    assert bits(synced.views[0].after) == bits(apart.views[0].after)  # round 1 is the same
    assert bits(synced.views[1].after) != bits(apart.views[1].after)


def test_dropped_entries_may_go_back_to_their_initial_values() -> None:
    clients = Spied()
    clients.run(LIPS(FedAvg(), period=1, d0=0.5, reset="init"), rounds=2)
    got, dense = clients.received["train", 2, 0][MIDDLE], averages(clients, 1)[MIDDLE]
    kept = kept_entries(scores({MIDDLE: dense}, "magnitude"), 0.5)[MIDDLE]
    np.testing.assert_array_equal(got[~kept], start()[MIDDLE][~kept])
    np.testing.assert_allclose(got[kept], dense[kept], rtol=1e-6)


@pytest.mark.parametrize("outside", [True, False])
def test_a_run_records_what_clients_started_from(tmp_path: Path, outside: bool) -> None:
    clients = Spied()
    options = RecorderOptions(strict=True)
    run_dir = tmp_path / "run"
    strategy: Strategy
    if outside:
        strategy = observe(LIPS(FedAvg(), period=2, d0=0.5), run_dir=run_dir, options=options)
    else:
        strategy = LIPS(CircuitFedAvg(run_dir=run_dir, options=options), period=2, d0=0.5)
    clients.run(strategy, rounds=3)
    run = Run.load(run_dir)
    for number in (1, 2, 3):
        for client in range(N):
            got = typed(clients.received["train", number, client])
            assert bits(typed(run.start_of(number, str(client)))) == bits(got)
    assert np.count_nonzero(run.start_of(2, "0")[MIDDLE]) == 20
    assert np.count_nonzero(run.weights(1)[MIDDLE]) == 40  # the record of the average is dense


def test_an_observed_strategy_inside_cannot_be_observed_again() -> None:
    with pytest.raises(ValueError, match="is observed already"):
        observe(LIPS(CircuitFedAvg()))


def test_clients_measure_their_own_model_where_they_are_asked_to() -> None:
    asked, plain = Spied(), Spied()
    metrics = asked.run(LIPS(FedAvg(), d0=1.0, personalised_eval=True), rounds=1)
    assert {"test_accuracy", "test_loss"} <= set(metrics.train_metrics_clientapp[1])
    without = plain.run(LIPS(FedAvg(), d0=1.0), rounds=1)
    assert "test_accuracy" not in without.train_metrics_clientapp[1]


def test_the_config_that_a_strategy_keeps_for_all_rounds_is_not_written_to() -> None:
    config = ConfigRecord({"mine": 1})
    strategy = LIPS(FedAvg(), period=1, d0=0.5, score="sensitivity", sync_bn=False)
    strategy.start(SortedGrid(Spied().app, N), arrays_of(start()), 2, train_config=config)
    assert set(config) == {"mine", "server-round"}  # the round is Flower's own


def test_masked_rounds_are_those_of_the_run_where_the_recorder_is_inside(tmp_path: Path) -> None:
    """With period 2 rounds 2 and 4 are masked, though round 2 is the second strategy's first."""
    densities = {}
    for done, rounds in ((0, 1), (1, 3)):
        inner = observe(FedAvg(), run_dir=tmp_path / "run", resume=True)
        clients, strategy = Spied(), LIPS(inner, period=2, d0=0.5, schedule="const")
        weights = start() if not done else last_record(inner).weights
        strategy.start(SortedGrid(clients.app, N), arrays_of(weights), num_rounds=rounds)
        densities |= {
            number: config[messages.LIPS_DENSITY]
            for (kind, number, _), config in clients.configs.items()
            if kind == "train"
        }
    assert densities == {1: 1.0, 2: 0.5, 3: 1.0, 4: 0.5}


def test_layers_can_be_named_or_picked_from_a_model() -> None:
    by_name, by_module = Spied(), Spied()
    by_name.run(LIPS(FedAvg(), period=1, d0=0.5, layers=["0.weight", "6.weight"]), rounds=2)
    by_module.run(
        LIPS(
            FedAvg(), period=1, d0=0.5, model=build(),
            include=lambda name, module: isinstance(module, nn.Linear) and name != "3",
        ),
        rounds=2,
    )  # fmt: skip
    got = by_name.received["train", 2, 0]
    assert bits(got) == bits(by_module.received["train", 2, 0])
    assert [np.count_nonzero(got[name]) for name in ("0.weight", MIDDLE, "6.weight")] == [24, 40, 7]


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match=r"LIPS wraps message-based strategies .* got flwr\.server"):
        LIPS(LegacyFedAvg())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give both model and include, or neither"):
        LIPS(FedAvg(), model=build())
    with pytest.raises(ValueError, match="give include or layers, not both"):
        LIPS(FedAvg(), model=build(), include=lambda *_: True, layers=["0.weight"])
    with pytest.raises(ValueError, match=r"no such layers as \['7.weight'\]"):
        Spied().run(LIPS(FedAvg(), d0=0.5, layers=["7.weight"]), rounds=2)
    grid = SortedGrid(Spied().app, N)
    with pytest.raises(ValueError, match="does not know the number of rounds"):
        LIPS(FedAvg()).configure_train(2, arrays_of(start()), ConfigRecord(), grid)
    late = LIPS(FedAvg(), d0=0.5, reset="init", n_rounds=9)
    with pytest.raises(ValueError, match="needs the initial weights, and round 1 is over"):
        late.configure_train(2, arrays_of(start()), ConfigRecord(), grid)
