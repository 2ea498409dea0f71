"""What the circuits of a discovery method are worth, in trained networks: valid, small, stable?

SimpleCNNs on MNIST at three weight sparsities, several training seeds. "global" is trained on all
classes, "local" goes on from there on three classes alone. Circuits are found on one half of a
probe of 500 images and checked on the other. Columns, mean and standard deviation over training
seeds (a seed's value is the mean over its classes):

* ``valid``: share of circuits called valid, of the classes that the model recognises;
* ``constant``: share of these whose circuit is a constant function (never valid);
* ``BA``, ``FPR``, ``size``, and knock-outs where they are measured: of the valid circuits;
* adjusted IoU (0 at chance, 1 equal) of the circuits found with those of the same class found by
  another seed of the method, on the other half of the probe, and in the network of the next
  training seed (another initialisation: nothing to share).

    python experiments/benchmarks/circuit_quality.py --data FOLDER [--methods attribution gates]

fedmi takes about 16 s a model and so sees the first training seed only, unless --full.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, stdev

import torch
from torch import nn

from fedcircuit.circuits.checks import Status, Validity
from fedcircuit.circuits.discovery import discover
from fedcircuit.circuits.masking import Ablation
from fedcircuit.circuits.methods import METHOD_NAMES
from fedcircuit.circuits.overlap import Side, paired_overlaps
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings, ModelCircuits, circuits_of_model
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.networks import WeightSparsity, build_model
from fedcircuit.learning.sources import DataSource
from fedcircuit.learning.training import LocalTraining, evaluate, train_local

SPARSITIES = (0.0, 0.95, 0.99)
LOCAL_CLASSES = 3
SLOW = ("fedmi",)
ABLATIONS: dict[str, Ablation] = {"fedmi": "zero"}  # of the others: mean
KNOCK_OUTS = tuple(one.name for one in fields(Validity) if one.name.startswith("selective"))
OF_VALID = {"BA": "balanced_accuracy", "FPR": "fpr", "size": "size"} | {n: n for n in KNOCK_OUTS}
STABILITY = ("IoU other seed", "IoU other half", "IoU other training")
COLUMNS = ("recognised", "valid", "constant", *OF_VALID, *STABILITY)


@dataclass(frozen=True)
class Trained:
    """A network by the name under which it is listed."""

    kind: str
    seed: int
    model: nn.Module


def networks(data: Dataset, sparsity: float, seed: int, epochs: int) -> Iterator[Trained]:
    """The network of all classes, and the one that went on with three of them."""
    cut = WeightSparsity(sparsity) if sparsity else None
    training = LocalTraining(epochs=epochs, batch_size=64, optimizer="adam", lr=1e-3, sparsity=cut)
    model = build_model("simple-cnn", data.input_shape, len(data.class_names), seed=seed)
    chosen = (torch.arange(LOCAL_CLASSES) + seed * LOCAL_CLASSES) % len(data.class_names)
    n_classes, few = len(data.class_names), torch.isin(data.train.labels, chosen)
    train_local(model, data.train, training, n_classes=n_classes, seed=seed)
    yield Trained("global", seed, model)
    local = copy.deepcopy(model)
    train_local(local, data.train.take(few), training, n_classes=n_classes, seed=seed + 1000)
    yield Trained("local", seed, local)


def measures(found: ModelCircuits) -> dict[str, float]:
    """What the checks say of the circuits of one model; NaN where nothing is to be said."""
    checked = [v for v in found.validity if v.status in (Status.VALID, Status.UNDISCOVERED)]
    valid = [v for v in checked if v.status is Status.VALID]
    row = {
        "recognised": float(len(checked)),
        "valid": mean([v.status is Status.VALID for v in checked]),
        "constant": mean([v.constant is True for v in checked]),
    }
    return row | {
        column: mean([float(getattr(v, name)) for v in valid]) for column, name in OF_VALID.items()
    }


def mean(values: Sequence[float]) -> float:
    """Mean of what is known; NaN if nothing is."""
    known = [float(value) for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def adjusted(first: ModelCircuits, side: Side) -> float:
    """Mean adjusted IoU over the classes that the first model recognises."""
    learned = [v.status in (Status.VALID, Status.UNDISCOVERED) for v in first.validity]
    found = first.found & torch.tensor(learned)
    table = paired_overlaps(Side(first.masks, found, first.live), side, first.sites)
    return mean(table.adjusted[:, -1].tolist())


def settings_of(method: str, loss: float | None) -> CircuitSettings:
    """The method with its ablation, and the loss that its size rule allows."""
    options = {} if loss is None else {"size": {"kind": "faithful", "loss": loss}}
    ablation = ABLATIONS.get(method, "mean")
    return CircuitSettings(method=method, method_options=options, ablation=ablation)


def examined(
    one: Trained, settings: CircuitSettings, probe: Probe
) -> tuple[ModelCircuits, dict[str, float]]:
    """The circuits of a network, their checks, and how much of them other searches find."""
    method, ablation = settings.discovery(), settings.ablation
    found = circuits_of_model(one.model, probe, settings, seed=0)
    swapped = Probe(probe.checking, probe.discovery, probe.class_names)
    row = measures(found)
    for column, images, seed in (("IoU other seed", probe, 1), ("IoU other half", swapped, 0)):
        other = discover(one.model, images, method=method, ablation=ablation, seed=seed)
        row[column] = adjusted(found, Side(other.masks, other.found, found.live))
    return found, row


def rows_of(
    trained: Mapping[str, Sequence[Trained]], settings: CircuitSettings, probe: Probe
) -> Iterator[tuple[str, list[dict[str, float]]]]:
    """For each kind of network the measures of every training seed."""
    for kind, models in trained.items():
        pairs = [examined(one, settings, probe) for one in models]
        for index, (found, row) in enumerate(pairs):
            other = pairs[(index + 1) % len(pairs)][0]
            row["IoU other training"] = (
                adjusted(found, Side(other.masks, other.found, other.live))
                if other is not found
                else math.nan
            )
        yield kind, [row for _, row in pairs]


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation over the training seeds where it is known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    digits = 0 if max(known) > 20 else 1 if max(known) > 1.5 else 2
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):.{digits}f}{spread}"


def main() -> None:
    """Print one line for each sparsity, method and kind of network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="root of MNIST, else FEDCIRCUIT_DATA")
    parser.add_argument("--methods", nargs="+", default=["attribution", "fedmi"])
    parser.add_argument("--loss", type=float, help="of the size rule; the default is the rule's")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds")
    parser.add_argument("--full", action="store_true", help="fedmi on every training seed")
    parser.add_argument("--sparsities", type=float, nargs="+", default=SPARSITIES)
    parser.add_argument("--train", type=int, default=5000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    if unknown := set(arguments.methods) - set(METHOD_NAMES):
        parser.error(f"unknown methods {sorted(unknown)}; known: {', '.join(METHOD_NAMES)}")
    torch.set_num_threads(1)
    source = DataSource("mnist", root=arguments.data, train_limit=arguments.train, test_limit=3000)
    data = load_dataset(source, seed=0)
    first = [(data.test.labels == c).nonzero().flatten()[:50] for c in range(len(data.class_names))]
    probe = Probe.split(data.test.take(torch.cat(first)), data.class_names, 0)
    print("mean ± standard deviation over n training seeds")
    print("sparsity | method | network | n | accuracy | " + " | ".join(COLUMNS))
    for sparsity in arguments.sparsities:
        trained: dict[str, list[Trained]] = {}
        for seed in range(arguments.seeds):
            for one in networks(data, sparsity, seed, arguments.epochs):
                trained.setdefault(one.kind, []).append(one)
        accuracy = {
            one.model: evaluate(one.model, data.test, n_classes=len(data.class_names)).accuracy
            for models in trained.values()
            for one in models
        }
        for method in arguments.methods:
            few = 1 if method in SLOW and not arguments.full else arguments.seeds
            chosen = {kind: models[:few] for kind, models in trained.items()}
            for kind, rows in rows_of(chosen, settings_of(method, arguments.loss), probe):
                cells = [cell([accuracy[one.model] for one in chosen[kind]])]
                cells += [cell([row[column] for row in rows]) for column in COLUMNS]
                line = " | ".join(cells)
                print(f"{sparsity:g} | {method} | {kind} | {len(rows)} | {line}", flush=True)


if __name__ == "__main__":
    main()
