"""From a configuration to the parts of a federation: data, partition, probe, model, clients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from flwr.app import Context
from flwr.clientapp import ClientApp
from torch import nn

from fedcircuit.app.config import PartitionConfig, StudyConfig
from fedcircuit.circuits.probe import Probe
from fedcircuit.circuits.settings import CircuitSettings
from fedcircuit.clients.app import ClientCircuits, client_app
from fedcircuit.learning import partitions
from fedcircuit.learning.data import Dataset, DataSource, load_dataset
from fedcircuit.learning.flwr_partitions import from_partitioner, partitioner
from fedcircuit.learning.models import build_model
from fedcircuit.learning.objectives import FedRS
from fedcircuit.learning.partitions import Partition
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.sparsity import WeightSparsity, sparsified
from fedcircuit.learning.training import LocalTraining
from fedcircuit.learning.weights import Weights, get_weights
from fedcircuit.samples import Samples


@lru_cache(maxsize=2)
def dataset_of(source: DataSource, seed: int) -> Dataset:
    """The data set, read once in every process."""
    return load_dataset(source, seed=seed)


@lru_cache(maxsize=2)
def partition_of(source: DataSource, config: PartitionConfig, seed: int) -> Partition:
    """Who holds what; the same in every process for the same seed."""
    dataset = dataset_of(source, seed)
    return make_partition(config, dataset, derived_seed(seed, "partition"))


def make_partition(config: PartitionConfig, dataset: Dataset, seed: int) -> Partition:
    """The partition of the training labels that a configuration asks for."""
    labels, n_classes = dataset.train.labels.numpy(), len(dataset.class_names)
    if config.kind == "classes":
        assert config.classes is not None
        return partitions.by_classes(labels, config.classes, n_classes=n_classes)
    assert config.clients is not None
    if config.kind == "iid":
        return partitions.iid(labels, config.clients, seed=seed)
    if config.kind == "flwr-datasets":
        assert config.partitioner is not None
        drawn = partitioner(config.partitioner, config.options, config.clients, seed=seed)
        return _for_clients(from_partitioner(drawn, labels), config.clients)
    assert config.alpha is not None
    if config.kind == "dirichlet":
        return partitions.dirichlet(
            labels,
            config.clients,
            n_classes=n_classes,
            alpha=config.alpha,
            min_samples=config.min_samples,
            seed=seed,
        )
    return partitions.quantity_skew(
        labels, config.clients, alpha=config.alpha, min_samples=config.min_samples, seed=seed
    )


def _for_clients(partition: Partition, n_clients: int) -> Partition:
    if len(partition.indices) != n_clients:
        raise ValueError(
            f"{partition.kind} makes {len(partition.indices)} partitions, partition.clients is "
            f"{n_clients}; make them agree"
        )
    return partition


def source_of(config: StudyConfig) -> DataSource:
    """Where the configuration's data come from."""
    return DataSource(**config.data.model_dump())


@dataclass(frozen=True)
class ModelFactory:
    """Builds the study's network; small enough to be sent to any worker."""

    name: str
    input_shape: tuple[int, ...]
    n_classes: int
    widths: tuple[int, ...] | None
    seed: int

    def __call__(self) -> nn.Module:
        """A fresh network with the initial weights."""
        return build_model(
            self.name, self.input_shape, self.n_classes, seed=self.seed, widths=self.widths
        )


@dataclass(frozen=True)
class PartitionedData:
    """The samples of the client that a Flower context describes."""

    source: DataSource
    partition: PartitionConfig
    seed: int
    threads: int

    def __call__(self, context: Context) -> Samples:
        """Training samples of ``context.node_config["partition-id"]``."""
        torch.set_num_threads(self.threads)  # every worker process starts with all cores
        client = int(context.node_config["partition-id"])
        dataset = dataset_of(self.source, self.seed)
        partition = partition_of(self.source, self.partition, self.seed)
        return dataset.train.take(torch.from_numpy(partition.indices[client]))


@dataclass(frozen=True)
class Study:
    """All parts of a federation, ready to run."""

    config: StudyConfig
    class_names: tuple[str, ...]
    partition: Partition
    train_labels: torch.Tensor
    probe: Probe
    test: Samples
    model: ModelFactory
    app: ClientApp

    def initial_weights(self) -> Weights:
        """Weights of round 0; cut to the persistent mask where the study asks for one."""
        weights: Weights = get_weights(self.model())
        sparsity = local_training(self.config).sparsity
        if sparsity is not None and sparsity.mask == "persistent":
            weights = sparsified(weights, sparsity)
        return weights


def build_study(config: StudyConfig) -> Study:
    """Read the data, split them and make the clients.

    Raises
    ------
    ValueError, OSError
        If data are missing or do not allow the partition or the probe; nothing has run yet.
    """
    source = source_of(config)
    dataset = dataset_of(source, config.seed)
    probe, test = split_probe(dataset, config.circuits.probe_per_class, config.seed)
    n_classes = len(dataset.class_names)
    model = ModelFactory(
        config.model.name,
        dataset.input_shape,
        n_classes,
        config.model.widths,
        derived_seed(config.seed, "model"),
    )
    circuits = None
    if config.circuits.enabled and config.circuits.discover_on == "clients":
        circuits = ClientCircuits(settings=circuit_settings(config))
    return Study(
        config=config,
        class_names=dataset.class_names,
        partition=partition_of(source, config.partition, config.seed),
        train_labels=dataset.train.labels,
        probe=probe,
        test=test,
        model=model,
        app=client_app(
            model,
            PartitionedData(source, config.partition, config.seed, config.engine.threads),
            local_training(config),
            n_classes=n_classes,
            seed=config.seed,
            circuits=circuits,
        ),
    )


_PROBE_PER_CLASS = 50


def split_probe(dataset: Dataset, asked: int | None, seed: int) -> tuple[Probe, Samples]:
    """The probe, and the test samples that are left to measure accuracy on.

    Raises
    ------
    ValueError
        If a class has no more test samples than are asked for.
    """
    labels = dataset.test.labels
    rarest = int(dataset.test.counts(len(dataset.class_names)).min())
    per_class = min(_PROBE_PER_CLASS, rarest // 2) if asked is None else asked
    generator = torch.Generator().manual_seed(derived_seed(seed, "probe"))
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for index, name in enumerate(dataset.class_names):
        members = (labels == index).nonzero().flatten()
        if len(members) <= per_class:
            raise ValueError(
                f"circuits.probe_per_class is {per_class}, but class {name!r} of {dataset.name} "
                f"has {len(members)} test samples; some must be left to measure accuracy: use a "
                "smaller probe_per_class or a larger data.test_limit"
            )
        order = torch.randperm(len(members), generator=generator)
        chosen[members[order[:per_class]]] = True
    probe = Probe.split(
        dataset.test.take(chosen), dataset.class_names, derived_seed(seed, "probe-halves")
    )
    return probe, dataset.test.take(~chosen)


def local_training(config: StudyConfig) -> LocalTraining:
    """How the study's clients train."""
    training = config.training
    options = training.model_dump(exclude={"rounds", "sparsity", "fedrs"})
    return LocalTraining(
        **options,
        sparsity=WeightSparsity(**training.sparsity.model_dump()) if training.sparsity else None,
        fedrs=FedRS(**training.fedrs.model_dump()) if training.fedrs else None,
    )


def circuit_settings(config: StudyConfig) -> CircuitSettings:
    """How the study's circuits are found and checked."""
    circuits = config.circuits
    return CircuitSettings(
        method=circuits.method,
        method_options=circuits.options,
        ablation=circuits.ablation,
        controls=CircuitSettings.controls if circuits.controls is None else circuits.controls,
        minimality=circuits.minimality,
        stability=circuits.stability,
    )
