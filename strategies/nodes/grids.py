"""Flower Grids around other Grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedcircuit.flower import nodes_of

if TYPE_CHECKING:
    from fedcircuit.flower import NodeInfo, Run


class GridView(Grid):
    """Another Grid, passed on as it is; subclasses change what they need."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def set_run(self, run: Run) -> None:
        """Pass on."""
        self.grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run's description."""
        return self.grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Pass on."""
        return self.grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Pass on."""
        return self.grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Pass on."""
        return nodes_of(self.grid)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self.grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Pass on."""
        return self.grid.send_and_receive(messages, timeout=timeout)


class OrderedGrid(GridView):
    """A Grid whose nodes come in a stable order, so that a seeded draw is reproducible."""

    def __init__(self, grid: Grid, order: Callable[[Grid], list[int]]) -> None:
        super().__init__(grid)
        self._order = order

    def get_node_ids(self) -> list[int]:
        """Node ids in stable order."""
        return self._order(self.grid)

    def get_nodes(self) -> list[NodeInfo]:
        """Nodes in stable order."""
        nodes = {node.node_id: node for node in nodes_of(self.grid)}
        return [nodes[node_id] for node_id in self._order(self.grid) if node_id in nodes]
