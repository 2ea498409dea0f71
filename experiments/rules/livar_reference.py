"""LIVAR's head against FedAvg and head rows by class count, in the cells of a run that is known.

    OMP_NUM_THREADS=1 python experiments/rules/livar_reference.py --data DATA --out runs/livar

MNIST averaged to 14x14, MLP 196-64-64-10, 10 clients of 300 images, 5 local epochs, mini-batches
of 30, SGD with momentum 0.9, 12 rounds, accuracy of the average on 5,000 test images. Cell A draws
every client's classes from Dir(0.1); in cell B clients 0 to 4 hold {0,1} {2,3} {4,5} {6,7} {8,9}
and clients 5 to 9 hold {0,2} {2,4} {4,6} {6,8} {8,0}, half each. Within a seed all rules have the
same data, initial weights and order of mini-batches.

Every run is a file OUT/CELL-RULE-SEED.json; those that are there are not run again, so a stopped
program goes on where it was. The table shows our mean and standard deviation over seeds beside the
known run, and paired differences to FedAvg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from fedcircuit.aggregation import Rule, Setting, State, Update, Updates
from fedcircuit.aggregation.heads import LivarHead, class_counts, find_head, with_rows
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.networks import build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import FeatureVariance, LocalTraining, evaluate, train_local
from fedcircuit.messages import CLASS_COUNTS, CLASS_VARIANCES
from fedcircuit.samples import Samples

N_CLASSES, N_CLIENTS, N_SAMPLES, ROUNDS = 10, 10, 300, 12
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (0, 2), (2, 4), (4, 6), (6, 8), (8, 0))
CELLS = {"A-0.01": 0.01, "A-0.03": 0.03, "B-0.01": 0.01, "B-0.03": 0.03}  # split and learning rate
RULES = ("fedavg", "livar-head", "class-count-head")

# The known run at 5 seeds (its seeds, partition and scale of the pixels are not known).
KNOWN = {
    "A-0.01": (0.767, 0.784, 0.776),
    "A-0.03": (0.775, 0.796, 0.785),
    "B-0.01": (0.704, 0.709, 0.719),
    "B-0.03": (0.710, 0.745, 0.753),
}


@dataclass(frozen=True)
class CountedHead:
    """Head rows by class count, ``sum_k n_kc W_kc / sum_j n_jc``; a class nobody has is kept."""

    name: ClassVar[str] = "class-count-head"

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with these rows."""
        head = find_head(average, setting, self.name)
        counts = class_counts(updates, head.n_classes, self.name)
        total = counts.sum(axis=0)
        shares = counts / np.where(total > 0, total, 1.0)
        return with_rows(updates, average, head, shares, updates.before), {}


RULE_OF: Mapping[str, Rule | None] = {
    "fedavg": None,
    "livar-head": LivarHead(),
    "class-count-head": CountedHead(),
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--out", type=Path, default=Path("runs/livar"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tasks = [(c, r, s) for s in range(options.seeds) for c in CELLS for r in RULES]
    missing = [task for task in tasks if not file_of(options.out, *task).exists()]
    print(f"{len(tasks) - len(missing)} runs are there, {len(missing)} to go", flush=True)
    torch.set_num_threads(1)
    source = DataSource(
        name="mnist", root=options.data, train_limit=20_000, test_limit=5_000, pool=2
    )
    data = load_dataset(source, seed=0) if missing else None
    for cell, rule, seed in missing:
        assert data is not None
        accuracies = run(data.train, data.test, cell, RULE_OF[rule], seed)
        write(file_of(options.out, cell, rule, seed), accuracies)
        print(f"{cell} {rule} seed {seed}: {accuracies[-1]:.3f}", flush=True)
    print_table(options.out, options.seeds)


def file_of(folder: Path, cell: str, rule: str, seed: int) -> Path:
    """Where a run's accuracies are."""
    return folder / f"{cell}-{rule}-{seed}.json"


def write(path: Path, accuracies: list[float]) -> None:
    """Write a run's accuracies, one a round, such that a file is whole or not there."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(accuracies), encoding="utf-8")
    partial.replace(path)


def run(train: Samples, test: Samples, cell: str, rule: Rule | None, seed: int) -> list[float]:
    """Accuracies of the average after every round."""
    clients = partition(train, cell[0], seed)
    model = build_model("mlp", (1, 14, 14), N_CLASSES, seed=seed, widths=(64, 64))
    training = LocalTraining(
        epochs=5, batch_size=30, lr=CELLS[cell], momentum=0.9, feature_variance=FeatureVariance()
    )
    weights: Weights = get_weights(model)
    state: State = {}
    accuracies = []
    for number in range(1, ROUNDS + 1):
        replies = []
        for index, samples in enumerate(clients):
            set_weights(model, weights)
            result = train_local(
                model,
                samples,
                training,
                n_classes=N_CLASSES,
                seed=derived_seed(seed, number, index),
            )
            said = {
                CLASS_COUNTS: samples.counts(N_CLASSES).tolist(),
                CLASS_VARIANCES: list(result.class_variances or ()),
            }
            replies.append(Update(str(index), len(samples), get_weights(model), said))
        updates = Updates(number, weights, tuple(replies))
        weights = averaged(updates)
        if rule is not None:
            weights, state = rule(updates, weights, Setting(N_CLASSES, model), state)
        set_weights(model, weights)
        accuracies.append(evaluate(model, test, n_classes=N_CLASSES).accuracy)
    return accuracies


def averaged(updates: Updates) -> Weights:
    """FedAvg."""
    return {
        name: np.tensordot(
            updates.shares, np.stack([u.weights[name] for u in updates.clients]), axes=1
        ).astype(before.dtype)
        for name, before in updates.before.items()
    }


def partition(pool: Samples, split: str, seed: int) -> list[Samples]:
    """Each client's samples, none of them twice."""
    rng = np.random.default_rng(derived_seed(seed, "partition", split))
    labels = pool.labels.numpy()
    left = {c: list(rng.permutation(np.flatnonzero(labels == c))) for c in range(N_CLASSES)}
    clients = []
    for index in range(N_CLIENTS):
        if split == "B":
            counts = np.zeros(N_CLASSES, np.int64)
            counts[list(PAIRS[index])] = N_SAMPLES // 2
        else:
            counts = rng.multinomial(N_SAMPLES, rng.dirichlet(np.full(N_CLASSES, 0.1)))
        chosen = [left[c].pop() for c, n in enumerate(counts) for _ in range(n)]
        clients.append(pool.take(torch.tensor(chosen)))
    return clients


def print_table(folder: Path, seeds: int) -> None:
    """Final accuracies of all runs that are there, beside the known run."""
    print("\naccuracy after the last round: ours, mean (sd) over seeds / the known run")
    print(f"{'cell':<8}" + "".join(f"{rule:>24}" for rule in RULES) + "   differences to FedAvg")
    for cell in CELLS:
        last = {
            rule: np.array(
                [
                    json.loads(file_of(folder, cell, rule, seed).read_text("utf-8"))[-1]
                    for seed in range(seeds)
                ]
            )
            for rule in RULES
        }
        line = f"{cell:<8}"
        for rule, known in zip(RULES, KNOWN[cell], strict=True):
            spread = last[rule].std(ddof=1) if seeds > 1 else float("nan")
            line += f"{last[rule].mean():.3f} ({spread:.3f}) / {known:.3f}".rjust(24)
        for rule in RULES[1:]:
            apart = last[rule] - last["fedavg"]
            line += f"   {rule} {apart.mean():+.3f}, better in {(apart > 0).sum()} of {seeds}"
        print(line)


if __name__ == "__main__":
    main()
