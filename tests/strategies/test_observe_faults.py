"""What goes wrong in a round is set aside, named and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg
from observing_helpers import N, app_of, last_record, recorder_of, run
from toy_federation import (
    SortedGrid,
    Witness,
    bits,
    toy_app,
    weights_of,
)

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.records.rounds.round_record import Failure
from fedcircuit.records.runs.store import RunStore
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.replies.failures import AllClientsFailedError


def spoiled(partition: int, spoil: Callable[[Message], None]) -> ClientApp:
    honest = toy_app()

    def train(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if context.node_config["partition-id"] == partition:
            spoil(reply)
        return reply

    return app_of(train)


def put(name: str, values: np.ndarray) -> Callable[[Message], None]:
    def spoil(reply: Message) -> None:
        reply.content["arrays"][name] = Array(values)

    return spoil


def drop(reply: Message) -> None:
    del reply.content["arrays"]["0.bias"]


def count(value: float) -> Callable[[Message], None]:
    def spoil(reply: Message) -> None:
        reply.content["metrics"]["num-examples"] = value

    return spoil


def boom(reply: Message) -> None:
    raise ValueError("my mistake")


SPOILED = {
    "NaN": (put("0.bias", np.full(5, np.nan, np.float32)), "non-finite", "'0.bias' holds NaN"),
    "shape": (put("0.bias", np.zeros(4, np.float32)), "shape", "(4,), expected (5,)"),
    "extra": (put("odd", np.zeros(4)), "names", "unexpected ['odd']"),
    "missing": (drop, "names", "missing ['0.bias']"),
    "zero": (count(0), "count", "must be > 0, got 0"),
    "negative": (count(-2.0), "count", "must be > 0, got -2.0"),
    "raising": (boom, "error", "ValueError: my mistake"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_bad_reply_is_set_aside_with_a_reason_and_the_rest_is_averaged(
    case: str, tmp_path: Path
) -> None:
    spoil, kind, reason = SPOILED[case]
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", options=RecorderOptions(strict=True))
    result = run(strategy, SortedGrid(spoiled(1, spoil), N), rounds=1)
    record = last_record(strategy)
    ((client, found_kind, found_reason),) = [
        (failure.client, failure.kind, failure.reason) for failure in record.failures
    ]
    assert (client, found_kind) == ("1", kind)
    assert reason in found_reason
    assert [one.client for one in record.clients] == ["0", "2", "3", "4"]
    total = sum(one.num_examples for one in record.clients)
    expected = sum(one.weights["0.weight"] * (one.num_examples / total) for one in record.clients)
    assert np.allclose(weights_of(result.arrays)["0.weight"], expected, atol=1e-7)


def lost_grid(partition: int, error: Error | None) -> Grid:
    """A SuperLink that never hears from one node: no reply, or an error in its own name."""

    class Losing(InProcessGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> list[Message]:
            messages = list(messages)
            replies = super().send_and_receive(messages, timeout=timeout)
            kept = [r for r in replies if r.metadata.src_node_id != 2 + partition]
            if error is not None and len(kept) < len(replies):
                (asked,) = [m for m in messages if m.metadata.dst_node_id == 2 + partition]
                reply = Message(error, reply_to=asked)
                reply.metadata.__dict__["_src_node_id"] = 1  # as the SuperLink writes it
                kept.append(reply)
            return kept

    return Losing(toy_app(), N)


def test_a_client_without_any_reply_is_lost_by_name(tmp_path: Path) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", options=RecorderOptions(strict=True))
    run(strategy, lost_grid(3, None), rounds=1)
    record = last_record(strategy)
    assert record.failures == (Failure("node-3", "lost", "no reply in time"),)


def test_an_error_written_by_the_superlink_is_that_of_the_node_it_speaks_for(
    tmp_path: Path,
) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", options=RecorderOptions(strict=True))
    error = Error(code=5, reason="Error: Node Unavailable")
    run(strategy, lost_grid(2, error), rounds=1)
    record = last_record(strategy)
    reason = "Error: Node Unavailable (Flower's error code 5)"
    assert record.failures == (Failure("node-2", "error", reason),)


def failing() -> ClientApp:
    def train(message: Message, context: Context) -> Message:
        raise ValueError(f"bug in {context.node_config['partition-id']}")

    return app_of(train)


def test_where_all_clients_fail_the_run_goes_on_as_in_flower_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", options=RecorderOptions(strict=True))
    result = run(strategy, InProcessGrid(failing(), 3), rounds=2)
    assert len(result.arrays) == 0
    start, first, second = recorder_of(strategy).store
    assert bits(start.weights) == bits(first.weights) == bits(second.weights)
    assert [failure.client for failure in second.failures] == ["0", "1", "2"]
    assert "all 3 clients failed in round 2" in caplog.text


def test_where_all_clients_fail_an_error_names_the_first_on_request(tmp_path: Path) -> None:
    options = RecorderOptions(fail_when_all_fail=True)
    strategy = observe(FedAvg(), run_dir=tmp_path / "run", options=options)
    with pytest.raises(AllClientsFailedError, match="all 3 clients failed in round 1") as caught:
        run(strategy, InProcessGrid(failing(), 3))
    error = caught.value
    assert (error.client, error.reason) == ("0", "ValueError: bug in 0")
    assert error.where is not None
    assert error.where.startswith(f"{__file__}:")
    assert isinstance(error.__cause__, ValueError)
    store = recorder_of(strategy).store
    assert store.rounds() == (0,)
    assert len(list((store.path / "evidence").glob("*.json"))) == 1


def test_all_replies_unusable_is_all_clients_failed() -> None:
    def train(message: Message, context: Context) -> Message:
        reply = toy_app()(message, context)
        reply.content["metrics"]["num-examples"] = 0
        return reply

    strategy = observe(FedAvg(), options=RecorderOptions(fail_when_all_fail=True))
    with pytest.raises(AllClientsFailedError, match="must be > 0, got 0"):
        run(strategy, InProcessGrid(app_of(train), 3))


def test_a_round_whose_aggregation_raises_leaves_its_evidence(tmp_path: Path) -> None:
    class Broken(FedAvg):
        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            if server_round == 2:
                raise ZeroDivisionError("the strategy's own bug")
            return super().aggregate_train(server_round, replies)

    store = RunStore.create(tmp_path / "run", {})
    with pytest.raises(ZeroDivisionError, match="own bug"):
        run(observe(Broken(), store=store))
    assert store.rounds() == (0, 1)
    assert len(list((store.path / "evidence").glob("*.safetensors"))) == 1


def test_a_strategy_that_gives_nothing_is_noted(tmp_path: Path) -> None:
    strategy = observe(flower.Bulyan(num_malicious_nodes=1), run_dir=tmp_path / "run")
    run(strategy, rounds=1)
    record = last_record(strategy)
    assert [(failure.client, failure.kind) for failure in record.failures] == [
        ("global", "aggregation")
    ]
    assert len(record.clients) == N


def test_an_average_that_is_not_finite_is_noted(tmp_path: Path) -> None:
    class Overflowing(FedAvg):
        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            arrays, metrics = super().aggregate_train(server_round, replies)
            arrays["0.bias"] = Array(np.full(5, np.inf, np.float32))
            arrays["1.num_batches_tracked"] = Array(np.array(np.nan))
            return arrays, metrics

    strategy = observe(
        Overflowing(), run_dir=tmp_path / "run", options=RecorderOptions(strict=True)
    )
    run(strategy, rounds=1)
    ((failure,),) = [last_record(strategy).failures]
    assert (failure.client, failure.kind) == ("global", "non-finite")
    assert "'0.bias'" in failure.reason


def test_records_of_extra_arrays_do_not_confuse_the_recorder() -> None:
    def train(message: Message, context: Context) -> Message:
        reply = toy_app()(message, context)
        reply.content["control"] = ArrayRecord({"c": Array(np.zeros(2))})
        return reply

    class Scaffold(FedAvg):
        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            replies = list(replies)
            for reply in replies:
                del reply.content["control"]
            return super().aggregate_train(server_round, replies)

    witness = Witness()
    strategy = observe(Scaffold(), observers=[witness], options=RecorderOptions(strict=True))
    run(strategy, InProcessGrid(app_of(train), 3), rounds=1)
    assert [client.client for client in witness.views[0].clients] == ["0", "1", "2"]


def test_checks_can_be_turned_off_for_strategies_with_replies_of_their_own() -> None:
    def train(message: Message, context: Context) -> Message:
        reply = toy_app()(message, context)
        values = np.full(5, np.inf, np.float32)
        reply.content["arrays"]["0.bias"] = Array(values)
        return reply

    witness = Witness()
    options = RecorderOptions(check_replies=False, strict=True)
    strategy = observe(FedAvg(), observers=[witness], options=options)
    result = run(strategy, InProcessGrid(app_of(train), 3), rounds=1)
    assert np.isinf(result.arrays["0.bias"].numpy()).all()
    assert [view.clients for view in witness.views] == [()]
