"""Differential privacy on the client: every sample's gradient is clipped, noise is added.

As with Opacus the network sits in a wrapper, so all names on the wire begin with ``_module.``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from digits import CLIENTS, probe, samples_of
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedcircuit import observe

CLIP, NOISE, LR = 1.0, 0.5, 0.2


class PerSample(nn.Module):
    """Holds a network and gives one gradient for each sample."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def forward(self, x: Tensor) -> Tensor:
        return self._module(x)

    def gradients(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """By name, ``[samples, ...]``."""
        weights = {name: value.detach() for name, value in self.named_parameters()}

        def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(self, weights, (image[None],)), label[None])

        return vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, labels)


def network() -> nn.Module:
    torch.manual_seed(21)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10)
    )


def private_step(model: PerSample, images: Tensor, labels: Tensor, noise: torch.Generator) -> None:
    gradients = model.gradients(images, labels)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
    factor = (CLIP / norms.clamp(min=1e-6)).clamp(max=1.0)  # [samples]
    with torch.no_grad():
        for name, value in model.named_parameters():
            clipped = torch.einsum("n,n...->...", factor, gradients[name])
            clipped += NOISE * CLIP * torch.randn(value.shape, generator=noise)
            value -= LR * clipped / len(labels)


client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    partition = int(context.node_config["partition-id"])
    model = PerSample(network())
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    images, labels = samples_of(partition)
    noise = torch.Generator().manual_seed(partition)
    for _ in range(4):
        private_step(model, images, labels, noise)
    metrics = MetricRecord({"epsilon": 3.0, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)


server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    model = network()
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=CLIENTS)
    strategy = observe(strategy, model=model, probe=probe(), run_dir=context.run_config["folder"])
    initial = ArrayRecord(PerSample(model).state_dict())
    context.state["final"] = strategy.start(grid, initial, num_rounds=2).arrays
