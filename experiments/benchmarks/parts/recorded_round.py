"""One round of a federation, trained, measured and recorded as in a study: for benchmarks.

Clients start from a network that has seen a few images, as in the middle of a federation, and say
everything that any rule asks for. What plain training does not give them (Fisher information,
control variates, class moments and the like) is made up in the right size: what a rule costs does
not depend on it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fedcircuit import messages
from fedcircuit.app.config import StudyConfig
from fedcircuit.app.study import (
    Study,
    build_study,
    circuit_settings,
    dataset_of,
    local_training,
    source_of,
)
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.data import Dataset
from fedcircuit.learning.training import LocalTraining, evaluate, train_local
from fedcircuit.observers.circuits import CircuitObserver
from fedcircuit.records.rounds import ClientRecord, RoundRecord, RoundView, build_manifest
from fedcircuit.records.runs import RunStore

WARM = 3_000  # images of the rounds before


@dataclass(frozen=True)
class TrainedRound:
    """A round: weights before it, its clients, and what their training took.

    Parameters
    ----------
    study, before, clients
        The federation, the weights sent, and who came back with what.
    seconds
        Processor seconds of all clients' training, evaluation and circuits aside.
    """

    study: Study
    before: Weights
    clients: tuple[ClientRecord, ...]
    seconds: float


def trained_round(config: StudyConfig) -> TrainedRound:
    """Train every client of the study for one round."""
    study, data = build_study(config), dataset_of(source_of(config), config.seed)
    n_classes, training, model = len(study.class_names), local_training(config), study.model()
    warm = LocalTraining(epochs=1, batch_size=64, optimizer="adam", lr=1e-3)
    seed = derived_seed(config.seed, "warm")
    start = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:WARM]
    train_local(model, data.train.take(start), warm, n_classes=n_classes, seed=seed)
    before, clients, seconds = get_weights(model), [], 0.0
    for index, part in enumerate(study.partition.indices):
        samples = data.train.take(torch.from_numpy(part))
        set_weights(model, before)
        begin = time.process_time()
        result = train_local(
            model, samples, training, n_classes=n_classes, seed=derived_seed(config.seed, 1, index)
        )
        seconds += time.process_time() - begin
        after, counts = get_weights(model), samples.counts(n_classes).tolist()
        said = said_of(before, after, counts, result.steps, _features(data, after))
        clients.append(ClientRecord(str(index), len(samples), after, {}, said))
    return TrainedRound(study, before, tuple(clients), seconds)


def _features(data: Dataset, weights: Weights) -> int:
    """Inputs of the last layer."""
    matrices = [
        v.shape for v in weights.values() if v.ndim == 2 and len(v) == len(data.class_names)
    ]
    return int(matrices[-1][1])


def said_of(
    before: Weights, after: Weights, counts: Sequence[int], steps: int, features: int
) -> dict[str, object]:
    """What a client says for every rule, class moments aside: these are ccvr's other source."""
    update = {name: after[name] - before[name] for name in before}
    flat = np.concatenate([values.ravel() for values in update.values()]).astype("<f4")
    layers = [name for name in before if name.endswith(".weight")]
    return {
        messages.CLASS_COUNTS: list(counts),
        messages.CLASS_VARIANCES: [1.0 / (1 + n) for n in counts],
        messages.PATH_LAYERS: layers,
        messages.PATH_IMPORTANCE: [float(np.abs(update[name]).sum()) for name in layers],
        messages.LOCAL_STEPS: steps,
        messages.FISHER: np.square(flat).tobytes(),
        messages.FEDDYN_ALPHA: 0.01,
        messages.SCAFFOLD_DELTA: flat.tobytes(),
    }


def averaged(round_: TrainedRound) -> dict[str, np.ndarray]:
    """FedAvg."""
    total = sum(client.num_examples for client in round_.clients)
    return {
        name: np.asarray(
            sum(client.weights[name] * (client.num_examples / total) for client in round_.clients),
            values.dtype,
        )
        for name, values in round_.before.items()
    }


def recorded(round_: TrainedRound, folder: Path) -> tuple[Path, float, float]:
    """The round as a run folder of its study; accuracy of FedAvg, seconds of all its circuits."""
    study, average = round_.study, averaged(round_)
    config, settings = study.config, circuit_settings(study.config)
    model = study.model()
    set_weights(model, average)
    accuracy = evaluate(model, study.test, n_classes=len(study.class_names)).accuracy
    observer = CircuitObserver(model, study.probe, settings, seed=config.seed)
    begin = time.process_time()
    seen = observer(RoundView(1, round_.before, average, round_.clients, ()))
    seconds = time.process_time() - begin
    manifest = build_manifest(
        config.name,
        seed=config.seed,
        class_names=study.class_names,
        config=config.model_dump(mode="json"),
        thresholds={"validity": asdict(settings.validity), "verdict": asdict(settings.verdict)},
    )
    with RunStore.create(folder, manifest) as store:
        store.append(RoundRecord(0, round_.before))
        store.append(RoundRecord(1, average, round_.clients, observations={observer.name: seen}))
    return folder, accuracy, seconds
