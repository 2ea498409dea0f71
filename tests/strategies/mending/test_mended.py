"""Rules around strategies: what is mended, what is recorded, and what happens where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from flwr.app import Message
from flwr.serverapp.strategy import FedAvg, Strategy
from observing_helpers import STRATEGIES, N, floats, outcome
from observing_helpers import run as run_toy
from plain_rules import Counting, Doubling
from toy_federation import (
    SortedGrid,
    Witness,
    bits,
    build_net,
    samples_of,
    toy_app,
    weights_of,
)

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Setting, State, Updates
from fedcircuit.aggregation.heads import CCVR, ClassCountHead, Refit
from fedcircuit.aggregation.layers import Fisher
from fedcircuit.learning import Weights
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies import Mended, observe


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

    observed = observe(strategy([Counting(), "fisher"]), run_dir=tmp_path / "run")
    got = run_toy(observed, rounds=2)
    plain = run_toy(observe(FedAvg()), rounds=2)
    assert bits(weights_of(got.arrays)) == bits(weights_of(plain.arrays))
    with RunStore.open(tmp_path / "run") as store:
        rows = [one for record in store for one in record.failures]
    assert [(one.client, one.kind) for one in rows] == [("0", "rule")] * 2
    assert "'fisher'" in rows[0].reason
    assert repr(messages.FISHER) in rows[0].reason


@pytest.mark.parametrize("where", ["inside", "outside", "nowhere"])
def test_strict_raises_where_a_rule_cannot_be_used(where: str) -> None:
    inner = observe(FedAvg()) if where == "inside" else FedAvg()
    strategy = Mended(inner, [Fisher()], strict=True)
    if where == "outside":
        observe(strategy)
    with pytest.raises(RuleError, match=r"'fisher' cannot be used: client (0|node-\d+)"):
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
            "lists": {**average, "3.bias": average["3.bias"].tolist()},
            "no names": list(average.values()),
        }
        states = {"no state": None, "ragged": {"a": [[1.0], [1.0, 2.0]]}}
        weights, kept = changes.get(self.gives, average), states.get(self.gives, NO_STATE)
        return weights, kept  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        ("error", "conv9"),
        ("fewer", "other tensors"),
        ("nan", "NaN"),
        ("dtype", "float64"),
        ("lists", "'3.bias' as list, expected an array"),
        ("no names", "weights as list, expected arrays by name"),
        ("no state", "state as NoneType, expected arrays by name"),
        ("ragged", "failed with ValueError"),
    ],
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
