"""Who gets which samples of a study: data set, partition, probe, personal tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from flwr.app import Context

from fedcircuit.app.config import PartitionConfig, StudyConfig
from fedcircuit.circuits.probes import Probe
from fedcircuit.learning import derived_seed
from fedcircuit.learning.data import Dataset, load_dataset
from fedcircuit.learning.partitions import (
    Partition,
    from_partitioner,
    natural,
    partitioner,
    personal_test,
)
from fedcircuit.learning.partitions import partition as partitions
from fedcircuit.learning.sources import Array, DataSource
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
    if config.kind == "natural":
        assert config.column is not None
        return natural(_column(dataset, config.column), config.column, config.clients, seed=seed)
    assert config.clients is not None
    if config.kind == "iid":
        return partitions.iid(labels, config.clients, seed=seed)
    if config.kind == "sorted":
        return partitions.label_sorted(labels, config.clients, seed=seed)
    if config.kind == "flwr-datasets":
        assert config.partitioner is not None
        drawn = partitioner(config.partitioner, config.options, config.clients, seed=seed)
        made = from_partitioner(drawn, labels, dataset.columns)
        return _for_clients(made, config.clients)
    assert config.alpha is not None
    if config.kind == "low-data":
        assert config.samples is not None
        return partitions.low_data(
            labels,
            config.clients,
            n_classes=n_classes,
            alpha=config.alpha,
            samples=config.samples,
            seed=seed,
        )
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


def _column(dataset: Dataset, name: str) -> Array:
    if name not in dataset.columns:
        raise ValueError(
            f"the data set {dataset.name!r} was read without a column {name!r} "
            f"(partition.column); parquet, csv, npz and leaf have columns, and from Python they "
            f"are read with DataSource(columns=({name!r},))"
        )
    return dataset.columns[name]


def _for_clients(partition: Partition, n_clients: int) -> Partition:
    if len(partition.indices) != n_clients:
        raise ValueError(
            f"{partition.kind} makes {len(partition.indices)} partitions, partition.clients is "
            f"{n_clients}; make them agree"
        )
    return partition


def source_of(config: StudyConfig) -> DataSource:
    """Where the configuration's data come from, with the column that the partition is made by."""
    data, asked = config.data.model_dump(), config.partition.column
    by = config.partition.options.get("partition_by") if asked is None else asked
    if isinstance(by, str) and by != "label" and by not in data["columns"]:
        data["columns"] = (*data["columns"], by)
    return DataSource(**data)


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
class PersonalTests:
    """The test samples of the client that a Flower context describes: none are in the probe."""

    data: PartitionedData
    samples: int
    probe_per_class: int | None

    def __call__(self, context: Context) -> Samples:
        """Test samples of ``context.node_config["partition-id"]``."""
        test, indices = personal_tests_of(self)
        return test.take(torch.from_numpy(indices[int(context.node_config["partition-id"])]))


@lru_cache(maxsize=2)
def personal_tests_of(tests: PersonalTests) -> tuple[Samples, tuple[partitions.Labels, ...]]:
    """Test samples outside the probe, and every client's positions among them."""
    data = tests.data
    dataset = dataset_of(data.source, data.seed)
    _, test = split_probe(dataset, tests.probe_per_class, data.seed)
    return test, personal_test(
        partition_of(data.source, data.partition, data.seed),
        dataset.train.labels.numpy(),
        test.labels.numpy(),
        samples=tests.samples,
        n_classes=len(dataset.class_names),
        seed=derived_seed(data.seed, "personal-test"),
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
