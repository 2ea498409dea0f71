"""Bytes on disk of one recorded round beside dense float32 weights of the same models.

    python experiments/benchmarks/record_size.py

A round of 20 clients with SimpleCNN (104,202 parameters) at weight sparsity 0.99 and the average
of their weights, circuits of ten classes in all 21 models with every table and mask the circuit
observer leaves, and the accuracy of the global model. All of it counts: the safetensors file and
the line in rounds.jsonl. Dense is 4 bytes for every parameter of the 21 models. The target is at
most 1/20; the exit code is 1 if it is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
from torch import nn

from fedcircuit.circuits.checks import Validity
from fedcircuit.learning import Weights, get_weights, set_weights
from fedcircuit.learning.networks import WeightSparsity, build_model, density, sparsified
from fedcircuit.observers.circuits import OVERLAP_COLUMNS, SCORE_COLUMNS, SWAP_COLUMNS, rounded
from fedcircuit.records.rounds import Cell, ClientRecord, Observation, RoundRecord, Storage, Table
from fedcircuit.records.runs import Run, RunStore

N_CLASSES = 10
TARGET = 1 / 20
SITES = ("0", "3", "6")  # the convolutions of SimpleCNN
UNITS = (32, 64, 128)


def network(seed: int) -> nn.Module:
    """SimpleCNN on 28x28 images."""
    return build_model("simple-cnn", (1, 28, 28), N_CLASSES, seed=seed)


def client_weights(seed: int, sparsity: WeightSparsity) -> Weights:
    """Sparse weights of one client: its own values on a support of its own."""
    rng = np.random.default_rng(seed)
    dense = {
        name: (values + 0.05 * rng.standard_normal(values.shape)).astype(np.float32)
        for name, values in get_weights(network(0)).items()
    }
    model = network(0)
    set_weights(model, dense)
    return sparsified(model, sparsity)


def average(clients: list[Weights]) -> Weights:
    """Mean of the clients' weights: its support is the union of theirs."""
    return {
        name: np.mean([client[name] for client in clients], axis=0, dtype=np.float64).astype(
            np.float32
        )
        for name in clients[0]
    }


class Measured:
    """Made-up cells: rates of 25 samples, and floats with all their digits."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def rate(self) -> float:
        """A share of 25 samples."""
        return float(self._rng.integers(26)) / 25

    def number(self) -> float:
        """A float with all its digits."""
        return float(self._rng.random())

    def size(self) -> int:
        """A number of units."""
        return int(self._rng.integers(1, 60))


def circuit_tables(models: tuple[str, ...], measured: Measured) -> dict[str, Table]:
    """The tables of the circuit observer for these models, rounded as it rounds them."""
    rate, number, size = measured.rate, measured.number, measured.size
    classes = range(N_CLASSES)
    nothing = float("nan")  # minimality and stability are measured on request only
    validity: list[tuple[Cell, ...]] = [
        (model, index, "valid", "", size(), rate(), number(), rate(), number(), number(), number(),
         number(), number(), rate(), number(), number(), number(), number(), number(), number(),
         nothing, nothing, False)
        for model in models for index in classes
    ]  # fmt: skip
    function: list[tuple[Cell, ...]] = [
        (client, index, direction, rate(), number(), number(), number())
        for client in models[1:]
        for index in classes
        for direction in ("local_in_global", "global_in_local")
    ]
    overlap: list[tuple[Cell, ...]] = [
        (client, index, layer, number(), number(), number(), number(), size(), size(), size(), 224,
         number(), number(), number())
        for client in models[1:] for index in classes for layer in ("all", *SITES)
    ]  # fmt: skip
    swap: list[tuple[Cell, ...]] = [
        (client, index, layer, number(), number(), N_CLASSES - 1)
        for client in models[1:]
        for index in classes
        for layer in ("all", *SITES)
    ]
    verdicts: list[tuple[Cell, ...]] = [
        (client, index, "degraded", f"keeps {rate():.2f} of its recall, overlap above chance")
        for client in models[1:]
        for index in classes
    ]
    seconds = ("discovery", "checks", "function", "overlap")
    tables = {
        "sites": Table(
            ("site", "n_units", "live"),
            tuple((name, n, n - 3) for name, n in zip(SITES, UNITS, strict=True)),
        ),
        "models": Table(("model",), tuple((model,) for model in models)),
        "validity": Table(
            ("model", "class", *(field.name for field in fields(Validity))),
            tuple(validity),
        ),
        "function": Table(
            ("client", "class", "direction", "recall", "fpr", "balanced_accuracy", "normalised"),
            tuple(function),
        ),
        "overlap": Table(
            ("client", "class", *OVERLAP_COLUMNS, "q_value", *SCORE_COLUMNS),
            tuple(overlap),
        ),
        "class_swap": Table(SWAP_COLUMNS, tuple(swap)),
        "verdicts": Table(("client", "class", "verdict", "reason"), tuple(verdicts)),
        "skipped": Table(("client", "reason")),
        "seconds": Table(("part", "seconds"), tuple((part, number()) for part in seconds)),
    }
    return {name: rounded(table) for name, table in tables.items()}


def example_round(n_clients: int, sparsity: float) -> RoundRecord:
    """A round of clients with sparse weights, fully observed."""
    settings = WeightSparsity(target=sparsity)
    clients = [client_weights(1 + seed, settings) for seed in range(n_clients)]
    models = ("global", *(str(index) for index in range(n_clients)))
    measured, rng = Measured(0), np.random.default_rng(0)
    masks = rng.random((len(models), N_CLASSES, sum(UNITS))) < 0.2
    accuracy = Table(
        ("model", "class", "recall", "fpr", "n", "loss"),
        tuple(("global", c, measured.rate(), measured.number(), 950, float("nan"))
              for c in range(-1, N_CLASSES)),
    )  # fmt: skip
    return RoundRecord(
        round=0,
        weights=average(clients),
        clients=tuple(
            ClientRecord(
                str(index),
                3000,
                weights,
                {"train-loss": measured.number(), "train-accuracy": measured.number()},
                {"partition-id": index, "version": "0.1.0", "class-counts": [300] * N_CLASSES},
            )
            for index, weights in enumerate(clients)
        ),
        metrics={"train-loss": measured.number()},
        observations={
            "circuits": Observation(
                circuit_tables(models, measured),
                {
                    "masks": np.packbits(masks, axis=-1),
                    "found": masks.any(axis=-1),
                    "live": rng.random((len(models), sum(UNITS))) < 0.95,
                },
            ),
            "evaluation": Observation({"accuracy": accuracy}),
        },
        seconds={"train": 12.5, "aggregate": 0.01, "observe:circuits": 5.25},
    )


def main() -> int:
    """Record the round, weigh it, and fail if it is too heavy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--sparsity", type=float, default=0.99)
    parser.add_argument("--updates", choices=["full", "delta-fp16", "none"], default="full")
    options = parser.parse_args()
    record = example_round(options.clients, options.sparsity)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        with RunStore.create(path, {}, Storage(options.updates)) as store:
            store.append(record)
        arrays = (path / "rounds" / "0000.safetensors").stat().st_size
        line = (path / "rounds.jsonl").stat().st_size
        same = options.updates != "full" or all(
            np.array_equal(values, client.weights[name])
            for client in record.clients
            for name, values in Run.load(path).client_weights(0, client.client).items()
        )
    one = sum(values.nbytes for values in record.weights.values())
    dense = one * (options.clients + 1)
    parts = [density(record.clients[0].weights), density(record.weights)]
    print(f"density of a client's weights by tensor:  {_percent(parts[0])}")
    print(f"density of the average's weights:         {_percent(parts[1])}")
    print(f"dense float32, {options.clients + 1} models: {dense:>10,} bytes")
    print(f"safetensors file:        {arrays:>10,} bytes")
    print(f"line in rounds.jsonl:    {line:>10,} bytes")
    ratio = (arrays + line) / dense
    print(f"round on disk: {arrays + line:,} bytes, 1/{1 / ratio:.1f} of dense (target 1/20)")
    print(f"client weights read back exactly: {same}" if options.updates == "full" else "")
    return int(ratio > TARGET or not same)


def _percent(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


if __name__ == "__main__":
    sys.exit(main())
