"""The guard: mended weights go on only where clients, or the probe, confirm them."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message
from flwr.serverapp.strategy import FedAvg, FedMedian, FedProx, Result, Strategy
from guard_helpers import Counted, Given, asking, good_weights, harm, run_round
from observing_helpers import N, last_record
from observing_helpers import run as run_toy
from plain_rules import Counting
from toy_federation import (
    arrays_of,
    bits,
    build_net,
    initial_weights,
    samples_of,
    weights_of,
)

from fedcircuit.circuits.probes import as_probe
from fedcircuit.learning import set_weights
from fedcircuit.learning.training import evaluate
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies import LIPS, Guard, Mended, observe
from fedcircuit.strategies.mending.guard import Answer, verdict_of

FIGURES = {"guard-loss-average", "guard-loss-mended", "guard-clients", "guard-applied"}


def final(result: Result) -> dict[str, tuple[str, bytes]]:
    return bits(weights_of(result.arrays))


def applied(result: Result) -> list[int]:
    """Per round, what the guard let go on."""
    rounds = sorted(result.train_metrics_clientapp.items())
    return [int(metrics["guard-applied"]) for _, metrics in rounds]  # type: ignore[arg-type]


def test_the_federated_loss_weighs_clients_by_examples() -> None:
    verdict = verdict_of({
        "a": (Answer(10, 1.0), Answer(10, 0.5)),
        "b": (Answer(30, 0.2), Answer(30, 0.6)),
    })  # fmt: skip
    assert verdict.average == pytest.approx((10 * 1.0 + 30 * 0.2) / 40)
    assert verdict.mended == pytest.approx((10 * 0.5 + 30 * 0.6) / 40)
    assert (verdict.n_clients, verdict.silent, verdict.applied) == (2, {}, False)
    assert verdict_of({"a": (Answer(10, 1.0), Answer(10, 0.5))}).applied


def test_a_tie_keeps_the_average() -> None:
    assert not verdict_of({"a": (Answer(3, 0.25), Answer(3, 0.25))}).applied


def test_a_client_counts_only_if_it_answered_for_both() -> None:
    good = (Answer(10, 1.0), Answer(10, 0.5))
    verdict = verdict_of({
        "a": good,
        "b": ("no reply in time", "no reply in time"),
        "c": (Answer(5, 0.1), "it broke"),
        "d": (Answer(5, 0.1), Answer(6, 9.0)),
        "e": (Answer(5, math.nan), Answer(5, math.inf)),
    })  # fmt: skip
    assert (verdict.average, verdict.mended, verdict.n_clients) == (1.0, 0.5, 1)
    assert dict(verdict.silent) == {
        "b": "no reply in time",
        "c": "it broke",
        "d": "it evaluated on 5 and then on 6 examples",
        "e": "its losses are nan and inf",
    }


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_weights_without_a_finite_loss_lose(loss: float) -> None:
    calm = (Answer(10, 1.0), Answer(10, 0.5))
    spoilt = verdict_of({"a": calm, "b": (Answer(1, 1.0), Answer(1, loss))})
    assert (spoilt.mended, spoilt.applied) == (math.inf, False)
    mended = verdict_of({"a": calm, "b": (Answer(1, loss), Answer(1, 1.0))})
    assert (mended.average, mended.applied) == (math.inf, True)


def test_with_no_client_that_counts_nothing_is_known() -> None:
    verdict = verdict_of({"a": ("it broke", "it broke")})
    assert math.isnan(verdict.average)
    assert math.isnan(verdict.mended)
    assert not verdict.applied


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every of the guard must be >= 1"),
        ({"on": "server"}, "'clients' or 'probe', got 'server'"),
        ({"min_clients": 0}, "min_clients of the guard must be >= 1"),
        ({"timeout": 0.0}, "timeout of the guard must be > 0"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Guard(**options)  # type: ignore[arg-type]


def test_a_guard_that_asks_the_probe_needs_one() -> None:
    with pytest.raises(ValueError, match="give Mended model and probe"):
        Mended(FedAvg(), [Counting()], guard=Guard(on="probe"))


@pytest.mark.parametrize("make", [FedAvg, FedMedian, lambda: FedProx(proximal_mu=0.1)])
def test_a_rule_that_harms_is_not_applied(make: Callable[[], Strategy]) -> None:
    plain = run_toy(make())
    got = run_toy(Mended(make(), [harm()], guard=asking()))
    assert final(got) == final(plain)
    assert applied(got) == [0, 0, 0]
    for number, metrics in got.train_metrics_clientapp.items():
        # Flower's own evaluation of the same weights on the same clients is another route
        evaluated = got.evaluate_metrics_clientapp[number]
        assert metrics["guard-loss-average"] == pytest.approx(evaluated["loss"], rel=1e-12)
        assert metrics["guard-loss-mended"] > metrics["guard-loss-average"]  # type: ignore[operator]
        assert metrics["guard-clients"] == N
        assert set(metrics) - set(plain.train_metrics_clientapp[number]) == FIGURES


def test_a_rule_that_helps_is_applied() -> None:
    got = run_toy(Mended(FedAvg(), [Given(good_weights())], guard=asking()), rounds=1)
    free = run_toy(Mended(FedAvg(), [Given(good_weights())]), rounds=1)
    assert final(got) == final(free)
    assert final(got) != final(run_toy(FedAvg(), rounds=1))
    assert applied(got) == [1]
    mended = got.train_metrics_clientapp[1]["guard-loss-mended"]
    assert mended == pytest.approx(got.evaluate_metrics_clientapp[1]["loss"], rel=1e-12)


def test_each_client_gets_both_downloads_and_without_a_guard_none() -> None:
    with_guard, without = Counted(), Counted()
    run_toy(Mended(FedAvg(), [harm()], guard=asking()), with_guard.grid(), rounds=2)
    run_toy(Mended(FedAvg(), [harm()]), without.grid(), rounds=2)
    assert len(without.nodes("evaluate")) == 2 * N
    assert sorted(with_guard.nodes("evaluate")) == sorted(3 * without.nodes("evaluate"))
    assert len(with_guard.nodes("train")) == len(without.nodes("train")) == 2 * N
    downloads = [content for kind, _, content in with_guard.sent if kind == "evaluate"]
    biases = [weights_of(content["arrays"])["3.bias"] for content in downloads]  # type: ignore[arg-type]
    assert all((bias < 90).all() for bias in biases[:N])  # the average
    assert all((bias[0] > 90).all() for bias in biases[N : 2 * N])  # what harm() makes of it
    assert all((bias < 90).all() for bias in biases[2 * N : 3 * N])  # Flower's own evaluation


def test_rules_that_change_nothing_ask_nobody() -> None:
    counted = Counted()
    got = run_toy(Mended(FedAvg(), [Given({})], guard=asking()), counted.grid(), rounds=2)
    assert len(counted.nodes("evaluate")) == 2 * N
    assert "guard-applied" not in got.train_metrics_clientapp[1]


def test_the_clients_asked_are_those_that_evaluate_the_round() -> None:
    counted = Counted()
    strategy = Mended(FedAvg(fraction_evaluate=0.4), [harm()], guard=asking())
    run_toy(observe(strategy), counted.grid(), rounds=3)
    nodes = counted.nodes("evaluate")
    thirds = [nodes[k : k + 2] for k in range(0, len(nodes), 2)]
    assert len(thirds) == 9
    for first in (0, 3, 6):
        assert len({tuple(sorted(one)) for one in thirds[first : first + 3]}) == 1
    assert len({tuple(sorted(one)) for one in thirds[::3]}) > 1  # not the same in every round


def test_the_verdict_holds_until_the_next_guarded_round() -> None:
    """From round 4 on the rule harms; rounds 1 and 4 are guarded."""
    counted = Counted()
    rule = Given(good_weights(), until=2)
    got = run_toy(Mended(FedAvg(), [rule], guard=asking(every=3)), counted.grid(), rounds=5)
    assert applied(got) == [1, 1, 1, 0, 0]
    assert len(counted.nodes("evaluate")) == (5 + 2 * 2) * N
    assert set(got.train_metrics_clientapp[1]) >= FIGURES
    assert FIGURES & set(got.train_metrics_clientapp[2]) == {"guard-applied"}


def test_rules_go_on_remembering_where_they_are_not_applied() -> None:
    strategy = Mended(FedAvg(), [Counting(), harm()], guard=asking())
    assert applied(run_toy(strategy)) == [0, 0, 0]
    assert strategy.rule_state["0/times"] == 3


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("until", [0, 9])
def test_a_resumed_run_goes_on_with_the_verdict(tmp_path: Path, inside: bool, until: int) -> None:
    def strategy(folder: str) -> Strategy:
        rules = [Counting(), Given(good_weights(), until=until)]
        guard = asking(every=3)
        if inside:
            observed = observe(FedAvg(), run_dir=tmp_path / folder, resume=True)
            return Mended(observed, rules, guard=guard)
        return observe(Mended(FedAvg(), rules, guard=guard), run_dir=tmp_path / folder, resume=True)

    def go(folder: str, rounds: int, done: int = 0) -> Counted:
        counted = Counted()
        made = strategy(folder)
        asked = rounds if not inside else rounds - done
        start = weights_of(last_record_arrays(made)) if inside and done else None
        run_toy(made, counted.grid(), rounds=asked, weights=start)
        return counted

    go("whole", 5)
    go("parts", 2)
    second = go("parts", 5, done=2)
    assert len(second.nodes("evaluate")) == (3 + 2) * N  # round 4 alone is guarded
    numbers = {
        content["config"]["server-round"]  # type: ignore[call-overload]
        for kind, _, content in second.sent
        if kind == "evaluate"
    }
    assert numbers == {3, 4, 5}
    with RunStore.open(tmp_path / "whole") as whole, RunStore.open(tmp_path / "parts") as parts:
        for one, other in zip(whole, parts, strict=True):
            assert bits(one.weights) == bits(other.weights)
            assert dict(one.metrics) == dict(other.metrics)
            assert bits(one.state) == bits(other.state)


def last_record_arrays(strategy: Strategy) -> object:
    return arrays_of(last_record(strategy).weights)


def test_observed_inside_or_outside_verdicts_are_recorded(tmp_path: Path) -> None:
    def mended(inner: Strategy) -> Strategy:
        return Mended(inner, [harm()], guard=asking(every=2))

    outside = run_toy(observe(mended(FedAvg()), run_dir=tmp_path / "outside"))
    inside = run_toy(mended(observe(FedAvg(), run_dir=tmp_path / "inside")))
    assert final(outside) == final(inside)
    with RunStore.open(tmp_path / "outside") as one, RunStore.open(tmp_path / "inside") as other:
        recorded = [dict(record.metrics) for record in one]
        assert recorded == [dict(record.metrics) for record in other]
    assert [said.get("guard-applied") for said in recorded] == [None, 0, 0, 0]
    assert [FIGURES <= set(said) for said in recorded] == [False, True, False, True]


@pytest.mark.parametrize("outside", [True, False])
def test_clients_are_told_what_the_evaluation_s_config_says(outside: bool) -> None:
    counted = Counted()
    inner = Mended(FedAvg(), [harm()], guard=asking())
    strategy = LIPS(inner, d0=0.5, layers=["0.weight"]) if outside else inner
    strategy.start(
        counted.grid(),
        arrays_of(initial_weights()),
        num_rounds=2,
        evaluate_config=ConfigRecord({"batches": 3}),
    )
    said = [content["config"].get("batches") for kind, _, content in counted.sent
            if kind == "evaluate"]  # type: ignore[union-attr]  # fmt: skip
    unknown = 2 * N if outside else 0  # in round 1 a strategy inside another cannot know it
    assert said == [None] * unknown + [3] * (6 * N - unknown)


def test_shuffled_answers_give_the_same_figures() -> None:
    def metrics(lose: Callable[[list[Message]], list[Message]]) -> dict[str, object]:
        strategy = observe(Mended(FedAvg(), [harm()], guard=asking()))
        result = run_toy(strategy, Counted(lose=lose).grid(), rounds=1)
        return dict(result.train_metrics_clientapp[1])

    assert metrics(list) == metrics(lambda replies: replies[::-1])


@pytest.mark.parametrize(("rule", "expected"), [(harm(), 0), (Given(good_weights()), 1)])
def test_the_probe_s_other_half_may_be_asked_instead(rule: Given, expected: int) -> None:
    counted, given = Counted(), samples_of(9, 60)
    strategy = Mended(
        FedAvg(), [rule], model=build_net(), probe=given, guard=Guard(on="probe"), strict=True
    )
    got = run_toy(strategy, counted.grid(), rounds=1)
    assert applied(got) == [expected]
    assert len(counted.nodes("evaluate")) == N
    metrics, net = got.train_metrics_clientapp[1], build_net().double()
    set_weights(net, {k: v.astype(v.dtype) for k, v in weights_of(got.arrays).items()})
    half = as_probe(given, build_net()).checking
    loss = evaluate(net, half, n_classes=3).loss
    assert metrics["guard-loss-mended" if expected else "guard-loss-average"] == pytest.approx(loss)
    assert metrics["guard-clients"] == 0


def test_a_guarded_strategy_can_be_copied_though_its_grid_cannot() -> None:
    strategy = Mended(FedAvg(), [harm()], guard=asking())
    grid = Counted().grid()
    run_round(strategy, grid)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        pickle.dumps(grid)
    copied = pickle.loads(pickle.dumps(strategy))
    run_round(copied, grid, 2)
    assert copied.rule_state["guard/asked"] == 2
