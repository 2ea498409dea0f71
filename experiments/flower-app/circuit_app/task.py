"""What server and clients have in common: data, network, training."""

from __future__ import annotations

from functools import lru_cache

import torch
from flwr.app import Context
from torch import nn

from fedcircuit import Probe, Samples
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining

N_CLASSES = 10
TRAINING = LocalTraining(
    epochs=5, batch_size=32, optimizer="adam", lr=0.01, sparsity=WeightSparsity(0.9)
)


@lru_cache(maxsize=1)
def digits() -> Dataset:
    """scikit-learn's 1,797 digits: nothing to download."""
    return load_dataset(DataSource("digits"), seed=0)


def model() -> nn.Module:
    """The network all start from."""
    return build_model("simple-cnn", digits().input_shape, N_CLASSES, seed=0, widths=(16, 32, 64))


def client_samples(context: Context) -> Samples:
    """Each client holds neighbouring digits, and shares some with the next."""
    torch.set_num_threads(1)
    client = int(context.node_config["partition-id"])
    n_clients = int(context.node_config["num-partitions"])
    width = N_CLASSES // n_clients + 1
    first = client * (N_CLASSES - width) // max(1, n_clients - 1)
    train = digits().train
    return train.take((train.labels >= first) & (train.labels < first + width))


def probe() -> Probe:
    """The server's labelled samples, no client's."""
    return Probe.split(digits().test, digits().class_names, seed=0)
