"""Ways to merge LoRA's factors, and LIVAR, against FedAvg of the full weights of a small ViT.

    OMP_NUM_THREADS=1 python experiments/rules/lora_table.py --data DATA --out runs/lora

10 clients share 2,000 MNIST images, every class dealt in Dirichlet(0.2) shares, and fine-tune a
transformer that was trained on grey CIFAR-10 (lora_setting.py): 8 rounds, all clients, 2 local
epochs of Adam; accuracy of the average on 2,000 test images. LoRA of rank 4 on all linear layers,
head in full, norms frozen. Learning rates are chosen per kind of training by FedAvg on one more
seed, 2 rounds and 1,000 training images that no client holds.

Every run is a file OUT/ARM-SEED.json; those that are there are not run again, so a stopped program
goes on where it was. The table is OUT/table.md, and OUT/runs.csv has a line a run.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lora_setting import (
    N_CLASSES,
    N_CLIENTS,
    Client,
    averaged,
    local,
    network,
    one_round,
    pretrained,
    write,
)

from fedcircuit import messages
from fedcircuit.aggregation import Rule, Setting, Updates
from fedcircuit.aggregation.heads import LivarHead
from fedcircuit.aggregation.layers import LivarLayers
from fedcircuit.aggregation.lora import FactorPair, merge_factors
from fedcircuit.learning import derived_seed, set_weights
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.networks import LoRA, adapter_pairs
from fedcircuit.learning.partitions import dirichlet
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import evaluate
from fedcircuit.report.sweeps import bca_interval
from fedcircuit.samples import Samples

BOTH, B_ONLY = LoRA(rank=4, norms=False), LoRA(rank=4, norms=False, train_a=False)
KINDS = {"full": None, "lora": BOTH, "lora, A frozen": B_ONLY}
GRID = {
    "full": (3e-4, 1e-3, 3e-3),
    "lora": (1e-3, 3e-3, 1e-2, 3e-2),
    "lora, A frozen": (1e-3, 3e-3, 1e-2, 3e-2),
}
TUNING_SEED, ROUNDS = 100, 8


@dataclass(frozen=True)
class Arm:
    """How clients train, and what is done to their average.

    Parameters
    ----------
    kind
        Of ``KINDS``.
    rules
        After FedAvg.
    equal
        Give all path importances as 1, so that layers are weighted by samples alone.
    control
        The arm that differs in the one thing alone.
    """

    kind: str
    rules: tuple[Rule, ...] = ()
    equal: bool = False
    control: str = "fedavg"

    def asks(self, rule: type) -> bool:
        """Whether one of the rules is of this class."""
        return any(isinstance(one, rule) for one in self.rules)


ARMS = {
    "fedavg": Arm("full"),
    "factors": Arm("lora"),
    "product": Arm("lora", (LivarLayers(mode="product"),), equal=True),
    "freeze-A": Arm("lora, A frozen"),
    "livar-layers": Arm("lora", (LivarLayers(),), control="factors"),
    "livar-head": Arm("lora", (LivarHead(),), control="factors"),
    "livar": Arm("lora", (LivarHead(), LivarLayers()), control="livar-head"),
}


def main() -> None:
    """Pretrain, choose learning rates, run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="holds MNIST/raw, cifar10-jpeg")
    parser.add_argument("--out", type=Path, default=Path("runs/lora"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to N - 1")
    parser.add_argument("--arms", default=",".join(ARMS), help="of " + ", ".join(ARMS))
    options = parser.parse_args()
    arms = options.arms.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        parser.error(f"unknown arms {unknown}; known: {', '.join(ARMS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    start = pretrained(options.data, options.out)
    rates = {kind: best_rate(options, start, kind) for kind in KINDS}
    print(f"learning rates: {rates}", flush=True)
    for seed in range(options.seeds):
        for arm in arms:
            path = options.out / f"{arm}-{seed}.json"
            if not path.exists():
                data = samples(options.data, seed)
                write(path, federation(ARMS[arm], data, start, (rates[ARMS[arm].kind], seed)))
            print(f"{arm} seed {seed}: {json.loads(path.read_text('utf-8'))}", flush=True)
    text = table(options.out, arms, options.seeds, rates)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")


def samples(root: Path, seed: int) -> tuple[list[Client], Samples, Samples]:
    """Clients, 1,000 samples to choose learning rates by, and test samples."""
    source = DataSource("mnist", str(root), test_limit=2_000)
    data = load_dataset(source, seed=0)
    order = np.random.default_rng(derived_seed(seed, "images")).permutation(len(data.train))
    held = data.train.take(torch.from_numpy(order[:2_000]))
    parts = dirichlet(
        held.labels.numpy(), N_CLIENTS, n_classes=N_CLASSES, alpha=0.2, min_samples=6, seed=seed
    )
    clients = [Client(held.take(torch.from_numpy(own)), {}) for own in parts.indices]
    return clients, data.train.take(torch.from_numpy(order[2_000:3_000])), data.test


def best_rate(options: argparse.Namespace, start: Path, kind: str) -> float:
    """The learning rate of the grid at which FedAvg is best on the tuning seed."""
    found: dict[float, float] = {}
    for lr in GRID[kind]:
        path = options.out / f"tuning-{kind.replace(', ', '-').replace(' ', '-')}-{lr}.json"
        if not path.exists():
            clients, chosen_by, _ = samples(options.data, TUNING_SEED)
            run = federation(
                Arm(kind), (clients, chosen_by, chosen_by), start, (lr, TUNING_SEED), rounds=2
            )
            write(path, run)
        found[lr] = json.loads(path.read_text("utf-8"))["accuracies"][-1]
    print(f"tuning {kind}: {found}", flush=True)
    return max(found, key=lambda lr: found[lr])


def federation(
    arm: Arm,
    data: tuple[list[Client], Samples, Samples],
    start: Path,
    how: tuple[float, int],
    *,
    rounds: int = ROUNDS,
) -> dict[str, object]:
    """Accuracies round by round, bytes, lost energy and seconds of one federation."""
    clients, _, test = data
    lr, seed = how
    model = network(start, seed, KINDS[arm.kind])
    training = local(
        lr, variance=arm.asks(LivarHead), importance=arm.asks(LivarLayers) and not arm.equal
    )
    accuracies, began = [], time.process_time()
    for number in range(1, rounds + 1):
        found = one_round(model, clients, training, number, seed)
        updates = with_equal_importance(found.updates) if arm.equal else found.updates
        weights, lost = averaged(updates, arm.rules, Setting(N_CLASSES, model, seed=seed))
        set_weights(model, weights)
        accuracies.append(evaluate(model, test, n_classes=N_CLASSES).accuracy)
    if arm.kind == "lora" and np.isnan(lost) and not arm.asks(LivarLayers):
        lost = energy_lost_by_factors(updates)
    return {
        "accuracies": accuracies, "lost_energy": None if np.isnan(lost) else lost,
        "down": found.down, "up": found.up, "cpu_seconds": time.process_time() - began, "lr": lr,
    }  # fmt: skip


def with_equal_importance(updates: Updates) -> Updates:
    """The same round with the same importance of all factors in all clients."""
    names = [name for pair in adapter_pairs(updates.before).values() for name in pair]
    said = {messages.PATH_LAYERS: names, messages.PATH_IMPORTANCE: [1.0] * len(names)}
    clients = tuple(replace(one, said={**one.said, **said}) for one in updates.clients)
    return replace(updates, clients=clients)


def energy_lost_by_factors(updates: Updates) -> float:
    """Mean over layers of the share of the averaged products that averaged factors lack."""
    lost = []
    for pair in adapter_pairs(updates.before).values():
        factors = [FactorPair(*(u.weights[name] for name in pair)) for u in updates.clients]
        lost.append(merge_factors(factors, updates.shares).lost_energy)
    return float(np.mean(lost))


def table(out: Path, arms: Sequence[str], seeds: int, rates: dict[str, float]) -> str:
    """The table as Markdown; all runs go into runs.csv."""
    runs = {
        arm: [json.loads((out / f"{arm}-{s}.json").read_text("utf-8")) for s in range(seeds)]
        for arm in arms
    }
    with (out / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["arm", "seed", "accuracy", "down", "up", "lost_energy", "cpu_seconds", "lr"])
        for arm, own in runs.items():
            for seed, run in enumerate(own):
                last = [run["accuracies"][-1], *(run[key] for key in ("down", "up", "lost_energy"))]
                rows.writerow([arm, seed, *last, run["cpu_seconds"], run["lr"]])
    last = {arm: np.array([run["accuracies"][-1] for run in own]) for arm, own in runs.items()}
    lines = [
        f"Chance is .100; mean (sd) over {seeds} seeds, differences with 95 % BCa intervals.\n",
        "| arm | learning rate | accuracy | difference to FedAvg | to its control "
        "| bytes down, up | lost energy |",
        "|---" * 7 + "|",
    ]
    for arm, own in runs.items():
        spread = last[arm].std(ddof=1) if seeds > 1 else float("nan")
        control = ARMS[arm].control
        versus = "" if control == "fedavg" else f"{control}: {difference(last, arm, control)}"
        lost = [run["lost_energy"] for run in own if run["lost_energy"] is not None]
        lines.append(
            f"| {arm} | {rates[ARMS[arm].kind]:g} | {last[arm].mean():.3f} ({spread:.3f}) "
            f"| {difference(last, arm, 'fedavg')} | {versus} "
            f"| {own[0]['down']:,}, {own[0]['up']:,} | {f'{np.mean(lost):.3f}' if lost else ''} |"
        )
    return "\n".join(lines) + "\n"


def difference(last: dict[str, np.ndarray], arm: str, control: str) -> str:
    """Mean paired difference and its interval, in points; empty for an arm and itself."""
    if arm == control or control not in last:
        return ""
    apart = 100 * (last[arm] - last[control])
    low, high = bca_interval(apart)
    return f"{apart.mean():+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
