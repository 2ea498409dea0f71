"""Clients without a network of their own, and weights without entries of no dimension.

Older releases of Flower cannot average such entries (``num_batches_tracked``), observed or not.
"""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedcircuit.learning.weights import Weights


def plain_weights() -> Weights:
    """A matrix and a vector."""
    weight = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    return {"weight": weight, "bias": np.array([0.5, -0.25, 2.0], np.float32)}


def drifting_app() -> ClientApp:
    """Client ``i`` moves every weight by its own share of itself, and counts i + 1 examples."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        arrays = {
            name: Array((array.numpy() * (1 + 0.1 * (client + 1)) + client).astype(np.float32))
            for name, array in message.content["arrays"].items()
        }
        metrics = MetricRecord({"num-examples": client + 1, "loss": 1.0 / (client + 1)})
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(
            RecordDict({"metrics": MetricRecord({"num-examples": 1, "loss": 0.5})}),
            reply_to=message,
        )

    @app.query("fedcircuit")
    def identify(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    return app
