"""LIVAR's table derived anew, and the published one, against uniform weights on data held out.

    OMP_NUM_THREADS=1 python experiments/rules/importance_reference.py --data DATA --out runs/lora

Proxy federations on MNIST, grey CIFAR-10 (images that the pretraining has not seen) and
scikit-learn's digits, each with two seeds: 5 clients of 80 images in Dirichlet(0.5) shares train
LoRA on the pretrained transformer (lora_setting.py) for eight rounds of FedAvg. The last round is
then merged again and again with other weights, factors by themselves as in the released code; the
loss is the cross-entropy on 250 other images. ``fit_importance`` fits the table and judges it on
each data set by a table that was fitted without it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from lora_setting import (
    N_CLASSES,
    Client,
    averaged,
    cifar,
    local,
    network,
    one_round,
    pretrained,
    write,
)
from torch.nn import functional

from fedcircuit.aggregation import Floats, Setting
from fedcircuit.aggregation.layers import ImportanceFit, ProxyRun, fit_importance
from fedcircuit.learning import derived_seed, set_weights
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.networks import LoRA, adapter_pairs
from fedcircuit.learning.partitions import dirichlet
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import evaluate
from fedcircuit.samples import Samples

CLIENTS, OWN, JUDGED, SEEDS, ROUNDS, LR = 5, 80, 250, 2, 8, 1e-2


def main() -> None:
    """Make the proxy federations, fit, and say what the table is worth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds MNIST/raw, cifar10-jpeg")
    parser.add_argument("--out", type=Path, default=Path("runs/lora"), help="of lora_table.py")
    parser.add_argument("--draws", type=int, default=200, help="merges measured in every run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    start, began = pretrained(options.data, options.out), time.process_time()
    runs = [
        proxy(name, data, start, seed)
        for name, data in data_sets(options.data).items()
        for seed in range(SEEDS)
    ]
    fit = fit_importance(runs, draws=options.draws)
    text = told(fit) + f"\n{time.process_time() - began:.0f} s of one core\n"
    (options.out / "importance.md").write_text(text, encoding="utf-8")
    write(options.out / "importance.json", fit.table.tolist())
    print(f"\n{text}")


def data_sets(root: Path) -> dict[str, Samples]:
    """Images ``[n, 1, 28, 28]`` by the name of their data set."""
    mnist = load_dataset(DataSource("mnist", str(root), train_limit=6_000), seed=0).train
    unseen = torch.arange(10_000, 16_000)
    digits = load_dataset(DataSource("digits"), seed=0).train
    large = functional.pad(digits.inputs.repeat_interleave(3, 2).repeat_interleave(3, 3), [2] * 4,
                           value=float(digits.inputs.min()))  # fmt: skip
    return {
        "mnist": mnist,
        "cifar10-jpeg": cifar(root)[0].take(unseen),
        "digits": Samples(large, digits.labels),
    }


def proxy(name: str, data: Samples, start: Path, seed: int) -> ProxyRun:
    """A federation after its last round, of which any merge of the factors can be measured."""
    order = np.random.default_rng(derived_seed(seed, name)).permutation(len(data))
    held = data.take(torch.from_numpy(order[: CLIENTS * OWN]))
    judged = data.take(torch.from_numpy(order[CLIENTS * OWN :][:JUDGED]))
    parts = dirichlet(
        held.labels.numpy(), CLIENTS, n_classes=N_CLASSES, alpha=0.5, min_samples=6, seed=seed
    )
    clients = [Client(held.take(torch.from_numpy(own)), {}) for own in parts.indices]
    model = network(start, seed, LoRA(rank=4, norms=False))
    for number in range(1, ROUNDS + 1):
        updates = one_round(model, clients, local(LR, importance=True), number, seed).updates
        average, _ = averaged(updates, (), Setting(N_CLASSES, model))
        set_weights(model, average)
    found = evaluate(model, judged, n_classes=N_CLASSES)
    print(f"{name} seed {seed}: accuracy {found.accuracy:.3f}, loss {found.loss:.3f}", flush=True)
    pairs = list(adapter_pairs(average).values())
    stacks = {n: np.stack([u.weights[n] for u in updates.clients]) for pair in pairs for n in pair}

    def loss(weights: Floats) -> float:
        """Of factors averaged by weights ``[clients, layers]``; the head is FedAvg's."""
        merged = dict(average)
        for layer, pair in enumerate(pairs):
            for factor in pair:
                own = np.tensordot(weights[:, layer], stacks[factor], axes=1)
                merged[factor] = own.astype(np.float32)
        set_weights(model, merged)
        return evaluate(model, judged, n_classes=N_CLASSES).loss

    a, b = (
        np.array([[client.importance[pair[i]] for pair in pairs] for client in clients])
        for i in (0, 1)
    )
    return ProxyRun(name, a, b, loss)


def told(fit: ImportanceFit) -> str:
    """The table, and losses held out, as Markdown."""
    rows = ["| data held out | fitted | published | uniform |", "|---" * 4 + "|"]
    rows += [
        f"| {held.dataset} | {held.fitted:.4f} | {held.published:.4f} | {held.uniform:.4f} |"
        for held in fit.held_out
    ]
    table = json.dumps(fit.table.round(3).tolist())
    return "\n".join([fit.verdict, "", *rows, "", f"table {table}, strength {fit.strength}"]) + "\n"


if __name__ == "__main__":
    main()
