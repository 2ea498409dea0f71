"""A sweep of digits small enough to be run in a test."""

from __future__ import annotations

from pathlib import Path

from fedcircuit.app.sweeps import parse_arms, plan_sweep
from fedcircuit.records.sweeps import Sweep

STUDY = """\
name: tiny
data: {name: digits, train_limit: 240, test_limit: 200}
partition: {kind: dirichlet, clients: 4, alpha: 0.5}
model: {name: mlp, widths: [12]}
training: {rounds: 3, epochs: 1, batch_size: 20, lr: 0.2}
strategy: {fraction_train: 0.5}
circuits: {enabled: false, probe_per_class: 8}
inertia: {enabled: false}
"""
ARMS = ("fedavg=", "momentum=training.momentum=0.9")
SEEDS = (0, 1, 2)


def study_file(folder: Path) -> Path:
    """The study as a file."""
    path = folder / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def tiny_sweep(
    folder: Path, *arms: str, seeds: tuple[int, ...] = SEEDS, unpaired: bool = False
) -> Sweep:
    """A plan of the study, in ``folder/sweep``; nothing has run."""
    configs = parse_arms(study_file(folder), arms or ARMS)
    return plan_sweep(configs, seeds, folder / "sweep", unpaired=unpaired)
