"""What leaves a client in each mode, entry by entry, with its bytes on Flower's wire.

    python what_leaves.py

The network and the digits are those of the deployment; the bytes are what a SuperNode sends: every
entry serialised by Flower. Prints tables in Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from example_data import held_classes
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client import Client
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.supercore.inflatable.inflatable_object import InflatableObject, get_all_nested_objects

from fedcircuit import messages
from fedcircuit.app.engines import InProcessGrid
from fedcircuit.clients import ClientCircuits, SparseClient, client_app, numpyclient_mod
from fedcircuit.learning import get_weights
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.sources import DataSource
from fedcircuit.samples import Samples

sys.path.insert(0, str(Path(__file__).parent))
from deployed_app.task import CIRCUITS, N_CLASSES, TRAINING, model

N_CLIENTS = 3
LIPS = {
    messages.LIPS_DENSITY: 0.5,
    messages.LIPS_SCORE: "magnitude",
    messages.LIPS_SCOPE: "per_layer",
    messages.LIPS_SEED: 0,
}


def main() -> None:
    """Ask a client of every kind, and print what it sends."""
    torch.set_num_threads(1)
    held = held_classes(0, N_CLIENTS)
    train = load_dataset(DataSource("digits"), seed=0).train
    mine = train.take((train.labels >= held.start) & (train.labels < held.stop))
    print(f"one client: {len(mine)} images of digits {held.start} to {held.stop - 1}, "
          f"{sum(w.size for w in get_weights(model()).values()):,} weights")  # fmt: skip
    for title, app, kind, config in modes(mine):
        print(f"\n{title}\n\n| record | entry | bytes |\n|---|---|---|")
        reply = answer(app, kind, config)
        for record, entry, n_bytes in entries(reply):
            print(f"| `{record}` | {entry} | {n_bytes:,} |")
        print(f"| all | | {size(reply):,} |")
    print("\n**Secure aggregation** (Flower's SecAgg+), one client and round\n")
    print("| message | entries | bytes |\n|---|---|---|")
    for row in secure_aggregation():
        print("| {} | {} | {:,} |".format(*row))


def modes(mine: Samples) -> list[tuple[str, ClientApp, str, dict[str, object]]]:
    """Title, app, message type and more of the train config, for every kind of client."""

    def app(**options: object) -> ClientApp:
        return client_app(model, lambda _: mine, TRAINING, n_classes=N_CLASSES, **options)  # type: ignore[arg-type]

    def numpy_client(context: Context) -> Client:
        return SparseClient(model(), mine, TRAINING, n_classes=N_CLASSES).to_client()

    def clip(message: Message, context: Context, call_next: Callable[..., Message]) -> Message:
        return fixedclipping_mod(message, context, call_next)

    masked = {**LIPS, messages.LIPS_LAYERS: ["conv2.weight"]}
    layers = [name for name, w in get_weights(model()).items() if w.ndim > 1]
    masked[messages.LIPS_LAYERS] = layers[1:-1]
    return [
        ("**Training**, `client_app(...)`", app(), "train", {}),
        ("**Training**, `class_counts=False`", app(class_counts=False), "train", {}),
        (
            "**Training with circuits**, `client_app(..., circuits=ClientCircuits(...))`",
            app(circuits=ClientCircuits(CIRCUITS)), "train", {},
        ),
        (
            "**Training with a test of its own**, `client_app(..., personal_eval=True)`",
            app(test=lambda _: mine, personal_eval=True), "train", {},
        ),
        ("**Training with a start that the client masks** (LIPS)", app(), "train", masked),
        (
            "**A NumPyClient** behind `numpyclient_mod`",
            ClientApp(client_fn=numpy_client, mods=[numpyclient_mod]), "train", {},
        ),
        (
            "**Clipped for differential privacy**, `mods=[fixedclipping_mod]`",
            app(mods=[clip]), "train", {"clipping_norm": 1.0},
        ),
        ("**Evaluation**", app(), "evaluate", {}),
        ("**Who are you**, once before the first round", app(), messages.IDENTITY_QUERY, {}),
    ]  # fmt: skip


def answer(app: ClientApp, kind: str, config: Mapping[str, object]) -> RecordDict:
    """What a client of this app sends on one message.

    Raises
    ------
    RuntimeError
        If the client fails.
    """
    grid = InProcessGrid(app, N_CLIENTS)
    arrays = ArrayRecord({name: Array(values) for name, values in get_weights(model()).items()})
    content = RecordDict({"arrays": arrays})
    content["config"] = ConfigRecord({"server-round": 1, **config})  # type: ignore[dict-item]
    (reply,) = grid.send_and_receive([Message(content, grid.get_node_ids()[0], kind)])
    if reply.has_error():
        raise RuntimeError(f"{kind}: {reply.error.reason}")
    return reply.content


class _Listening(InProcessGrid):
    """Keeps what the first client sends."""

    def __init__(self, app: ClientApp, n_clients: int) -> None:
        super().__init__(app, n_clients)
        self.heard: list[RecordDict] = []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Replies, those of the first client noted."""
        replies = super().send_and_receive(messages, timeout=timeout)
        first = self.get_node_ids()[0]
        self.heard += [r.content for r in replies if r.metadata.src_node_id == first]
        return replies


def secure_aggregation() -> list[tuple[int, str, int]]:
    """Number, entries and bytes of every message of a client in a round of SecAgg+."""
    train = load_dataset(DataSource("digits"), seed=0).train

    def client_fn(context: Context) -> Client:
        held = held_classes(int(context.node_config["partition-id"]), N_CLIENTS)
        mine = train.take((train.labels >= held.start) & (train.labels < held.stop))
        return SparseClient(model(), mine, TRAINING, n_classes=N_CLASSES).to_client()

    grid = _Listening(ClientApp(client_fn=client_fn, mods=[secaggplus_mod]), N_CLIENTS)
    initial = ndarrays_to_parameters(list(get_weights(model()).values()))
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_available_clients=N_CLIENTS,
        on_fit_config_fn=lambda number: {"server-round": number},
        fit_metrics_aggregation_fn=lambda _: {},
        initial_parameters=initial,
    )
    context = LegacyContext(
        context=Context(1, 1, {}, RecordDict(), {}),
        config=ServerConfig(num_rounds=1),
        strategy=strategy,
    )
    workflow = SecAggPlusWorkflow(num_shares=N_CLIENTS, reconstruction_threshold=2)
    DefaultWorkflow(fit_workflow=workflow)(grid, context)
    return [
        (number, ", ".join(f"`{key}`" for record in said.values() for key in record), size(said))
        for number, said in enumerate(grid.heard, start=1)
    ]


def entries(content: RecordDict) -> list[tuple[str, str, int]]:
    """Record, entry and bytes of all that a reply holds; the weights as one entry."""
    rows = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            rows.append((name, f"{len(record)} arrays: all weights", size(record)))
            continue
        for key, value in record.items():
            alone = type(record)({key: value})
            rows.append((name, f"`{key}`", size(alone) - size(type(record)())))
    return rows


def size(item: InflatableObject) -> int:
    """Bytes of an object and all it consists of, as a SuperNode sends them."""
    return sum(len(one.deflate()) for one in get_all_nested_objects(item).values())


if __name__ == "__main__":
    main()
