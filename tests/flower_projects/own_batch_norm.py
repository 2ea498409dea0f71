"""Clients keep their batch norm (as in FedBN, arXiv 2102.07623) and exchange the rest.

No whole network is averaged, so there is none in which circuits could be found: rounds are
recorded, without a model.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from digits import CLIENTS, samples_of
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from fedcircuit import observe


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)
        return self.fc(torch.flatten(x, 1))


def build() -> Net:
    torch.manual_seed(8)
    return Net()


def shared(model: nn.Module) -> dict[str, Tensor]:
    """What leaves a client: all but the batch norm."""
    return {name: values for name, values in model.state_dict().items() if "bn" not in name}


client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    model = build()
    if "bn" in context.state:
        model.load_state_dict(context.state["bn"].to_torch_state_dict(), strict=False)
    model.load_state_dict(message.content["arrays"].to_torch_state_dict(), strict=False)
    images, labels = samples_of(int(context.node_config["partition-id"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    own = {name: values for name, values in model.state_dict().items() if "bn" in name}
    context.state["bn"] = ArrayRecord(OrderedDict(own))
    metrics = MetricRecord({"num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(OrderedDict(shared(model))), "metrics": metrics})
    return Message(content=content, reply_to=message)


server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    model = build()
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    strategy = observe(strategy, run_dir=context.run_config["folder"])
    initial = ArrayRecord(OrderedDict(shared(model)))
    context.state["final"] = strategy.start(grid, initial, num_rounds=2).arrays
