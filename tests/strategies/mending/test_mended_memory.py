"""Rules around strategies: what they remember, tell clients and are given; what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from observing_helpers import N
from observing_helpers import run as run_toy
from plain_rules import Counting, Doubling
from toy_federation import (
    N_CLASSES,
    SortedGrid,
    arrays_of,
    bits,
    build_net,
    initial_weights,
    samples_of,
    toy_app,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, Setting, State, Updates
from fedcircuit.aggregation.drift import Scaffold
from fedcircuit.aggregation.heads import ClassCountHead, LogitOffsets
from fedcircuit.aggregation.tensors import packed_tensors, trained
from fedcircuit.learning import Weights
from fedcircuit.strategies import LIPS, CircuitFedAvg, Mended, observe


def test_a_resumed_run_goes_on_with_what_rules_remember(tmp_path: Path) -> None:
    def strategy(folder: Path, *, resume: bool) -> Strategy:
        rules = [Doubling(), Counting()]
        return observe(Mended(FedAvg(), rules), run_dir=folder, resume=resume)

    whole = strategy(tmp_path / "whole", resume=False)
    straight = run_toy(whole, rounds=4)
    run_toy(strategy(tmp_path / "parts", resume=True), rounds=2)
    second = strategy(tmp_path / "parts", resume=True)
    assert second.rule_state["1/times"] == 2  # type: ignore[attr-defined]
    resumed = run_toy(second, rounds=4)
    assert second.rule_state["1/times"] == 4  # type: ignore[attr-defined]
    assert second.rule_state["1/round"] == 4  # type: ignore[attr-defined]
    assert bits(weights_of(resumed.arrays)) == bits(weights_of(straight.arrays))


def test_what_rules_remember_is_recorded_by_a_strategy_inside_and_taken_back(
    tmp_path: Path,
) -> None:
    run_toy(Mended(observe(FedAvg(), run_dir=tmp_path / "run"), [Counting()]), rounds=2)
    inner = observe(FedAvg(), run_dir=tmp_path / "run", resume=True)
    assert Mended(inner, [Counting()]).rule_state["0/times"] == 2


def test_last_only_is_the_last_round_of_a_resumed_run(tmp_path: Path) -> None:
    def strategy() -> Strategy:
        inner = Mended(FedAvg(), [Counting()], last_only=True)
        return observe(inner, run_dir=tmp_path / "run", resume=True)

    run_toy(strategy(), rounds=1)
    second = strategy()
    run_toy(second, rounds=3)
    assert second.rule_state["0/round"] == 3  # type: ignore[attr-defined]


class Telling:
    """Toy clients that say more, and show what their config said."""

    def __init__(self, said: Callable[[Weights], dict[str, object]]) -> None:
        honest, self.configs = toy_app(), []
        self.app = ClientApp()

        def train(message: Message, context: Context) -> Message:
            (config,) = message.content.config_records.values()
            self.configs.append(dict(config))
            reply: Message = honest(message, context)
            (arrays,) = reply.content.array_records.values()
            reply.content[messages.SIDE_CHANNEL].update(said(weights_of(arrays)))
            return reply

        self.app.train()(train)
        self.app.evaluate()(honest)
        self.app.query("fedcircuit")(honest)


def ones(weights: Weights) -> dict[str, object]:
    kept = {name: np.ones(weights[name].shape) for name in trained(weights, Setting())}
    return {messages.SCAFFOLD_DELTA: packed_tensors(kept)}


def test_scaffold_tells_clients_the_control_variate_from_the_second_round_on() -> None:
    clients = Telling(ones)
    strategy = Mended(FedAvg(), [Scaffold(n_clients=2 * N)])
    run_toy(strategy, SortedGrid(clients.app, N), rounds=3)
    told = [config.get(messages.SCAFFOLD_CONTROL) for config in clients.configs]
    assert told[:N] == [None] * N
    for number in (1, 2):  # N clients of 2 N add 1 each a round
        for values in told[number * N : (number + 1) * N]:
            assert isinstance(values, bytes)
            np.testing.assert_allclose(np.frombuffer(values, "<f4"), number / 2)


@pytest.mark.parametrize("outside", [True, False])
def test_strategies_inside_are_told_the_number_of_rounds(outside: bool) -> None:
    inner = Mended(FedAvg(), [Counting()], last_only=True)
    strategy = (
        LIPS(inner, d0=0.5, layers=["0.weight"])
        if outside
        else Mended(LIPS(inner, d0=0.5, layers=["0.weight"]), [Doubling()])
    )
    run_toy(strategy, rounds=2)
    assert strategy.n_rounds == 2
    assert inner.rule_state["0/round"] == 2


def test_the_density_of_a_resumed_run_grows_over_all_its_rounds(tmp_path: Path) -> None:
    def strategy() -> LIPS:
        lips = LIPS(FedAvg(), d0=0.5, layers=["0.weight"])
        return observe(lips, run_dir=tmp_path / "run", resume=True)

    run_toy(strategy(), rounds=1)
    second = strategy()
    run_toy(second, rounds=3)
    assert second.n_rounds == 3


def test_the_probe_s_checking_half_is_not_what_rules_fit_on() -> None:
    strategy = Mended(FedAvg(), [LogitOffsets()], model=build_net(), probe=samples_of(9, 60))
    assert strategy.setting.probe is not None
    assert 0 < len(strategy.setting.probe) < len(samples_of(9, 60))


def test_rules_see_where_a_client_started_under_a_masked_download() -> None:
    seen: list[Updates] = []

    @dataclass(frozen=True)
    class Looking:
        name: ClassVar[str] = "looking"

        def __call__(
            self, updates: Updates, average: Weights, setting: Setting, state: State
        ) -> tuple[Weights, State]:
            seen.append(updates)
            return average, NO_STATE

    lips = LIPS(FedAvg(), period=1, d0=0.5, layers=["0.weight"])
    run_toy(Mended(lips, [Looking()]), rounds=2)
    assert all(update.start == {} for update in seen[0].clients)
    for update in seen[1].clients:
        assert np.count_nonzero(update.start["0.weight"]) == 15
        assert [int(u.client) for u in seen[1].clients] == list(range(N))


def test_clients_circuits_reach_rules() -> None:
    packed = np.packbits(np.array([[1, 0, 1, 0, 0], [0, 0, 0, 1, 1], [1] * 5], bool), axis=1)
    said = {messages.MASKS: packed.tobytes(), messages.MASKS_FOUND: [True, True, False],
            messages.MASKS_UNITS: 5}  # fmt: skip
    clients = Telling(lambda _: dict(said))
    seen: list[Setting] = []

    @dataclass(frozen=True)
    class Looking:
        name: ClassVar[str] = "looking"

        def __call__(
            self, updates: Updates, average: Weights, setting: Setting, state: State
        ) -> tuple[Weights, State]:
            seen.append(setting)
            return average, NO_STATE

    run_toy(Mended(FedAvg(), [Looking()]), SortedGrid(clients.app, N), rounds=1)
    assert seen[0].n_classes == N_CLASSES
    assert seen[0].masks is not None
    assert seen[0].masks[0].astype(int).tolist() == [[1, 0, 1, 0, 0], [0, 0, 0, 1, 1], [0] * 5]


def test_circuit_fedavg_can_be_mended_too() -> None:
    strategy = Mended(CircuitFedAvg(), [Counting()])
    result = run_toy(strategy, rounds=1)
    plain = run_toy(CircuitFedAvg(), rounds=1)
    got, mean = weights_of(result.arrays), weights_of(plain.arrays)
    np.testing.assert_array_equal(got["3.bias"], mean["3.bias"] + 1)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Mended(object(), []), TypeError, "wraps message-based"),  # type: ignore[arg-type]
        (lambda: Mended(FedAvg(), [ClassCountHead]), TypeError, "must be names or rules"),  # type: ignore[list-item]
        (lambda: Mended(FedAvg(), ["ccrv"]), ValueError, "did you mean 'ccvr'"),
        (lambda: Mended(FedAvg(), [], every=0), ValueError, "every must be >= 1"),
        (lambda: Mended(FedAvg(), [], probe=samples_of(0)), ValueError, "give model too"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    make: Callable[[], Strategy], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make()


def test_last_only_needs_the_number_of_rounds() -> None:
    strategy = Mended(FedAvg(), [Counting()], last_only=True)
    grid = SortedGrid(toy_app(), N)
    with pytest.raises(ValueError, match="last_only needs the number of rounds"):
        strategy.configure_train(1, arrays_of(initial_weights()), ConfigRecord(), grid)


def test_raw_updates_under_server_side_noise_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner = flower.DifferentialPrivacyServerSideFixedClipping(FedAvg(), 0.1, 0.5, N)
    Mended(inner, [Counting()])
    assert "DP(Mended(...))" in caplog.text


def test_a_round_in_which_nobody_answers_is_left_to_the_strategy() -> None:
    strategy = Mended(FedAvg(), [Counting()])
    strategy.configure_train(
        1, arrays_of(initial_weights()), ConfigRecord(), SortedGrid(toy_app(), N)
    )
    arrays, _ = strategy.aggregate_train(1, [])
    assert arrays is None


def test_settings_are_those_given() -> None:
    strategy = Mended(FedAvg(), [], n_classes=7, seed=4)
    assert strategy.setting == replace(Setting(), n_classes=7, seed=4)
