"""What masking the download costs: seconds of a mask against seconds of the aggregation.

    OMP_NUM_THREADS=1 python experiments/benchmarks/lips_overhead.py

The reference, in the same run, is Flower's own FedAvg averaging the replies of the same clients.
A mask is made once for all clients of a round; it is needed in every fifth round by default.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedcircuit.app.engines import InProcessGrid, quiet_flower
from fedcircuit.learning import get_weights
from fedcircuit.learning.networks import build_model
from fedcircuit.strategies import LIPS

MODELS = {
    "MLP 196-64-64-64-64-10": ("mlp", (1, 14, 14), (64, 64, 64, 64)),
    "ResNet8": ("resnet", (3, 32, 32), None),
    "VGG11": ("vgg11", (3, 32, 32), None),
}


def main() -> None:
    """A row for every network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.clients} clients, medians of {options.repeats}\n")
    print("| network | weights | aggregation, s | mask per layer, s | of the aggregation | "
          "over all layers |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    with quiet_flower():
        for name, (kind, shape, widths) in MODELS.items():
            weights = get_weights(build_model(kind, shape, 10, seed=0, widths=widths))
            arrays = ArrayRecord({key: Array(np.asarray(w)) for key, w in weights.items()})
            aggregation = _aggregation(arrays, options.clients, options.repeats)
            per_layer, together = (
                _mask(arrays, options.clients, options.repeats, scope)
                for scope in ("per_layer", "global")
            )
            size = sum(values.size for values in weights.values())
            print(f"| {name} | {size:,} | {aggregation:.4f} | {per_layer:.4f} | "
                  f"{per_layer / aggregation:.0%} | {together / aggregation:.0%} |")  # fmt: skip


def _aggregation(arrays: ArrayRecord, clients: int, repeats: int) -> float:
    """Seconds in which FedAvg averages replies of all clients."""
    strategy, grid = FedAvg(fraction_evaluate=0.0), InProcessGrid(_echo(), clients)
    sent = strategy.configure_train(1, arrays, ConfigRecord(), grid)
    replies = list(grid.send_and_receive(sent))
    return _median(lambda: strategy.aggregate_train(1, replies), repeats)


def _mask(arrays: ArrayRecord, clients: int, repeats: int, scope: str) -> float:
    """Seconds that LIPS adds to sending the weights of a masked round."""
    grid = InProcessGrid(_echo(), clients)
    plain = FedAvg(fraction_evaluate=0.0)
    lips = LIPS(FedAvg(fraction_evaluate=0.0), scope=scope, n_rounds=100)

    def seconds(strategy: FedAvg | LIPS) -> float:
        return _median(
            lambda: list(strategy.configure_train(2, arrays, ConfigRecord(), grid)), repeats
        )

    return seconds(lips) - seconds(plain)


def _median(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def _echo() -> ClientApp:
    """Clients that send back what they received."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = next(iter(message.content.array_records.values()))
        metrics = MetricRecord({"num-examples": 100})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


if __name__ == "__main__":
    main()
