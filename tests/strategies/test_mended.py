"""Rules around strategies: what is mended, what is recorded, and what happens where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy
from observing_helpers import STRATEGIES, N, floats, outcome
from observing_helpers import run as run_toy
from toy_federation import (
    N_CLASSES,
    SortedGrid,
    Witness,
    arrays_of,
    bits,
    build_net,
    initial_weights,
    samples_of,
    toy_app,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Setting, State, Updates
from fedcircuit.aggregation.drift import FedNova, Scaffold
from fedcircuit.aggregation.heads import CCVR, ClassCountHead, LogitOffsets, Refit
from fedcircuit.aggregation.tensors import packed_tensors, trained
from fedcircuit.learning import Weights
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies import LIPS, CircuitFedAvg, Mended, observe


@dataclass(frozen=True)
class Counting:
    """Adds 1 to all biases of the head, and remembers how often it did."""

    name: ClassVar[str] = "counting"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other biases."""
        bias = average["3.bias"] + np.float32(1)
        times = state.get("times", np.zeros(())) + 1
        return {**average, "3.bias": bias}, {"times": times, "round": np.array(updates.round)}


@dataclass(frozen=True)
class Doubling:
    """Doubles the head's biases."""

    name: ClassVar[str] = "doubling"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with other biases."""
        return {**average, "3.bias": average["3.bias"] * np.float32(2)}, NO_STATE


@pytest.mark.parametrize("name", [name for name in STRATEGIES if not name.startswith("DP")])
def test_without_rules_every_strategy_gives_the_same_bits(name: str) -> None:
    weights = floats() if name in ("FedAdam", "FedYogi", "FedAdagrad") else None
    plain = run_toy(STRATEGIES[name](), weights=weights)
    assert outcome(run_toy(Mended(STRATEGIES[name](), []), weights=weights)) == outcome(plain)


@pytest.mark.parametrize("name", ["FedAvg", "FedProx", "FedAvgM", "FedMedian", "Krum", "Bulyan"])
def test_every_strategy_can_be_mended_and_its_own_average_is_what_is_mended(name: str) -> None:
    plain = weights_of(run_toy(STRATEGIES[name](), rounds=1).arrays)
    got = weights_of(run_toy(Mended(STRATEGIES[name](), [Counting()]), rounds=1).arrays)
    expected = {**plain, "3.bias": plain["3.bias"] + 1}
    assert bits(got) == bits(expected)


def test_rules_follow_each_other_in_order() -> None:
    def bias(rules: list[object]) -> np.ndarray:
        result = run_toy(Mended(FedAvg(), rules), rounds=1)  # type: ignore[arg-type]
        return weights_of(result.arrays)["3.bias"]

    plain = bias([])
    np.testing.assert_array_equal(bias([Counting(), Doubling()]), (plain + 1) * 2)
    np.testing.assert_array_equal(bias([Doubling(), Counting()]), plain * 2 + 1)
    nested = run_toy(Mended(Mended(FedAvg(), [Counting()]), [Doubling()]), rounds=1)
    np.testing.assert_array_equal(weights_of(nested.arrays)["3.bias"], (plain + 1) * 2)


def test_observed_inside_or_outside_the_mended_weights_are_recorded() -> None:
    inside, outside = Witness(), Witness()
    one = run_toy(Mended(observe(FedAvg(), observers=[inside]), [Counting()]))
    other = run_toy(observe(Mended(FedAvg(), [Counting()]), observers=[outside]))
    assert bits(weights_of(one.arrays)) == bits(weights_of(other.arrays))
    for a, b in zip(inside.views, outside.views, strict=True):
        assert bits(a.after) == bits(b.after)
    before, after = inside.views[1].before, inside.views[0].after
    assert all(np.array_equal(before[name], after[name]) for name in floats())
    last = weights_of(one.arrays)["3.bias"]
    np.testing.assert_array_equal(inside.views[-1].after["3.bias"], last)


def test_a_rule_by_its_name_reads_what_clients_say_and_gives_what_the_pure_rule_gives() -> None:
    witness = Witness()
    run_toy(observe(Mended(FedAvg(), ["class-count-head"]), observers=[witness]), rounds=1)
    (view,) = witness.views
    counts = np.array([c.extra[messages.CLASS_COUNTS] for c in view.clients], np.float64)
    shares = counts / counts.sum(0)
    weights = np.stack([c.weights["3.weight"] for c in view.clients]).astype(np.float64)
    expected = np.einsum("kc,kcd->cd", shares, weights)
    np.testing.assert_allclose(view.after["3.weight"], expected, rtol=1e-5)


def shuffled(order: Callable[[list[Message]], list[Message]]) -> type[SortedGrid]:
    class Shuffled(SortedGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> list[Message]:
            return order(super().send_and_receive(messages, timeout=timeout))

    return Shuffled


def test_shuffled_replies_give_the_same_bits() -> None:
    def final(order: Callable[[list[Message]], list[Message]]) -> dict[str, tuple[str, bytes]]:
        grid = shuffled(order)(toy_app(), N)
        rules = [ClassCountHead(), CCVR(refit=Refit(per_class=10, epochs=2))]
        strategy = observe(Mended(FedAvg(), rules, model=build_net(), probe=samples_of(9, 60)))
        return bits(weights_of(run_toy(strategy, grid, rounds=2).arrays))

    assert final(list) == final(lambda replies: replies[::-1])


def test_what_cannot_be_used_is_named_recorded_and_costs_the_round_nothing(tmp_path: Path) -> None:
    def strategy(rules: list[object]) -> Strategy:
        return Mended(FedAvg(), rules)  # type: ignore[arg-type]

    observed = observe(strategy([Counting(), "fednova"]), run_dir=tmp_path / "run")
    got = run_toy(observed, rounds=2)
    plain = run_toy(observe(FedAvg()), rounds=2)
    assert bits(weights_of(got.arrays)) == bits(weights_of(plain.arrays))
    with RunStore.open(tmp_path / "run") as store:
        rows = [one for record in store for one in record.failures]
    assert [(one.client, one.kind) for one in rows] == [("0", "rule")] * 2
    assert "'fednova'" in rows[0].reason
    assert messages.LOCAL_STEPS in rows[0].reason


@pytest.mark.parametrize("where", ["inside", "outside", "nowhere"])
def test_strict_raises_where_a_rule_cannot_be_used(where: str) -> None:
    inner = observe(FedAvg()) if where == "inside" else FedAvg()
    strategy = Mended(inner, [FedNova()], strict=True)
    if where == "outside":
        observe(strategy)
    with pytest.raises(RuleError, match=r"'fednova' cannot be used: client (0|node-\d+)"):
        run_toy(strategy, rounds=1)


@dataclass(frozen=True)
class Broken:
    """A rule with a fault."""

    name: ClassVar[str] = "broken"
    gives: str = "error"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """Anything but weights."""
        if self.gives == "error":
            raise KeyError("conv9")
        changes = {
            "fewer": {"3.weight": average["3.weight"]},
            "nan": {**average, "3.bias": average["3.bias"] * np.float32("nan")},
            "dtype": {**average, "3.bias": average["3.bias"].astype(np.float64)},
        }
        return changes[self.gives], NO_STATE


@pytest.mark.parametrize(
    ("gives", "words"),
    [("error", "conv9"), ("fewer", "other tensors"), ("nan", "NaN"), ("dtype", "float64")],
)
def test_a_rule_with_a_fault_is_named_and_not_used(gives: str, words: str) -> None:
    with pytest.raises(RuleError, match=f"'broken' cannot be used: it .*{words}"):
        run_toy(Mended(FedAvg(), [Broken(gives)], strict=True), rounds=1)
    kept = run_toy(Mended(FedAvg(), [Broken(gives)]), rounds=2)
    assert outcome(kept) == outcome(run_toy(FedAvg(), rounds=2))


def test_every_and_last_only_choose_the_rounds() -> None:
    def mended(**options: object) -> list[bool]:
        witness = Witness()
        inner = observe(FedAvg(), observers=[witness])
        strategy = Mended(inner, [Counting()], **options)  # type: ignore[arg-type]
        run_toy(strategy, rounds=4)
        found = []
        for view in witness.views:
            mean = sum(
                c.num_examples * c.weights["3.bias"].astype(np.float64) for c in view.clients
            ) / sum(c.num_examples for c in view.clients)
            found.append(bool(np.abs(view.after["3.bias"] - mean).min() > 0.5))
        return found

    assert mended() == [True, True, True, True]
    assert mended(every=2) == [False, True, False, True]
    assert mended(last_only=True) == [False, False, False, True]


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
