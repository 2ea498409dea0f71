"""What server and clients have in common: the network, the training, and where data lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context
from torch import nn

from fedcircuit import Samples
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.training import LocalTraining

N_CLASSES = 10
INPUT_SHAPE = (1, 8, 8)
CIRCUITS = CircuitSettings(controls=6)
TRAINING = LocalTraining(
    epochs=5, batch_size=32, optimizer="adam", lr=0.01, sparsity=WeightSparsity(0.9)
)


def model() -> nn.Module:
    """The network all start from."""
    return build_model("simple-cnn", INPUT_SHAPE, N_CLASSES, seed=0, widths=(16, 32, 64))


def example() -> torch.Tensor:
    """An input without content: the server has no other."""
    return torch.zeros(1, *INPUT_SHAPE)


def training_samples(context: Context) -> Samples:
    """What this device trains on and looks for circuits on."""
    return _samples(context, "train.npz")


def test_samples(context: Context) -> Samples:
    """What this device measures the global model on."""
    return _samples(context, "test.npz")


def _samples(context: Context, name: str) -> Samples:
    """``inputs [n, 1, 8, 8]`` and ``labels [n]`` of a file in the device's own data folder."""
    torch.set_num_threads(1)  # the same bits on every device
    folder = context.node_config.get("data")
    if folder is None:
        raise ValueError(
            "this SuperNode was started without a data folder; add data=\"'FOLDER'\" to "
            f"--node-config, which has {json.dumps(dict(context.node_config))}"
        )
    with np.load(Path(str(folder)) / name, allow_pickle=False) as file:
        inputs = torch.from_numpy(file["inputs"]).float()
        labels = torch.from_numpy(file["labels"]).long()
    if inputs.shape[1:] != INPUT_SHAPE:
        raise ValueError(
            f"{folder}/{name} must hold inputs [n, {', '.join(map(str, INPUT_SHAPE))}], "
            f"got {tuple(inputs.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < N_CLASSES:
        raise ValueError(
            f"{folder}/{name} must hold labels from 0 to {N_CLASSES - 1}, got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    return Samples(inputs, labels)
