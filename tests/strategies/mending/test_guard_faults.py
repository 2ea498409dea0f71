"""What the guard does where clients, or the strategy, do not answer: named, and nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from pathlib import Path

import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, FedMedian
from guard_helpers import Counted, Given, asking, good_weights, harm, run_round
from observing_helpers import N, last_record
from observing_helpers import run as run_toy
from plain_rules import Counting
from toy_federation import arrays_of, data_of, initial_weights, toy_app

from fedcircuit.aggregation import RuleError
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies import Guard, Mended, observe


def failing(evaluate: Callable[[Message, Context, Message], Message]) -> ClientApp:
    """Toy clients that evaluate otherwise."""
    app, honest = ClientApp(), toy_app()

    def other(message: Message, context: Context) -> Message:
        return evaluate(message, context, honest(message, context))

    app.train()(honest)
    app.evaluate()(other)
    app.query("fedcircuit")(honest)
    return app


def says(partition: int | None, **metrics: float) -> ClientApp:
    """Toy clients of which one, or all, say only these metrics of their evaluation."""

    def evaluate(message: Message, context: Context, honest: Message) -> Message:
        if partition not in (None, context.node_config["partition-id"]):
            return honest
        named = {name.replace("_", "-"): value for name, value in metrics.items()}
        return Message(RecordDict({"metrics": MetricRecord(named)}), reply_to=message)  # type: ignore[arg-type]

    return failing(evaluate)


def raising(partition: int | None) -> ClientApp:
    def evaluate(message: Message, context: Context, honest: Message) -> Message:
        if partition in (None, context.node_config["partition-id"]):
            raise ValueError("my mistake")
        return honest

    return failing(evaluate)


def lost(replies: list[Message]) -> list[Message]:
    """Replies without the evaluation of the first node."""
    return [
        reply
        for reply in replies
        if reply.metadata.message_type != "evaluate" or reply.metadata.src_node_id != 2
    ]


@pytest.mark.parametrize(
    ("counted", "who", "words"),
    [
        (Counted(raising(1)), "1", "my mistake"),
        (Counted(says(2, loss=0.1, num_examples=0)), "2", "no examples to evaluate on"),
        (Counted(says(2, loss=0.1)), "2", "no examples to evaluate on"),
        (Counted(says(3, eval_loss=0.1, num_examples=5)), "3", "no number 'loss', but"),
        (Counted(lose=lost), "0", "no reply in time"),
    ],
)
def test_clients_that_do_not_answer_are_named_and_the_others_decide(
    tmp_path: Path, counted: Counted, who: str, words: str
) -> None:
    strategy = Mended(FedMedian(), [Given(good_weights())], guard=asking())
    observed = observe(strategy, run_dir=tmp_path / "run")
    run_round(observed, counted.grid())
    record = last_record(observed)
    ((client, kind, reason),) = [(one.client, one.kind, one.reason) for one in record.failures]
    assert (client, kind) == (who, "guard")
    assert words in reason
    assert record.metrics["guard-clients"] == N - 1
    assert record.metrics["guard-applied"] == 1


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (raising(None), r"got 0 of 5 asked: client 0: .*my mistake"),
        (says(None, loss=math.nan, num_examples=3), r"client 0: its losses are nan and nan"),
    ],
)
def test_where_nobody_answers_the_average_goes_on_and_the_next_round_asks(
    tmp_path: Path, app: ClientApp, words: str
) -> None:
    strategy = Mended(FedAvg(), [Counting()], guard=asking(every=9))
    observed = observe(strategy, run_dir=tmp_path / "run")
    counted = Counted(app)
    grid = counted.grid()
    run_round(observed, grid)
    run_round(observed, grid, 2)
    with RunStore.open(tmp_path / "run") as store:
        rows = [[(one.client, one.kind) for one in record.failures] for record in store]
    named = [(str(k), "guard") for k in range(N)]
    assert rows == [[], [*named, ("global", "rule")], [*named, ("global", "rule")]]
    assert "rule 'guard' cannot be used" in last_record(observed).failures[-1].reason
    with pytest.raises(RuleError, match=words):
        run_round(Mended(FedAvg(), [Counting()], guard=asking(), strict=True), Counted(app).grid())


def test_clients_without_validation_samples_refuse() -> None:
    def go(guard: Guard, app: ClientApp) -> Mended:
        strategy = Mended(FedAvg(), [Given(good_weights())], guard=guard, strict=True)
        run_round(strategy, Counted(app).grid())
        return strategy

    with pytest.raises(RuleError, match="got 0 of 5 asked: client 0: .*no samples but those it"):
        go(Guard(), toy_app())
    assert go(Guard(), toy_app(test=data_of)).rule_state["guard/applied"]
    assert go(Guard(held_out=False), toy_app()).rule_state["guard/applied"]


def test_a_second_answer_and_answers_to_other_messages_do_not_count(tmp_path: Path) -> None:
    old: list[Message] = []

    def more(replies: list[Message]) -> list[Message]:
        if replies[0].metadata.message_type == "train":
            old.extend(replies)
            return replies
        again = copy(replies[0])
        wrong = MetricRecord({"loss": 1e6, "num-examples": 1})
        again.content = RecordDict({"metrics": wrong})
        return [*replies, again, *old]

    def figures(lose: Callable[[list[Message]], list[Message]], folder: str) -> dict[str, object]:
        mended = Mended(FedAvg(), [harm()], guard=asking())
        strategy = observe(mended, run_dir=tmp_path / folder)
        run_round(strategy, Counted(lose=lose).grid())
        assert last_record(strategy).failures == ()
        return dict(last_record(strategy).metrics)

    assert figures(more, "more") == figures(list, "plain")
    assert old


def test_too_few_answers_decide_nothing() -> None:
    guard = asking(min_clients=N)
    strategy = Mended(FedAvg(), [Given(good_weights())], guard=guard, strict=True)
    with pytest.raises(RuleError, match="needs 5 clients that evaluate both weights, got 4 of 5"):
        run_round(strategy, Counted(raising(1)).grid())
    run_round(strategy, Counted().grid())
    assert strategy.rule_state["guard/applied"]


def test_a_strategy_that_has_nobody_evaluate_is_named() -> None:
    strategy = Mended(FedAvg(fraction_evaluate=0.0), [harm()], guard=asking(), strict=True)
    with pytest.raises(RuleError, match=r"asks none \(fraction_evaluate\)"):
        run_toy(strategy, rounds=1)


def test_a_strategy_that_sends_other_tensors_is_named() -> None:
    class Renaming(FedAvg):
        def configure_evaluate(self, server_round, arrays, config, grid):  # type: ignore[no-untyped-def]
            return super().configure_evaluate(
                server_round, arrays_of({"x": initial_weights()["3.bias"]}), config, grid
            )

    strategy = Mended(Renaming(), [harm()], guard=asking(), strict=True)
    with pytest.raises(RuleError, match="the strategy sends others"):
        run_round(strategy, Counted().grid())


def test_a_fault_of_the_strategy_s_own_evaluation_costs_the_round_nothing() -> None:
    class Broken(FedAvg):
        def configure_evaluate(self, server_round, arrays, config, grid):  # type: ignore[no-untyped-def]
            raise KeyError("fraction")

    strategy = Mended(Broken(), [harm()], guard=asking(), strict=True)
    with pytest.raises(RuleError, match="'guard' cannot be used: it failed with .*fraction"):
        run_round(strategy, Counted().grid())
