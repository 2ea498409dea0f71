"""Clients keep their names although node ids change."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from toy_federation import node_ids, toy_app

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.flower import nodes_of
from fedcircuit.messages import PARTITION_ID, SIDE_CHANNEL
from fedcircuit.strategies.nodes.grids import GridView, OrderedGrid
from fedcircuit.strategies.nodes.identities import Roster


class Counted(GridView):
    """Counts questions; nodes may have a date of registration and a heartbeat."""

    def __init__(self, grid: InProcessGrid, nodes: dict[int, tuple[str, float]] | None = None):
        super().__init__(grid)
        self.asked: list[int] = []
        self._nodes = nodes

    def get_nodes(self) -> Iterable[Any]:
        if self._nodes is None:
            return nodes_of(self.grid)
        return [
            SimpleNamespace(node_id=node, registered_at=date, heartbeat_interval=beat)
            for node, (date, beat) in self._nodes.items()
        ]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Any:
        messages = list(messages)
        self.asked += [message.metadata.dst_node_id for message in messages]
        return super().send_and_receive(messages, timeout=timeout)


def silent_app() -> ClientApp:
    app = ClientApp()
    app.train()(lambda message, context: Message(RecordDict(), reply_to=message))
    return app


def test_nodes_are_named_by_the_partition_they_say_and_asked_once() -> None:
    ids = node_ids([2, 0, 1])
    grid = Counted(InProcessGrid(toy_app(), 3, node_ids=ids))
    roster = Roster()
    roster.update(grid)
    roster.update(grid)
    assert [roster.name(node) for node in ids] == ["0", "1", "2"]
    assert sorted(grid.asked) == sorted(ids)


def test_the_order_is_that_of_the_partitions_whatever_the_node_ids() -> None:
    ids = node_ids([3, 1, 0, 2])
    grid = InProcessGrid(toy_app(), 4, node_ids=ids)
    ordered = OrderedGrid(grid, Roster().order)
    assert ordered.get_node_ids() == ids
    assert [node.node_id for node in ordered.get_nodes()] == ids


def test_an_app_that_does_not_answer_is_asked_through_one_node_only() -> None:
    grid = Counted(InProcessGrid(silent_app(), 3))
    roster = Roster()
    roster.update(grid)
    assert grid.asked == [2]
    assert [roster.name(node) for node in (2, 3, 4)] == ["node-0", "node-1", "node-2"]


def test_nobody_is_asked_where_that_is_not_wanted() -> None:
    grid = Counted(InProcessGrid(toy_app(), 2))
    roster = Roster(ask=False)
    roster.update(grid)
    assert grid.asked == []
    assert roster.name(3) == "node-1"


def test_simulated_nodes_are_named_in_the_order_of_registration() -> None:
    nodes = {2: ("2026-11-02", 1e300), 3: ("2026-11-03", 1e300), 4: ("2026-11-01", 1e300)}
    roster = Roster(ask=False)
    roster.update(Counted(InProcessGrid(silent_app(), 3), nodes))
    assert [roster.name(node) for node in (4, 2, 3)] == ["node-0", "node-1", "node-2"]


def test_deployed_nodes_are_named_by_their_own_ids() -> None:
    nodes = {2: ("2026-11-02", 30.0), 3: ("2026-11-01", 30.0)}
    roster = Roster(ask=False)
    roster.update(Counted(InProcessGrid(silent_app(), 2), nodes))
    assert roster.names == {2: "node-2", 3: "node-3"}


def test_a_node_that_comes_later_is_named_and_asked_too() -> None:
    first, both = InProcessGrid(toy_app(), 1), Counted(InProcessGrid(toy_app(), 2))
    roster = Roster()
    roster.update(first)
    roster.update(both)
    assert both.asked == [3]
    assert roster.names == {2: "0", 3: "1"}


def said(partition: int) -> RecordDict:
    return RecordDict({SIDE_CHANNEL: ConfigRecord({PARTITION_ID: partition})})


def test_the_side_channel_of_a_reply_teaches_the_name() -> None:
    roster = Roster(ask=False)
    assert roster.learn(9, said(4))
    assert roster.name(9) == "4"
    assert not roster.learn(9, RecordDict({"other": ConfigRecord({"a": 1})}))
    assert not roster.learn(9, RecordDict({SIDE_CHANNEL: ConfigRecord({"version": "1"})}))


def test_two_nodes_with_one_partition_are_told_apart() -> None:
    roster = Roster(ask=False)
    roster.learn(8, said(4))
    with pytest.raises(ValueError, match="node 8 holds partition '4' already"):
        roster.learn(9, said(4))
    assert (roster.name(8), roster.name(9)) == ("4", "node-9")
    with pytest.raises(ValueError, match="it was client '4' before and now says it is '5'"):
        roster.learn(8, said(5))


def test_an_unknown_node_is_named_by_its_id() -> None:
    assert Roster().name(77) == "node-77"


def test_a_view_of_a_grid_passes_everything_on() -> None:
    grid = InProcessGrid(toy_app(), 2)
    view = GridView(grid)
    view.set_run(grid.run)
    assert view.run is grid.run
    message = view.create_message(RecordDict(), "query", 3, "g")
    assert message.metadata.group_id == "g"
    (reply,) = view.pull_messages(view.push_messages([message]))
    assert reply.metadata.src_node_id == 3
    assert list(view.get_node_ids()) == [2, 3]
    assert [node.node_id for node in view.get_nodes()] == [2, 3]
    again = view.create_message(RecordDict(), "query", 2, "g")
    assert [r.metadata.src_node_id for r in view.send_and_receive([again])] == [2]


def test_a_failing_query_does_not_show_in_flowers_log(caplog: pytest.LogCaptureFixture) -> None:
    class Loud(Counted):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            logging.getLogger("flwr").error("a traceback of many lines")
            return super().send_and_receive(messages, timeout=timeout)

    Roster().update(Loud(InProcessGrid(silent_app(), 1)))
    assert "a traceback" not in caplog.text
