"""The in-process Grid behaves as a deployed federation does, in one process."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from toy_federation import arrays_of, initial_weights, node_ids, toy_app

from fedcircuit.app.engines.grid import InProcessGrid, isolated, round_of
from fedcircuit.flower import identify_process, nodes_of
from fedcircuit.messages import IDENTITY_QUERY


def record(**entries: object) -> RecordDict:
    return RecordDict({"config": ConfigRecord(entries)})  # type: ignore[arg-type]


def app_of(train) -> ClientApp:  # type: ignore[no-untyped-def]
    app = ClientApp()
    app.train()(train)
    app.query()(train)
    return app


def ask(grid: Grid, content: RecordDict, *, kind: str = "train", group: str = "") -> list[Message]:
    messages = [
        Message(content, dst_node_id=node_id, message_type=kind, group_id=group)
        for node_id in grid.get_node_ids()
    ]
    return list(grid.send_and_receive(messages))


def test_a_message_can_only_be_made_by_an_identified_process() -> None:
    TaskIdentity = pytest.importorskip(
        "flwr.supercore.task_identity", reason="this release of Flower makes messages without it"
    ).TaskIdentity

    TaskIdentity._run_id = None
    with pytest.raises(RuntimeError, match="run_id is not set"):
        Message(RecordDict(), dst_node_id=2, message_type="train")
    identify_process()
    metadata = Message(RecordDict(), dst_node_id=2, message_type="train").metadata
    assert (metadata.run_id, metadata.src_node_id, metadata.src_task_id) == (1, 1, 1)


def test_clients_know_their_partition_and_the_run_config() -> None:
    def tell(message: Message, context: Context) -> Message:
        return Message(record(**context.node_config, lr=context.run_config["lr"]), reply_to=message)

    replies = ask(InProcessGrid(app_of(tell), 2, run_config={"lr": 0.5}), record())
    assert [dict(reply.content["config"]) for reply in replies] == [
        {"partition-id": 0, "num-partitions": 2, "lr": 0.5},
        {"partition-id": 1, "num-partitions": 2, "lr": 0.5},
    ]


def test_replies_come_in_the_order_of_the_messages_and_name_them() -> None:
    grid = InProcessGrid(app_of(lambda m, c: Message(record(), reply_to=m)), 3)
    messages = [Message(record(), dst_node_id=n, message_type="train") for n in (4, 2, 3)]
    replies = grid.send_and_receive(messages)
    assert [reply.metadata.src_node_id for reply in replies] == [4, 2, 3]
    sent = [message.metadata.message_id for message in messages]
    assert [reply.metadata.reply_to_message_id for reply in replies] == sent
    assert len({reply.metadata.message_id for reply in replies} | set(sent)) == 6


def test_pushed_messages_are_pulled_once() -> None:
    grid = InProcessGrid(app_of(lambda m, c: Message(record(), reply_to=m)), 2)
    messages = [Message(record(), dst_node_id=n, message_type="train") for n in (2, 3)]
    first, second = grid.push_messages(messages)
    assert [m.metadata.src_node_id for m in grid.pull_messages([second])] == [3]
    assert [m.metadata.src_node_id for m in grid.pull_messages([first, second])] == [2]


def test_state_lasts_from_message_to_message_and_belongs_to_one_client() -> None:
    def count(message: Message, context: Context) -> Message:
        seen = context.state.metric_records.get("seen", MetricRecord({"n": 0}))["n"] + 1
        context.state["seen"] = MetricRecord({"n": seen})
        return Message(RecordDict({"seen": context.state["seen"]}), reply_to=message)

    grid = InProcessGrid(app_of(count), 2)
    ask(grid, record())
    extra = Message(record(), dst_node_id=2, message_type="train")
    assert grid.send_and_receive([extra])[0].content["seen"]["n"] == 2
    assert [reply.content["seen"]["n"] for reply in ask(grid, record())] == [3, 2]


def test_what_a_strategy_takes_out_of_a_reply_stays_in_the_clients_state() -> None:
    def keep(message: Message, context: Context) -> Message:
        if "w" not in context.state:
            context.state["w"] = ArrayRecord({"a": Array(np.zeros(2))})
        return Message(RecordDict({"w": context.state["w"]}), reply_to=message)

    grid = InProcessGrid(app_of(keep), 1)
    ask(grid, record())[0].content["w"].clear()
    assert list(ask(grid, record())[0].content["w"]) == ["a"]


def test_a_client_that_empties_its_message_leaves_the_others_whole() -> None:
    def greedy(message: Message, context: Context) -> Message:
        names = list(message.content["arrays"])
        message.content["arrays"].clear()
        message.content["config"]["levels"].append(9)
        levels = len(message.content["config"]["levels"])
        del message.content["config"]
        return Message(record(names=names, levels=levels), reply_to=message)

    content = RecordDict(
        {"arrays": arrays_of(initial_weights()), "config": ConfigRecord({"levels": [1, 2]})}
    )
    replies = ask(InProcessGrid(app_of(greedy), 3), content)
    assert [len(reply.content["config"]["names"]) for reply in replies] == [9, 9, 9]
    assert [reply.content["config"]["levels"] for reply in replies] == [3, 3, 3]
    assert len(content["arrays"]) == 9
    assert content["config"]["levels"] == [1, 2]


def test_isolating_records_copies_no_array_data() -> None:
    content = RecordDict({"arrays": ArrayRecord({"a": Array(np.arange(4))})})
    copy = isolated(content)
    assert copy["arrays"] is not content["arrays"]
    assert copy["arrays"]["a"] is content["arrays"]["a"]


def broken(message: Message, context: Context) -> Message:
    if context.node_config["partition-id"] == 0:
        return Message(record(), reply_to=message)
    context.state["lost"] = MetricRecord({"n": 1})
    raise ValueError("my mistake")


def test_a_clients_exception_becomes_an_error_reply_as_in_a_deployment() -> None:
    grid = InProcessGrid(app_of(broken), 2)
    good, bad = ask(grid, record())
    assert good.has_content()
    assert bad.error.code == 2
    assert bad.error.reason == "<class 'ValueError'>:<'my mistake'>"
    assert grid._contexts[3].state == {}  # as in Flower: the state of a failed call is lost


def test_the_first_exception_is_kept_with_client_round_and_the_users_own_line() -> None:
    grid = InProcessGrid(app_of(broken), 3)
    assert grid.first_error is None
    ask(grid, record(**{"server-round": 4}))
    ask(grid, record(), group="5")
    error = grid.first_error
    assert error is not None
    assert (error.client, error.round, str(error.exception)) == ("1", 4, "my mistake")
    line = broken.__code__.co_firstlineno + 4
    assert error.where == f"{__file__}:{line} in broken"
    assert [one.round for one in grid.errors] == [4, 4, 5, 5]


def test_every_client_that_raised_in_a_round_is_named_once() -> None:
    grid = InProcessGrid(app_of(broken), 3)
    for _ in range(2):
        ask(grid, record(**{"server-round": 4}))
    assert [(one.client, one.round) for one in grid.errors] == [("1", 4), ("2", 4)]


def test_a_message_to_an_unknown_node_is_dropped_aloud(caplog: pytest.LogCaptureFixture) -> None:
    grid = InProcessGrid(app_of(broken), 1)
    known, unknown = (Message(record(), node, "train") for node in (grid.get_node_ids()[0], 99))
    replies = grid.send_and_receive([unknown, known])
    assert [reply.has_content() for reply in replies] == [True]
    assert "message to node 99 was dropped: this run has no such node" in caplog.text


@pytest.mark.parametrize(("group", "number"), [("7", 7), ("²", None), ("a", None)])
def test_a_group_is_a_round_only_where_it_is_a_number(group: str, number: int | None) -> None:
    assert round_of(Message(record(), 2, "train", group_id=group)) == number


def test_a_client_that_leaves_the_process_only_fails_itself() -> None:
    def leave(message: Message, context: Context) -> Message:
        raise SystemExit(0)

    (reply,) = ask(InProcessGrid(app_of(leave), 1), record())
    assert reply.error.reason == "<class 'SystemExit'>:<'0'>"


def test_something_else_than_a_message_is_an_error_of_the_client() -> None:
    (reply,) = ask(InProcessGrid(app_of(lambda m, c: {"no": "message"}), 1), record())
    assert "AttributeError" in (reply.error.reason or "")


def test_an_app_that_does_not_know_our_question_has_made_no_mistake() -> None:
    grid = InProcessGrid(app_of(broken), 2)
    replies = ask(grid, record(), kind=IDENTITY_QUERY)
    assert [reply.has_error() for reply in replies] == [True, True]
    assert grid.first_error is None


def test_node_ids_may_be_any_and_name_partitions_in_order() -> None:
    ids = node_ids([2, 0, 1])
    grid = InProcessGrid(toy_app(), 3, node_ids=ids)
    assert grid.get_node_ids() == ids
    assert [node.node_id for node in nodes_of(grid)] == ids
    replies = ask(grid, record(), kind="query")
    assert [r.content["fedcircuit"]["partition-id"] for r in replies] == [0, 1, 2]


def test_it_drives_a_server_app_called_as_a_function() -> None:
    server, results = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        results.append(FedAvg().start(grid, arrays_of(initial_weights()), num_rounds=1))

    main(InProcessGrid(toy_app(), 2), Context(1, 1, {}, RecordDict(), {}))
    assert list(results[0].arrays) == list(initial_weights())


@pytest.mark.parametrize(("n", "ids"), [(0, None), (2, [5, 5]), (2, [5])])
def test_impossible_federations_are_refused(n: int, ids: list[int] | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        InProcessGrid(toy_app(), n, node_ids=ids)
