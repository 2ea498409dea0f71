"""A first app: a convolutional network written with functions, trained by everybody."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from digits import CLIENTS, probe, samples_of
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from fedcircuit import observe


class Net(nn.Module):
    """Pooling and activations are calls in ``forward``, no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 12, 3, padding=1)
        self.fc1 = nn.Linear(12 * 2 * 2, 24)
        self.fc2 = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def build() -> Net:
    torch.manual_seed(11)
    return Net()


def fit(model: nn.Module, images: Tensor, labels: Tensor, lr: float) -> float:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    model.train()
    for start in range(0, len(labels), 16):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[start : start + 16]), labels[start : start + 16])
        loss.backward()
        optimizer.step()
    return loss.item()


client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    model = build()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    images, labels = samples_of(int(context.node_config["partition-id"]))
    loss = fit(model, images, labels, float(message.content["config"]["lr"]))
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    model = build()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    images, labels = samples_of(int(context.node_config["partition-id"]))
    with torch.no_grad():
        right = float((model(images).argmax(1) == labels).float().mean())
    metrics = MetricRecord({"accuracy": right, "num-examples": len(labels)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    from flwr.app import ConfigRecord

    model = build()
    strategy = FedAvg(min_available_nodes=CLIENTS)
    strategy = observe(strategy, model=model, probe=probe(), run_dir=context.run_config["folder"])
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(model.state_dict()),
        train_config=ConfigRecord({"lr": 0.05}),
        num_rounds=2,
    )
    context.state["final"] = result.arrays
