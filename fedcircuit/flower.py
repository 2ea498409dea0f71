"""What differs between the releases of Flower that are supported, and what of it is internal.

Everything else of the package uses Flower's public names, which are the same from the oldest
supported release to the newest. A new release that moves something is mended here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

if TYPE_CHECKING:
    from types import ModuleType

    from flwr.common import Parameters
    from flwr.proto.node_pb2 import NodeInfo
    from flwr.server import History
    from flwr.supercore.run import Run

    __all__ = ["NodeInfo", "Run"]

RUN_ID = 1  # of a run in this process
SERVER_NODE_ID = 1  # Flower's own id of whoever sends the instructions


def _first(*names: str) -> ModuleType:
    """The first of some modules that this release has.

    Raises
    ------
    ImportError
        If it has none: an unknown release, or a broken installation.
    """
    for name in names:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise  # the module is there, what it imports is not
    raise ImportError(
        f"this release of flwr has none of {', '.join(names)}: fedcircuit does not know it; "
        "install a release within the bounds of fedcircuit's pyproject.toml"
    )


def empty_run(run_id: int) -> Run:
    """The description of a run of which nothing but the number is known."""
    run: Run = _first("flwr.supercore.run", "flwr.common.typing").Run.create_empty(run_id)
    return run


def identify_process() -> None:
    """Make this process the server of a run: Flower's instruction messages ask who sends them.

    Older releases make messages without it.
    """
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ModuleNotFoundError:
        return
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = SERVER_NODE_ID
    TaskIdentity.task_id = 1


@dataclass(frozen=True)
class NodeFacts:
    """What a Grid tells of a node.

    Parameters
    ----------
    registered_at
        When it came, as text that sorts; empty where it is not told.
    heartbeat
        Seconds between two signs of life; 0 where it is not told.
    """

    registered_at: str = ""
    heartbeat: float = 0.0


def nodes_of(grid: Grid) -> list[NodeInfo]:
    """Nodes of a Grid; of releases whose Grids tell nothing of them, nodes with an id alone."""
    get_nodes: Any = getattr(grid, "get_nodes", None)
    if get_nodes is not None:
        return list(get_nodes())
    blank: Any = SimpleNamespace
    return [
        blank(node_id=node_id, registered_at="", heartbeat_interval=0.0)
        for node_id in grid.get_node_ids()
    ]


def node_facts(grid: Grid) -> dict[int, NodeFacts]:
    """What a Grid tells of its nodes, by node id."""
    return {
        int(node.node_id): NodeFacts(node.registered_at, node.heartbeat_interval)
        for node in nodes_of(grid)
    }


@contextmanager
def no_telemetry(setting: str) -> Iterator[None]:
    """Flower's switch for telemetry set for a while: it is read when Flower is imported."""
    module: Any = _first("flwr.supercore.telemetry", "flwr.common.telemetry")
    before = module.FLWR_TELEMETRY_ENABLED
    module.FLWR_TELEMETRY_ENABLED = setting
    try:
        yield
    finally:
        module.FLWR_TELEMETRY_ENABLED = before


@dataclass(frozen=True)
class LegacyResult:
    """What a legacy server gave.

    Parameters
    ----------
    history
        Losses and metrics by round.
    parameters
        The final global weights.
    """

    history: History
    parameters: Parameters


@contextmanager
def noted_results(
    results: list[Result], legacy: list[LegacyResult], before: Callable[[object], None]
) -> Iterator[None]:
    """Note what Flower's own loops return: a ServerApp hands it to nobody.

    Parameters
    ----------
    results, legacy
        Lists to which the results of message-based and of legacy strategies are added.
    before
        Called with the strategy before its first round.
    """
    from flwr.server import Server  # the legacy stack, which most never need

    start, fit = Strategy.start, Server.fit

    def noted_start(self: Strategy, *args: Any, **kwargs: Any) -> Result:
        before(self)
        results.append(start(self, *args, **kwargs))
        return results[-1]

    def noted_fit(self: Server, *args: Any, **kwargs: Any) -> Any:
        before(self.strategy)
        returned = fit(self, *args, **kwargs)
        legacy.append(LegacyResult(returned[0], self.parameters))
        return returned

    Strategy.start, Server.fit = noted_start, noted_fit  # type: ignore[method-assign]
    try:
        yield
    finally:
        Strategy.start, Server.fit = start, fit  # type: ignore[method-assign]
