"""A module in the manner of Lightning: it holds the network and says how to train it.

All names on the wire begin with ``model.``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from digits import CLIENTS, probe, samples_of
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedProx
from torch import Tensor, nn

from fedcircuit import observe

Batch = tuple[Tensor, Tensor]


def network() -> nn.Module:
    torch.manual_seed(33)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 10)
    )


class DigitModule(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Trainer:
    def __init__(self, max_epochs: int) -> None:
        self.max_epochs = max_epochs

    def fit(self, module: DigitModule, batches: list[Batch]) -> None:
        optimizer = module.configure_optimizers()
        for _ in range(self.max_epochs):
            for index, batch in enumerate(batches):
                optimizer.zero_grad()
                module.training_step(batch, index).backward()
                optimizer.step()


def batches_of(client: int) -> Iterator[Batch]:
    images, labels = samples_of(client)
    yield from zip(images.split(16), labels.split(16), strict=True)


client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    module = DigitModule(network())
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    batches = list(batches_of(int(context.node_config["partition-id"])))
    Trainer(max_epochs=1).fit(module, batches)
    metrics = MetricRecord({"num-examples": sum(len(labels) for _, labels in batches)})
    content = RecordDict({"arrays": ArrayRecord(module.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    model = network()
    strategy = FedProx(fraction_evaluate=0.0, min_available_nodes=CLIENTS, proximal_mu=0.1)
    strategy = observe(strategy, model=model, probe=probe(), run_dir=context.run_config["folder"])
    initial = ArrayRecord(DigitModule(model).state_dict())
    context.state["final"] = strategy.start(grid, initial, num_rounds=2).arrays
