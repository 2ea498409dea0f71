"""A round that has all that any rule may ask for: three clients of a small net, three classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from rule_helpers import fedavg, round_of_clients
from torch import nn
from toy_federation import N_CLASSES, build_net, initial_weights, samples_of

from fedcircuit import messages
from fedcircuit.aggregation import Said, Setting, Update, Updates
from fedcircuit.aggregation.heads import moments_of
from fedcircuit.aggregation.tensors import packed_tensors, trained
from fedcircuit.learning import Weights

COUNTS = ([9, 1, 0], [0, 6, 2], [3, 0, 12])
UNITS = 5  # of the one hidden layer of the net


def setting() -> Setting:
    """Model, probe, circuits of all clients, and a seed."""
    masks = np.random.default_rng(5).random((3, N_CLASSES, UNITS)) < 0.4
    masks[0, 0] = masks[1, 0] = True  # clients 0 and 1 share every unit
    return Setting(N_CLASSES, build_net(), samples_of(9), masks, seed=3)


def told(client: int, weights: Weights) -> dict[str, Said]:
    """What a client says, and more than any one rule reads."""
    rng = np.random.default_rng(50 + client)
    names = trained(weights, Setting())
    fisher = {name: rng.random(weights[name].shape) for name in names}
    change = {name: rng.normal(size=weights[name].shape) for name in names}
    labels = np.repeat(np.arange(N_CLASSES), COUNTS[client])
    features = np.maximum(rng.normal(size=(len(labels), UNITS)) + labels[:, None] / 2, 0.0)
    moments = moments_of(features, labels, N_CLASSES)
    layers = [name for name in names if weights[name].ndim > 1]
    return {
        messages.CLASS_COUNTS: list(COUNTS[client]),
        messages.CLASS_VARIANCES: [0.5 + client, 1.0, 2.0 - client / 2],
        messages.PATH_LAYERS: layers,
        messages.PATH_IMPORTANCE: [float(x) for x in rng.random(len(layers))],
        messages.LOCAL_STEPS: 2 + client,
        messages.FISHER: packed_tensors(fisher),
        messages.FEDDYN_ALPHA: 0.5,
        messages.SCAFFOLD_DELTA: packed_tensors(change),
        messages.MOMENTS_COUNT: list(COUNTS[client]),
        messages.MOMENTS_SUM: moments.sums.tobytes(),
        messages.MOMENTS_OUTER: moments.outer.tobytes(),
    }


def moved_weights(client: int) -> Weights:
    """The initial weights with every entry moved, integers counted on."""
    rng = np.random.default_rng(20 + client)
    moved = {}
    for name, values in initial_weights().items():
        if values.dtype.kind != "f":
            moved[name] = values + 3
            continue
        noise = rng.normal(size=values.shape)
        moved[name] = (values + 0.3 * (np.abs(noise) if "var" in name else noise)).astype(
            values.dtype
        )
    return moved


def whole_round() -> Updates:
    """Round 1 of clients a, b, c with 10, 8 and 15 samples; nothing in it can be written to."""
    weights = [moved_weights(client) for client in range(3)]
    said = [told(client, own) for client, own in enumerate(weights)]
    return locked(round_of_clients(initial_weights(), weights, said, [10, 8, 15]))


def locked(updates: Updates) -> Updates:
    """The same round, its arrays read-only."""
    for weights in (updates.before, *(update.weights for update in updates.clients)):
        for values in weights.values():
            values.setflags(write=False)
    return updates


def average_of(updates: Updates) -> Weights:
    """FedAvg's, integers as they were, read-only."""
    average = fedavg(updates)
    for values in average.values():
        values.setflags(write=False)
    return average


def with_said(updates: Updates, client: int, **changes: Said | None) -> Updates:
    """The round with a client that says otherwise; None says nothing. ``_`` stands for ``-``."""
    changed = {key.replace("_", "-"): value for key, value in changes.items()}
    clients = list(updates.clients)
    said = {**clients[client].said, **changed}
    kept = {key: value for key, value in said.items() if value is not None}
    clients[client] = replace(clients[client], said=kept)
    return replace(updates, clients=tuple(clients))


def alike(updates: Updates, n: int) -> Updates:
    """The first client's update, n times, under names of their own."""
    first = updates.clients[0]
    clients = tuple(
        Update(f"client {k}", first.num_examples, first.weights, first.said) for k in range(n)
    )
    return replace(updates, clients=clients)


def sequential_cnn() -> nn.Module:
    """Two convolutions, the first with batch norm, and two linear layers behind a flattening."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
            nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(3 * 4, 6), nn.ReLU(), nn.Linear(6, N_CLASSES),
        )  # fmt: skip
