"""What FedAvg's accuracy in cell B of livar_reference.py depends on: one thing changed at a time.

    OMP_NUM_THREADS=1 python experiments/rules/livar_causes.py --data DATA

Pixels, initial weights, momentum and test images are changed; clients, rounds and steps are those
of cell B. All clients train at once, in plain torch: a route of its own beside the package's local
training, whose seeds it does not share. Accuracy after the last round and in the best round, over
5 seeds, for learning rates .01 and .03.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from livar_reference import N_CLASSES, N_CLIENTS, N_SAMPLES, PAIRS, ROUNDS, images
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.samples import Samples

MEAN, SD = 0.1307, 0.3081  # of MNIST's pixels


@dataclass(frozen=True)
class Variant:
    """How a run differs.

    Parameters
    ----------
    pixels
        ``standard`` (mean and sd of the data set), ``[0, 1]``, ``[-1, 1]``, ``/ sd``, ``features``
        (every pixel by its own mean and sd).
    init
        ``torch``, ``he`` and ``xavier`` with biases of 0, ``he-weights`` with torch's biases,
        ``torch-weights`` with biases of 0.
    images
        As in livar_reference.py.
    momentum_kept
        A client's momentum goes on in the next round.
    """

    pixels: str = "standard"
    init: str = "torch"
    images: str = "drawn"
    momentum_kept: bool = False


VARIANTS = (
    Variant(),
    Variant(pixels="[0, 1]"),
    Variant(pixels="[-1, 1]"),
    Variant(pixels="/ sd"),
    Variant(pixels="features"),
    Variant(momentum_kept=True),
    Variant(init="torch-weights"),
    Variant(init="he-weights"),
    Variant(init="he"),
    Variant(init="xavier"),
    Variant(pixels="[0, 1]", init="he"),
    Variant(pixels="[-1, 1]", init="he"),
    Variant(init="he", images="first"),
)


def main() -> None:
    """Run every variant and print its line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = {which: images(options.data, which) for which in ("drawn", "first")}
    print("| variant | lr .01, last (sd), best | lr .03, last (sd), best |\n|---|---|---|")
    for variant in VARIANTS:
        cells = []
        for lr in (0.01, 0.03):
            found = np.array(
                [run(known[variant.images], variant, lr, seed) for seed in range(options.seeds)]
            )
            last = found[:, -1]
            spread = last.std(ddof=1) if options.seeds > 1 else float("nan")
            cells.append(f"{last.mean():.3f} ({spread:.3f}), {found.max(1).mean():.3f}")
        print(f"| {variant} | {cells[0]} | {cells[1]} |", flush=True)


def run(data: tuple[Samples, Samples], variant: Variant, lr: float, seed: int) -> list[float]:
    """Accuracy of FedAvg after every round."""
    train, test = (part.inputs.flatten(1) * SD + MEAN for part in data)
    labels = data[0].labels
    held = partition(labels.numpy(), seed)
    x, y = scaled(train, train, variant.pixels)[held], labels[held]  # [clients, samples, 196]
    judged = scaled(test, train, variant.pixels)
    weights, velocity = initial(variant.init, seed), list[Tensor]()
    order = torch.Generator().manual_seed(seed + 7)
    accuracies = []
    for _ in range(ROUNDS):
        own = [w.expand(N_CLIENTS, *w.shape).clone().requires_grad_() for w in weights]
        if not velocity or not variant.momentum_kept:
            velocity = [torch.zeros_like(w) for w in own]
        for _ in range(5):
            train_epoch(own, velocity, (x, y), lr, order)
        weights = [w.detach().mean(0) for w in own]
        logits = forward([w.unsqueeze(0) for w in weights], judged.unsqueeze(0))[0]
        accuracies.append(float((logits.argmax(1) == data[1].labels).float().mean()))
    return accuracies


def train_epoch(
    own: list[Tensor],
    velocity: list[Tensor],
    data: tuple[Tensor, Tensor],
    lr: float,
    order: torch.Generator,
) -> None:
    """One pass of all clients at once: mini-batches of 30, SGD with momentum 0.9."""
    x, y = data
    places = torch.stack([torch.randperm(N_SAMPLES, generator=order) for _ in range(N_CLIENTS)])
    for batch in torch.split(places, 30, dim=1):
        inputs = torch.gather(x, 1, batch.unsqueeze(2).expand(-1, -1, x.shape[2]))
        logits = forward(own, inputs).flatten(0, 1)
        loss = functional.cross_entropy(logits, torch.gather(y, 1, batch).flatten()) * N_CLIENTS
        with torch.no_grad():
            for weight, speed, slope in zip(
                own, velocity, torch.autograd.grad(loss, own), strict=True
            ):
                weight.sub_(lr * speed.mul_(0.9).add_(slope))


def forward(own: list[Tensor], x: Tensor) -> Tensor:
    """Logits ``[clients, n, 10]`` of inputs ``[clients, n, 196]``."""
    for layer in (0, 2, 4):
        x = torch.baddbmm(own[layer + 1].unsqueeze(1), x, own[layer].transpose(1, 2))
        x = x if layer == 4 else torch.relu(x)
    return x


def scaled(pixels: Tensor, train: Tensor, how: str) -> Tensor:
    """Pixels in [0, 1], ``[n, 196]``, scaled."""
    if how == "features":
        return (pixels - train.mean(0)) / (train.std(0) + 1e-6)
    shift, unit = {
        "standard": (MEAN, SD), "[0, 1]": (0.0, 1.0), "[-1, 1]": (0.5, 0.5), "/ sd": (0.0, SD),
    }[how]  # fmt: skip
    return (pixels - shift) / unit


def initial(how: str, seed: int) -> list[Tensor]:
    """Weights and biases of the three layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(196, 64), nn.Linear(64, 64), nn.Linear(64, N_CLASSES)]
        for layer in layers:
            if how.startswith("he"):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if how == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            if how in ("he", "xavier", "torch-weights"):
                nn.init.zeros_(layer.bias)
    return [p.detach().clone() for layer in layers for p in (layer.weight, layer.bias)]


def partition(labels: np.ndarray, seed: int) -> Tensor:
    """Positions ``[clients, 300]``: half of each of two classes, no sample twice."""
    rng = np.random.default_rng(seed + 100)
    left = {c: list(rng.permutation(np.flatnonzero(labels == c))) for c in range(N_CLASSES)}
    held = [[left[c].pop() for c in sorted(pair) for _ in range(150)] for pair in PAIRS]
    return torch.from_numpy(np.array(held))


if __name__ == "__main__":
    main()
