"""Waiting for nodes is said aloud, names who is missing, and ends."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flwr.common import ndarrays_to_parameters
from flwr.server import Server, ServerConfig, SimpleClientManager
from flwr.server import strategy as legacy
from flwr.server.compat import start_grid
from flwr.serverapp.strategy import FedMedian, Strategy
from observing_helpers import run
from toy_federation import SortedGrid, initial_weights, toy_app

from fedcircuit import CircuitFedAvg, RecorderOptions, observe
from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.strategies.nodes.grids import GridView
from fedcircuit.strategies.nodes.identities import Roster
from fedcircuit.strategies.nodes.waiting import NodeWait, telling, wait_for_nodes


class Growing(GridView):
    """A Grid that shows ever more of its nodes, one more at every look."""

    def __init__(self, grid: InProcessGrid, most: int) -> None:
        super().__init__(grid)
        self.looks, self.most = 0, most

    def get_node_ids(self) -> list[int]:
        self.looks += 1
        return list(self.grid.get_node_ids())[: min(self.most, self.looks)]


def test_waiting_ends_when_the_nodes_are_there() -> None:
    grid = Growing(InProcessGrid(toy_app(), 3), most=3)

    wait_for_nodes(grid, NodeWait(limit=60, wanted=3))

    assert grid.looks == 3


def test_who_waits_says_for_whom_and_since_when(caplog: pytest.LogCaptureFixture) -> None:
    wait = NodeWait(limit=60, wanted=3, names=lambda: {7: "0", 8: "1", 9: "node-9"}, every=0)

    wait.note([7])
    assert caplog.text == ""
    wait.note([7])

    (line,) = caplog.messages
    assert line == "waiting for nodes for 0 s: 1 of 3 are there, missing is client 1, node-9"


def test_enough_nodes_are_no_reason_to_give_up() -> None:
    wait = NodeWait(limit=0, wanted=2, every=0)
    for _ in range(3):
        wait.note([7, 8])
    with pytest.raises(TimeoutError, match="1 of 2 are there"):
        wait.note([7])


def test_many_missing_clients_are_counted() -> None:
    wait = NodeWait(limit=0, wanted=None, names=lambda: {i: f"node-{i:02}" for i in range(14)})
    wait.note([0])
    with pytest.raises(TimeoutError, match=r"1 are there, missing is client .*node-10 and 3 more"):
        wait.note([0])


def test_a_call_that_takes_long_is_said_until_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    with telling("waiting for nodes 5, 7", every=0.01):
        end = time.monotonic() + 60
        while len(caplog.messages) < 2 and time.monotonic() < end:
            time.sleep(0.01)
    said = list(caplog.messages)
    assert said[:2] == ["waiting for nodes 5, 7: 0 s by now"] * 2
    time.sleep(0.05)
    assert caplog.messages == said


def test_a_node_that_does_not_say_who_it_is_is_named_while_it_is_asked(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling.__wrapped__, "__defaults__", (0.01,))

    class Slow(SortedGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            time.sleep(0.1)
            return super().send_and_receive(messages, timeout=timeout)

    grid = Slow(toy_app(), 2)
    Roster().update(grid)

    first, second = grid.get_node_ids()
    for node in (first, second):
        words = f"not all nodes have said which partition they hold (asked: {node})"
        assert f"{words}, at most 120 s are waited: 0 s by now" in caplog.messages


@pytest.mark.parametrize("make", [CircuitFedAvg, lambda **o: observe(FedMedian(), **o)])
def test_a_strategy_that_waits_for_a_node_gives_up(make: Any) -> None:
    strategy: Strategy = make(options=RecorderOptions(node_timeout=0.3))
    for name in ("min_available_nodes", "min_train_nodes"):
        setattr(strategy, name, 3)

    with pytest.raises(TimeoutError, match=r"2 of 3 are there.*Start those that are missing"):
        run(strategy, Growing(SortedGrid(toy_app(), 3), most=2))  # type: ignore[arg-type]


@pytest.mark.parametrize("seeded", [True, False])
def test_a_legacy_strategy_that_waits_for_a_node_gives_up(seeded: bool) -> None:
    strategy = observe(
        legacy.FedAvg(
            min_fit_clients=5,
            min_available_clients=5,
            initial_parameters=ndarrays_to_parameters(list(initial_weights().values())),
        ),
        options=RecorderOptions(node_timeout=0.3, reproducible_sampling=seeded),
    )
    with pytest.raises(TimeoutError, match="4 of 5 are there"):
        start_grid(
            grid=InProcessGrid(toy_app(), 4),
            server=Server(client_manager=SimpleClientManager(), strategy=strategy),
            config=ServerConfig(num_rounds=1),
        )


def test_a_timeout_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="node_timeout must be >= 0 seconds, got -1"):
        RecorderOptions(node_timeout=-1)
