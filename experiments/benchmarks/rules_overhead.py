"""What each rule costs beside one FedAvg aggregation, and LIVAR's states beside local training.

    OMP_NUM_THREADS=1 python experiments/benchmarks/rules_overhead.py --data FOLDER

Ten clients of MNIST with a SimpleCNN (104,202 weights), Dirichlet(0.3), 1,500 images in all and one
epoch: what a rule costs does not depend on these. The reference, in the same process on one thread,
is Flower's own FedAvg averaging the replies of the same clients (``aggregate_train``); a rule is
timed on the same updates after it. Rules that fit or repair on a probe take that of a study, 250
images. Then the ten clients train again, with one of LIVAR's states measured or none, in turn.
Processor seconds: medians over the repeats, and between brackets their least and largest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from parts.recorded_round import TrainedRound, averaged, trained_round

from fedcircuit.aggregation import NO_STATE, Setting, Update, Updates
from fedcircuit.aggregation.named import RULE_NAMES, rule
from fedcircuit.app.config import load_study
from fedcircuit.app.engines import InProcessGrid, quiet_flower
from fedcircuit.app.study import dataset_of, source_of
from fedcircuit.circuits.sites import find_sites
from fedcircuit.learning import Weights, derived_seed, set_weights
from fedcircuit.learning.training import FeatureVariance, LocalTraining, train_local

STUDY = Path(__file__).parents[1] / "circuit_preservation/mnist-dirichlet.yaml"
RULES: tuple[tuple[str, dict[str, object]], ...] = (
    *((name, {}) for name in RULE_NAMES if name not in ("covered-average", "scaffold")),
    ("weight-matching", {"repair": True}),  # by itself only where units have moved
    ("covered-average", {"lam": 0.5}),  # does nothing by default
    ("scaffold", {"lr": 0.9}),  # gives the average by default
)
STATES = {
    "no state": {},
    "feature variance": {"feature_variance": FeatureVariance()},
    "path importance": {"path_importance": True},
    "both": {"feature_variance": FeatureVariance(), "path_importance": True},
}


def main() -> None:
    """A row for every rule, then one for every state."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of torchvision's MNIST")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--images", type=int, default=1500, help="of all clients")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keys = (
        f"data.root={options.data}",
        f"data.train_limit={options.images}",
        f"partition.clients={options.clients}",
        "training.epochs=1",
        "training.sparsity=null",
    )
    round_ = trained_round(load_study(STUDY, list(keys)))
    with quiet_flower():
        rules(round_, options.repeats)
    states(round_, options.repeats)


def rules(round_: TrainedRound, repeats: int) -> None:
    """Print the aggregation's seconds and each rule's."""
    aggregate = FedAvg(fraction_evaluate=0.0)
    replies = replies_of(round_, aggregate)
    reference = seconds_of(lambda: aggregate.aggregate_train(1, replies), max(15, repeats))
    known = statistics.median(reference)
    print(f"FedAvg of {len(replies)} replies: {spread(reference)} s\n")
    print("| rule | s | of the aggregation |")
    print("|---|---|---|")
    updates, setting, average = given(round_)
    for name, options in RULES:
        made = rule(name, **options)
        found = seconds_of(lambda made=made: made(updates, average, setting, NO_STATE), repeats)
        label = ", ".join([name, *(f"{key} {value}" for key, value in options.items())])
        share = statistics.median(found) / known
        print(f"| {label} | {spread(found)} | {share:,.0%} |", flush=True)


def states(round_: TrainedRound, repeats: int) -> None:
    """Print what local training takes with and without each of LIVAR's states, in turn."""
    study, n_classes = round_.study, len(round_.study.class_names)
    data = dataset_of(source_of(study.config), study.config.seed)
    clients = [data.train.take(torch.from_numpy(part)) for part in study.partition.indices]
    model = study.model()

    def train(training: LocalTraining) -> None:
        for index, samples in enumerate(clients):
            set_weights(model, round_.before)
            seed = derived_seed(study.config.seed, 1, index)
            train_local(model, samples, training, n_classes=n_classes, seed=seed)

    kinds = {
        name: LocalTraining(epochs=1, batch_size=64, optimizer="adam", lr=1e-3, **state)
        for name, state in STATES.items()
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, training in kinds.items():
            found[name] += seconds_of(lambda training=training: train(training), 1)
    plain = found["no state"]
    print("\n| local training with | s | more than without, of each repeat |")
    print("|---|---|---|")
    for name, seconds in found.items():
        more = [one / other - 1 for one, other in zip(seconds, plain, strict=True)]
        low, middle, high = min(more), statistics.median(more), max(more)
        print(f"| {name} | {spread(seconds)} | {middle:.0%} ({low:.0%} to {high:.0%}) |")


def replies_of(round_: TrainedRound, strategy: FedAvg) -> list[Message]:
    """The clients' replies as Flower's strategies take them."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = round_.clients[int(context.node_config["partition-id"])]
        metrics = MetricRecord({"num-examples": client.num_examples})
        content = RecordDict({"arrays": arrays_of(client.weights), "metrics": metrics})
        return Message(content, reply_to=message)

    grid = InProcessGrid(app, len(round_.clients))
    sent = strategy.configure_train(1, arrays_of(round_.before), ConfigRecord(), grid)
    return list(grid.send_and_receive(sent))


def arrays_of(weights: Weights) -> ArrayRecord:
    """Weights as they are sent."""
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in weights.items()})


def given(round_: TrainedRound) -> tuple[Updates, Setting, dict[str, np.ndarray]]:
    """What rules take, with random circuits of a third of the units."""
    clients = tuple(
        Update(client.client, client.num_examples, client.weights, dict(client.extra))
        for client in round_.clients
    )
    study, model = round_.study, round_.study.model()
    units = sum(site.n_units for site in find_sites(model, study.probe.checking.inputs[:2]))
    shape = len(clients), len(study.class_names), units
    masks = np.random.default_rng(0).random(shape) < 1 / 3
    setting = Setting(len(study.class_names), model, study.probe.discovery, masks)
    return Updates(1, round_.before, clients), setting, averaged(round_)


def seconds_of(work: Callable[[], object], repeats: int) -> list[float]:
    """Processor seconds of each repeat."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return found


def spread(seconds: Sequence[float]) -> str:
    """Median, least and largest."""
    middle = statistics.median(seconds)
    return f"{middle:.4f} ({min(seconds):.4f} to {max(seconds):.4f})"


if __name__ == "__main__":
    main()
