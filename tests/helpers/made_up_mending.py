"""Runs for what-ifs: a study that averaging breaks, and a run of a program of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.learning.weights import get_weights
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import ClientRecord, RoundRecord
from fedcircuit.records.runs.store import RunStore
from fedcircuit.samples import Samples

STUDY: dict[str, Any] = {
    "name": "broken",
    "partition": {"kind": "classes", "classes": [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]},
    "model": {"name": "mlp", "widths": [12]},
    "training": {"rounds": 2, "epochs": 8, "lr": 0.3},
    "circuits": {"probe_per_class": 12, "controls": 1},
}


def own_run(
    folder: Path,
    *,
    weights: bool = True,
    counts: Sequence[list[int] | None] = ([8, 0], [0, 8]),
    examples: int = 4,
    names: tuple[str, str] = ("a", "b"),
    clients: int = 2,
) -> tuple[Path, nn.Module, Probe]:
    """A run of a program of its own: two clients of a linear network, one knows each class."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    start = get_weights(model)
    eye = {**start, "0.weight": np.eye(2, dtype=np.float32), "2.bias": np.zeros(2, np.float32)}
    heads = np.array([[[3.0, 0], [0, 0]], [[0, 0], [0, 3.0]]], np.float32)
    came = tuple(
        ClientRecord(
            str(k),
            examples,
            {**eye, "2.weight": head} if weights else {},
            {},
            {} if own is None else {"class-counts": own},
        )
        for k, (head, own) in enumerate(zip(heads, counts, strict=True))
    )
    manifest = build_manifest("own", seed=0, class_names=names)
    with RunStore.create(folder, manifest) as store:
        store.append(RoundRecord(0, start))
        store.append(RoundRecord(1, {**eye, "2.weight": heads.mean(0)}, came[:clients]))
    labels = torch.arange(20) % 2
    return folder, model, Probe.split(Samples(torch.eye(2)[labels], labels), names, seed=0)
