"""The same app on the same data in this process: what a deployment must give, bit for bit."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, RecordDict
from layout import Deployment

from fedcircuit import Run
from fedcircuit.app.engines import InProcessGrid

APP = Path(__file__).parent


class LosingGrid(InProcessGrid):
    """Loses the training replies of some clients in some rounds, as (round, client)."""

    lost: frozenset[tuple[int, str]] = frozenset()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Replies, but for those that are lost."""
        asked = list(messages)
        replies = super().send_and_receive(asked, timeout=timeout)
        places = {node: str(place) for place, node in enumerate(self.get_node_ids())}

        def is_lost(message: Message) -> bool:
            number = message.content.config_records["config"]["server-round"]
            return (number, places[message.metadata.dst_node_id]) in self.lost

        return [
            reply
            for message, reply in zip(asked, replies, strict=True)
            if message.metadata.message_type != "train" or not is_lost(message)
        ]


def run_in_process(
    deployment: Deployment,
    config: Mapping[str, str | int | float | bool],
    lost: frozenset[tuple[int, str]] = frozenset(),
) -> None:
    """Run the deployment's ServerApp and ClientApp in this process; ``run-dir`` must be given."""
    sys.path.insert(0, str(APP))
    from deployed_app.client_app import app as clients
    from deployed_app.server_app import app as server

    defaults = tomllib.loads((APP / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    grid = LosingGrid(
        clients,
        deployment.n_nodes,
        node_configs=[{"data": str(node.folder / "data")} for node in deployment.nodes],
    )
    grid.lost = lost
    context = Context(
        run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={**defaults, **config}
    )
    server(grid, context)


def differences(one: Path, other: Path) -> list[str]:
    """Where two runs differ in weights, metrics, circuits or tables; empty for the same bits."""
    first, second = Run.load(one), Run.load(other)
    if first.rounds != second.rounds:
        return [f"rounds {first.rounds} and {second.rounds}"]
    found = []
    for number in (0, *first.rounds):
        a, b = first.record(number), second.record(number)
        if [c.client for c in a.clients] != [c.client for c in b.clients]:
            found.append(f"round {number}: other clients")
            continue
        pairs = {"global": (a.weights, b.weights), "state": (a.state, b.state)}
        for mine, theirs in zip(a.clients, b.clients, strict=True):
            pairs[f"client {mine.client}"] = (mine.weights, theirs.weights)
            pairs[f"what client {mine.client} received"] = (mine.received, theirs.received)
        for name in a.observations:
            seen, known = a.observations[name], b.observations[name]
            pairs[name] = (seen.arrays, known.arrays)
            timeless = [key for key in seen.tables if key != "seconds"]
            found += [
                f"round {number}: table {key} of {name}"
                for key in timeless
                if repr(seen.tables[key]) != repr(known.tables[key])
            ]
        if repr(dict(a.metrics)) != repr(dict(b.metrics)):
            found.append(f"round {number}: metrics {dict(a.metrics)} and {dict(b.metrics)}")
        found += [f"round {number}: {what}" for what, pair in pairs.items() if not _same(*pair)]
    return found


def _same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(
        a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes() for name in a
    )
