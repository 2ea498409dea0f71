"""Metrics that differ between clients cost no good weights: what all share is averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.serverapp.exception import InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg, FedMedian, Strategy
from hypothesis import given
from hypothesis import strategies as st
from observing_helpers import app_of, run
from toy_federation import SortedGrid, bits, toy_app, weights_of

from fedcircuit import Run, observe
from fedcircuit.strategies.replies import Reply, shared_metrics

Reported = dict[str, object]
Change = Callable[[int], Reported]


def grid_of(reported: Change, n: int = 4) -> SortedGrid:
    """Our clients, whose metrics are these and ``num-examples``."""

    def train(message: Message, context: Context) -> Message:
        reply = toy_app()(message, context)
        said = reply.content.metric_records["metrics"]
        more = reported(int(context.node_config["partition-id"]))
        metrics = MetricRecord({"num-examples": said["num-examples"], **more})  # type: ignore[dict-item]
        reply.content = RecordDict({**reply.content, "metrics": metrics})
        return reply

    return SortedGrid(app_of(train), n)


def plain(strategy: Strategy | None = None) -> dict[str, tuple[str, bytes]]:
    """The weights that Flower alone makes where all clients report the same metrics."""
    alone = FedAvg(fraction_evaluate=0.0) if strategy is None else strategy
    return bits(weights_of(run(alone, grid_of(lambda client: {}), rounds=1).arrays))


NO_MAJORITY: dict[str, Change] = {
    "four names": lambda client: {f"only-{client}": 1.0},
    "lists of four lengths": lambda client: {"v": [1.0] * (client + 1)},
    "two and two": lambda client: {"a" if client < 2 else "b": 1.0},
    "a number and lists": lambda client: {"v": [1.0, 2.0] if client < 2 else 1.0},
}


@pytest.mark.parametrize("name", NO_MAJORITY)
def test_without_a_majority_all_weights_are_averaged_and_the_round_says_so(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = grid_of(lambda client: {"loss": 1.0 + client, **NO_MAJORITY[name](client)})
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")

    result = run(strategy, grid, rounds=1)

    assert bits(weights_of(result.arrays)) == plain()
    assert set(result.train_metrics_clientapp[1]) == {"loss"}
    recorded = Run.load(tmp_path / "run")
    assert recorded.clients_of(1) == ("0", "1", "2", "3")
    ((_, who, kind, reason),) = recorded.failures.itertuples(index=False)
    assert (who, kind) == ("global", "metrics")
    assert "none is that of more than half" in reason
    assert "['loss', 'num-examples']" in reason
    assert [r.levelname for r in caplog.records if "more than half" in r.message] == ["ERROR"]
    own = NO_MAJORITY[name](3)
    row = recorded.clients.set_index("client").loc["3"]
    assert {key: row[key] for key in own} == own  # recorded, though not averaged


def test_flower_alone_ends_such_a_run() -> None:
    with pytest.raises(InconsistentMessageReplies, match="same keys"):
        run(FedAvg(fraction_evaluate=0.0), grid_of(NO_MAJORITY["four names"]), rounds=1)


def test_a_metric_that_one_client_reports_beyond_the_others_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = grid_of(lambda client: {"loss": 2.0, **({"mine": 1.0} if client == 1 else {})})
    strategy = observe(FedMedian(fraction_evaluate=0.0), run_dir=tmp_path / "run")

    result = run(strategy, grid, rounds=1)

    assert bits(weights_of(result.arrays)) == plain(FedMedian(fraction_evaluate=0.0))
    assert dict(result.train_metrics_clientapp[1]) == {"loss": pytest.approx(2.0)}
    assert Run.load(tmp_path / "run").failures.empty
    assert "the metrics ['mine'] are not averaged" in caplog.text


def test_who_lacks_what_most_report_is_set_aside(tmp_path: Path) -> None:
    grid = grid_of(lambda client: {} if client == 1 else {"loss": 2.0, "v": [1.0, 2.0]})
    run(observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run"), grid, rounds=1)

    recorded = Run.load(tmp_path / "run")
    assert recorded.clients_of(1) == ("0", "2", "3")
    ((_, who, kind, reason),) = recorded.failures.itertuples(index=False)
    assert (who, kind) == ("1", "metrics")
    assert "missing ['loss', 'v']" in reason


def reply(client: int, **lengths: int) -> Reply:
    form = frozenset({("num-examples", 0), *lengths.items()})
    return Reply(str(client), 1.0, {"w": np.zeros(1)}, form=form)


def test_a_list_of_another_length_is_called_that() -> None:
    found = shared_metrics([reply(0, v=3), reply(1, v=3), reply(2, v=4)])
    assert list(found.faults) == [2]
    assert found.faults[2].reason.endswith("missing [], of another length ['v']")
    assert found.names == {"num-examples", "v"}
    assert found.split is None
    assert not found.left_out


def test_exactly_half_is_no_majority() -> None:
    found = shared_metrics([reply(0, a=0), reply(1, a=0), reply(2, a=0, b=0), reply(3, c=0)])
    assert not found.faults
    assert found.names == {"num-examples"}
    assert found.split is not None
    assert "['a', 'b', 'c']" in found.left_out


def test_replies_of_one_form_or_of_none_are_left_as_they_are() -> None:
    for replies in ([], [reply(0, a=0)] * 3, [Reply("0"), Reply("1"), reply(2, a=0)]):
        assert shared_metrics(replies).names is None


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 3)), max_size=7))
def test_what_is_left_has_one_form_and_without_a_majority_everybody_stays(
    reported: list[dict[str, int]],
) -> None:
    replies = [reply(number, **lengths) for number, lengths in enumerate(reported)]
    found = shared_metrics(replies)
    left = [one.form for place, one in enumerate(replies) if place not in found.faults]
    if found.names is not None:
        names = found.names
        left = [frozenset(e for e in form or () if e[0] in names) for form in left]
    assert len(set(left)) <= 1
    assert 2 * len(left) > len(replies) or not replies
    if found.split is not None:
        assert not found.faults
