"""A strategy of one's own: it overrides ``start``, lowers the learning rate, keeps checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from digits import CLIENTS, probe, samples_of
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdagrad, Result
from torch import nn

from fedcircuit import observe


def build() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))


class Checkpointed(FedAdagrad):
    """Halves the learning rate every round and keeps the best model on the disk."""

    def set_folder(self, folder: Path) -> None:
        self.folder, self.best = folder, -1.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config["lr"] = 0.2 * 0.5 ** (server_round - 1)
        return super().configure_train(server_round, arrays, config, grid)

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3) -> Result:  # type: ignore[override]
        """A loop of its own around Flower's steps."""
        result, arrays, config = Result(), initial_arrays, ConfigRecord()
        for number in range(1, num_rounds + 1):
            replies = grid.send_and_receive(self.configure_train(number, arrays, config, grid))
            mean, metrics = self.aggregate_train(number, replies)
            if mean is not None:
                result.arrays = arrays = mean
            if metrics is not None:
                result.train_metrics_clientapp[number] = metrics
                self.keep(number, arrays, float(metrics["accuracy"]))
        return result

    def keep(self, number: int, arrays: ArrayRecord, accuracy: float) -> None:
        if accuracy > self.best:
            self.best = accuracy
            torch.save(arrays.to_torch_state_dict(), self.folder / f"best-{number}.pt")


client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    model = build()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    images, labels = samples_of(int(context.node_config["partition-id"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=float(message.content["config"]["lr"]))
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    right = float((model(images).argmax(1) == labels).float().mean())
    metrics = MetricRecord({"accuracy": right, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    folder = Path(str(context.run_config["folder"]))
    strategy = Checkpointed(min_available_nodes=CLIENTS)
    strategy = observe(strategy, model=build(), probe=probe(), run_dir=folder)
    strategy.set_folder(folder.parent)
    result = strategy.start(grid, ArrayRecord(build().state_dict()), num_rounds=2)
    context.state["final"] = result.arrays
