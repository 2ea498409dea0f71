"""What the experiments with LoRA share: data, a pretrained vision transformer, and clients.

The transformer (64 wide, 4 layers of 4 heads, patches of 7 on 28x28) is trained once, in one place,
on 10,000 grey CIFAR-10 images: public data of another kind than the clients', which are MNIST. All
arms start from these weights, with a new head drawn from the seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedcircuit import messages
from fedcircuit.aggregation import Rule, Said, Setting, Update, Updates
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.networks import LoRA, linear_layers, small_vit, with_lora
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import (
    Continuation,
    FeatureVariance,
    LocalTraining,
    evaluate,
    train_local,
)
from fedcircuit.samples import Samples

N_CLASSES, N_CLIENTS, SHAPE = 10, 10, (1, 28, 28)
PRETRAINING = LocalTraining(epochs=8, batch_size=64, optimizer="adam", lr=1e-3)


def cifar(root: Path) -> tuple[Samples, Samples]:
    """Grey CIFAR-10, the middle 28x28: 16,000 training images, 2,000 for tests."""
    source = DataSource(
        "parquet", str(root / "cifar10-jpeg"), train_limit=16_000, test_limit=2_000, colour=False
    )
    data = load_dataset(source, seed=0)
    first, second = (
        Samples(part.inputs[..., 2:30, 2:30].contiguous(), part.labels)
        for part in (data.train, data.test)
    )
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(first)))
    return first.take(order), second


def pretrained(root: Path, out: Path) -> Path:
    """Folder of the weights that all arms start from; trained where it is not there yet."""
    folder = out / "pretrained"
    if not (folder / "accuracy.json").exists():
        train, test = cifar(root)
        model = small_vit(SHAPE, N_CLASSES, seed=0)
        train_local(
            model, train.take(torch.arange(10_000)), PRETRAINING, n_classes=N_CLASSES, seed=0
        )
        found = evaluate(model, test, n_classes=N_CLASSES).accuracy
        model.save_pretrained(folder)  # type: ignore[operator]
        write(folder / "accuracy.json", {"accuracy on 2,000 CIFAR-10 test images": found})
    print(f"pretrained: {(folder / 'accuracy.json').read_text('utf-8')}", flush=True)
    return folder


def write(path: Path, values: object) -> None:
    """Write JSON such that the file is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(values), encoding="utf-8")
    partial.replace(path)


def network(folder: Path, seed: int, lora: LoRA | None) -> nn.Module:
    """The pretrained transformer with a head of its own, adapted or whole."""
    model = small_vit(SHAPE, N_CLASSES, seed=0, checkpoint=folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "head") % 2**63)
        list(linear_layers(model).values())[-1].reset_parameters()
    return model if lora is None else with_lora(model, lora, seed=seed)


@dataclass
class Client:
    """One client's samples, and what it remembers."""

    samples: Samples
    importance: dict[str, float]


@dataclass(frozen=True)
class Round:
    """Replies of a round, and what a client sent and was sent, in bytes."""

    updates: Updates
    down: int
    up: int


def one_round(
    model: nn.Module, clients: Sequence[Client], training: LocalTraining, number: int, seed: int
) -> Round:
    """Train every client from the model's weights; the model keeps those of the last client."""
    before, replies, up = get_weights(model), [], 0
    for index, client in enumerate(clients):
        set_weights(model, before)
        result = train_local(
            model, client.samples, training, n_classes=N_CLASSES,
            seed=derived_seed(seed, number, index),
            start=Continuation(importance=client.importance),
        )  # fmt: skip
        client.importance = dict(result.importance)
        said: dict[str, Said] = {}
        if result.class_variances is not None:
            said[messages.CLASS_COUNTS] = client.samples.counts(N_CLASSES).tolist()
            said[messages.CLASS_VARIANCES] = list(result.class_variances)
        if result.importance:
            said[messages.PATH_LAYERS] = list(result.importance)
            said[messages.PATH_IMPORTANCE] = list(result.importance.values())
        replies.append(Update(str(index), len(client.samples), get_weights(model), said))
        up = size(replies[-1].weights) + sum(size(value) for value in said.values())
    return Round(Updates(number, before, tuple(replies)), size(before), up)


def size(values: Any) -> int:
    """Bytes of tensors, numbers (8 each) or names, without any envelope."""
    if isinstance(values, dict):
        return sum(tensor.nbytes for tensor in values.values())
    return sum(len(one) if isinstance(one, str) else 8 for one in values)


def averaged(updates: Updates, rules: Sequence[Rule], setting: Setting) -> tuple[Weights, float]:
    """FedAvg, then the rules; and the mean lost energy of what they say of it, else NaN."""
    weights: Weights = {
        name: np.tensordot(
            updates.shares, np.stack([u.weights[name] for u in updates.clients]), axes=1
        ).astype(before.dtype)
        for name, before in updates.before.items()
    }
    lost: list[float] = []
    for rule in rules:
        weights, state = rule(updates, weights, setting, {})
        lost += [float(v) for name, v in state.items() if name.startswith("lost-energy/")]
    return weights, float(np.mean(lost)) if lost else float("nan")


def local(lr: float, *, variance: bool = False, importance: bool = False) -> LocalTraining:
    """A client's round: 2 epochs of Adam, mini-batches of 32."""
    return LocalTraining(
        epochs=2, batch_size=32, optimizer="adam", lr=lr,
        feature_variance=FeatureVariance() if variance else None, path_importance=importance,
    )  # fmt: skip
