"""LIVAR's head, the class-count head and CCVR against FedAvg, in the cells of a run that is known.

    OMP_NUM_THREADS=1 python experiments/rules/livar_reference.py --data DATA --out runs/livar

MNIST averaged to 14x14, MLP 196-64-64-10, 10 clients of 300 images, 5 local epochs, mini-batches
of 30, SGD with momentum 0.9, 12 rounds. Clients' images are drawn from the first 20,000 of the
training files, and accuracy is that of the average on the first 5,000 of the test files. Cell A
draws every client's classes from Dir(0.1); in cell B clients 0 to 4 hold {0,1} {2,3} {4,5} {6,7}
{8,9} and clients 5 to 9 hold {0,2} {2,4} {4,6} {6,8} {8,0}, half each. Within a seed all rules have
the same data, initial weights and order of mini-batches. CCVR fits the head anew once, after the
last round, from class moments that clients take at the averaged body.

He's initial weights and the first images are guesses at what the known run had, made because they
bring FedAvg and CCVR to its figures. ``--init torch`` starts from torch's initial weights, and
``--images drawn`` draws images from all of the files, in the mix of their classes: docs/mend.md
tells what each does.

Every run is a file OUT/CELL-RULE-INIT-IMAGES-SEED.json; those that are there are not run again, so
a stopped program goes on where it was. The table shows our mean and standard deviation over seeds
beside the known run, and paired differences to FedAvg with the interval of ``fedcircuit compare``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fedcircuit import messages
from fedcircuit.aggregation import Rule, Said, Setting, Update, Updates
from fedcircuit.aggregation.heads import CCVR, ClassCountHead, LivarHead
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.networks import Initialisation, build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import FeatureVariance, LocalTraining, evaluate, train_local
from fedcircuit.learning.watching import class_moments
from fedcircuit.report.sweeps import bca_interval
from fedcircuit.samples import Samples

N_CLASSES, N_CLIENTS, N_SAMPLES, ROUNDS = 10, 10, 300, 12
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (0, 2), (2, 4), (4, 6), (6, 8), (8, 0))
CELLS = {"A-0.01": 0.01, "A-0.03": 0.03, "B-0.01": 0.01, "B-0.03": 0.03}  # split and learning rate
TRAINED: Mapping[str, Rule | None] = {
    "fedavg": None,
    "livar-head": LivarHead(),
    "class-count-head": ClassCountHead(),
}
RULES = (*TRAINED, *(f"{rule} + ccvr" for rule in TRAINED))

# The known run at 5 seeds, in the order of RULES. Its seeds and initial weights are not known.
KNOWN = {
    "A-0.01": (0.767, 0.784, 0.776, 0.821, 0.820, 0.823),
    "A-0.03": (0.775, 0.796, 0.785, 0.834, 0.831, 0.833),
    "B-0.01": (0.704, 0.709, 0.719, 0.825, 0.817, 0.816),
    "B-0.03": (0.710, 0.745, 0.753, 0.836, 0.821, 0.822),
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds MNIST/raw")
    parser.add_argument("--out", type=Path, default=Path("runs/livar"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1")
    parser.add_argument("--init", choices=("he", "torch"), default="he", help="initial weights")
    parser.add_argument(
        "--images", choices=("first", "drawn"), default="first", help="of the files"
    )
    parser.add_argument("--rules", default=",".join(TRAINED), help="of " + ", ".join(TRAINED))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rules, kind = options.rules.split(","), f"{options.init}-{options.images}"
    tasks = [(c, r, s) for s in range(options.seeds) for c in CELLS for r in rules]
    files = {task: file_of(options.out, *task, kind) for task in tasks}
    missing = {task: path for task, path in files.items() if not path.exists()}
    print(f"{len(files) - len(missing)} runs are there, {len(missing)} to go", flush=True)
    torch.set_num_threads(1)
    data = images(options.data, options.images) if missing else None
    for (cell, rule, seed), path in missing.items():
        assert data is not None
        found = run(data, cell, rule, (options.init, seed))
        partial = path.with_suffix(".partial")  # a file is whole or not there
        partial.write_text(json.dumps(found), encoding="utf-8")
        partial.replace(path)
        last = found["accuracies"][-1]
        print(f"{cell} {rule} seed {seed}: {last:.3f}, CCVR {found['ccvr'][0]:.3f}", flush=True)
    print_table(options.out, options.seeds, kind, rules)


def file_of(folder: Path, cell: str, rule: str, seed: int, kind: str) -> Path:
    """Where a run's accuracies are; ``kind`` is INIT-IMAGES."""
    return folder / f"{cell}-{rule}-{kind}-{seed}.json"


def images(root: str, which: str) -> tuple[Samples, Samples]:
    """20,000 images to draw clients from, and 5,000 for tests."""
    limits = (20_000, 5_000)
    if which == "drawn":
        source = DataSource("mnist", root, train_limit=limits[0], test_limit=limits[1], pool=2)
        data = load_dataset(source, seed=0)
        return data.train, data.test
    data = load_dataset(DataSource("mnist", root, pool=2), seed=0)
    parts = zip((data.train, data.test), limits, strict=True)
    train, test = (part.take(torch.arange(limit)) for part, limit in parts)
    return train, test


def run(
    data: tuple[Samples, Samples], cell: str, rule: str, start: tuple[Initialisation, int]
) -> dict[str, list[float]]:
    """Accuracies of the average after every round, and of the last with CCVR.

    Parameters
    ----------
    data
        Training and test samples.
    cell, rule
        Of ``CELLS`` and ``TRAINED``.
    start
        How initial weights are drawn, and the seed of everything.
    """
    init, seed = start
    clients = partition(data[0], cell[0], seed)
    model = build_model("mlp", (1, 14, 14), N_CLASSES, seed=seed, widths=(64, 64), init=init)
    mend, state = TRAINED[rule], dict[str, np.ndarray]()
    training = LocalTraining(
        epochs=5, batch_size=30, lr=CELLS[cell], momentum=0.9,
        feature_variance=FeatureVariance() if rule == "livar-head" else None,
    )  # fmt: skip
    weights: Weights = get_weights(model)
    setting = Setting(N_CLASSES, model, seed=seed)
    accuracies = []
    for number in range(1, ROUNDS + 1):
        replies = []
        for index, samples in enumerate(clients):
            set_weights(model, weights)
            own = derived_seed(seed, number, index)
            result = train_local(model, samples, training, n_classes=N_CLASSES, seed=own)
            said: dict[str, Said] = {
                messages.CLASS_COUNTS: samples.counts(N_CLASSES).tolist(),
                messages.CLASS_VARIANCES: list(result.class_variances or ()),
            }
            replies.append(Update(str(index), len(samples), get_weights(model), said))
        updates = Updates(number, weights, tuple(replies))
        weights = averaged(updates)
        if mend is not None:
            weights, _ = mend(updates, weights, setting, state)
        set_weights(model, weights)
        accuracies.append(evaluate(model, data[1], n_classes=N_CLASSES).accuracy)
    told = [
        replace(update, said={**update.said, **moments_said(model, samples)})
        for update, samples in zip(updates.clients, clients, strict=True)
    ]
    calibrated, _ = CCVR()(replace(updates, clients=tuple(told)), weights, setting, {})
    set_weights(model, calibrated)
    ccvr = evaluate(model, data[1], n_classes=N_CLASSES).accuracy
    return {"accuracies": accuracies, "ccvr": [ccvr]}


def moments_said(model: torch.nn.Module, samples: Samples) -> dict[str, Said]:
    """Class moments of what the head reads of a client's samples, as the client would say them."""
    moments = class_moments(model, samples, n_classes=N_CLASSES)
    return {
        messages.MOMENTS_COUNT: moments.counts.tolist(),
        messages.MOMENTS_SUM: moments.sums.numpy().astype("<f8").tobytes(),
        messages.MOMENTS_OUTER: moments.outer.numpy().astype("<f8").tobytes(),
    }


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


def print_table(folder: Path, seeds: int, kind: str, trained: Sequence[str]) -> None:
    """Final accuracies of all runs that are there, beside the known run, as Markdown."""
    rules = [*trained, *(f"{rule} + ccvr" for rule in trained)]
    print(f"\nlast round, mean (sd) over {seeds} seeds, {kind} [known run]\n")
    print("| cell, learning rate | " + " | ".join(rules) + " |\n|" + "---|" * (1 + len(rules)))
    lines = []
    for cell in CELLS:
        last = final_accuracies(folder, cell, seeds, kind, trained)
        known = dict(zip(RULES, KNOWN[cell], strict=True))
        cells = []
        for rule in rules:
            spread = last[rule].std(ddof=1) if seeds > 1 else float("nan")
            cells.append(f"{last[rule].mean():.3f} ({spread:.3f}) [{known[rule]:.3f}]")
        print(f"| {cell} | " + " | ".join(cells) + " |")
        for rule in rules[1:]:
            apart = last[rule] - last[rules[0]]
            low, high = bca_interval(apart)
            better = f"better in {(apart > 0).sum()} of {seeds}"
            lines.append(
                f"| {cell} | {rule} | {apart.mean():+.3f} | {low:+.3f} to {high:+.3f} | {better} |"
            )
    print(
        f"\n| cell | rule | difference to {rules[0]} | 95 % interval | seeds |\n" + "|---" * 5 + "|"
    )
    print("\n".join(lines))


def final_accuracies(
    folder: Path, cell: str, seeds: int, kind: str, trained: Sequence[str]
) -> dict[str, np.ndarray]:
    """``[seeds]`` for each of the rules, with and without CCVR."""
    last: dict[str, list[float]] = {}
    for rule in trained:
        for seed in range(seeds):
            found = json.loads(file_of(folder, cell, rule, seed, kind).read_text("utf-8"))
            last.setdefault(rule, []).append(found["accuracies"][-1])
            last.setdefault(f"{rule} + ccvr", []).append(found["ccvr"][0])
    return {rule: np.array(values) for rule, values in last.items()}


if __name__ == "__main__":
    main()
