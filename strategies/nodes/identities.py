"""Who is who: node ids change from run to run, clients do not."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedcircuit import messages
from fedcircuit.flower import node_facts
from fedcircuit.strategies.nodes.waiting import telling
from fedcircuit.strategies.replies import client_name, client_order

logger = logging.getLogger(__name__)

_MOST_NODES = 10  # named in a line
QUERY_TIMEOUT = 120.0  # seconds that all clients together have to say who they are
SIMULATED = 1e9  # seconds; a heartbeat this rare is a simulated node's


class Roster:
    """Stable names of nodes, and an order in which to draw from them.

    A client is named by the partition it holds, as text. One that does not say is named after its
    node: by node id in a deployment, where that is tied to the node's key; by its place in the
    order of registration in a simulation, where node ids are random in every run.
    """

    def __init__(self, *, ask: bool = True) -> None:
        self._ask = ask
        self._names: dict[int, str] = {}
        self._partitions: dict[str, int] = {}  # partition -> node that holds it
        self._settled: set[int] = set()  # nodes that have a part in a round, under their name

    def update(self, grid: Grid) -> None:
        """Name the nodes that are new, asking them where that helps."""
        order = [int(node_id) for node_id in grid.get_node_ids()]
        new = [node_id for node_id in order if node_id not in self._names]
        if not new:
            return
        nodes = node_facts(grid)
        place = {node_id: index for index, node_id in enumerate(order)}

        def registered(node_id: int) -> tuple[str, int]:
            return (nodes[node_id].registered_at if node_id in nodes else "", place[node_id])

        new.sort(key=registered)
        first = len(self._names)
        for index, node_id in enumerate(new):
            beat = nodes[node_id].heartbeat if node_id in nodes else 0.0
            deployed = 0 < beat < SIMULATED
            self._names[node_id] = f"node-{node_id if deployed else first + index}"
        if self._ask:
            self._ask_all(grid, new)

    def _ask_all(self, grid: Grid, nodes: list[int]) -> None:
        """Ask one node, and the others only if it understands the question."""
        for asked in (nodes[:1], nodes[1:]):
            answers = 0
            for reply in _answers(grid, asked):
                if not reply.has_error():
                    answers += self._learned(reply)
            if asked and answers == 0:
                logger.info(
                    "clients do not say which partition they hold; they are called after their "
                    "nodes. fedcircuit.client_app and numpyclient_mod answer"
                )
                return

    def _learned(self, reply: Message) -> bool:
        node_id = reply.metadata.src_node_id
        try:
            return self.learn(node_id, reply.content)
        except ValueError as error:
            logger.warning("node %d keeps the name of its node: %s", node_id, error)
            return True

    def learn(self, node_id: int, content: RecordDict) -> bool:
        """Take a client's partition from the side channel of its reply, where there is one.

        Raises
        ------
        ValueError
            If it says what can be no name, another's name, or another one than before.
        """
        record = content.get(messages.SIDE_CHANNEL)
        if not isinstance(record, ConfigRecord) or messages.PARTITION_ID not in record:
            return False
        self.call(node_id, client_name(record[messages.PARTITION_ID]))
        return True

    def call(self, node_id: int, name: str) -> None:
        """Call a node after the partition that it holds.

        Raises
        ------
        ValueError
            If another node has the name, or this one has another.
        """
        holder = self._partitions.get(name, node_id)
        if holder != node_id:
            raise ValueError(f"node {holder} holds partition {name!r} already")
        known = next((key for key, node in self._partitions.items() if node == node_id), None)
        before = known or (self.name(node_id) if node_id in self._settled else name)
        if before != name:
            raise ValueError(f"it was client {before!r} before and now says it is {name!r}")
        self._partitions[name] = node_id
        self._names[node_id] = name

    def settle(self, node_id: int) -> None:
        """From now on a node keeps its name: it has a part in a round under it."""
        self._settled.add(node_id)

    def name(self, node_id: int) -> str:
        """The client on a node."""
        return self._names.get(node_id, f"node-{node_id}")

    def order(self, grid: Grid) -> list[int]:
        """The Grid's nodes sorted by client: partitions by number, then the others by name."""
        self.update(grid)
        return sorted(grid.get_node_ids(), key=lambda node_id: client_order(self.name(node_id)))

    @property
    def names(self) -> Mapping[int, str]:
        """Client by node id."""
        return dict(self._names)


def _answers(grid: Grid, node_ids: list[int]) -> list[Message]:
    questions = [
        Message(content=RecordDict(), dst_node_id=node_id, message_type=messages.IDENTITY_QUERY)
        for node_id in node_ids
    ]
    if not questions:
        return []
    nodes = ", ".join(map(str, node_ids[:_MOST_NODES]))
    more = f" and {len(node_ids) - _MOST_NODES} more" if len(node_ids) > _MOST_NODES else ""
    what = f"not all nodes have said which partition they hold (asked: {nodes}{more})"
    with _unlogged(), telling(f"{what}, at most {QUERY_TIMEOUT:g} s are waited"):
        return list(grid.send_and_receive(questions, timeout=QUERY_TIMEOUT))


@contextmanager
def _unlogged() -> Iterator[None]:
    """No traceback in Flower's log for apps that do not know the question."""
    flower = logging.getLogger("flwr")
    level = flower.level
    flower.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        flower.setLevel(level)
