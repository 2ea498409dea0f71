"""From a configuration to the parts of a federation: data, partition, probe, model, clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from flwr.clientapp import ClientApp
from torch import nn

from fedcircuit.app.config import StudyConfig
from fedcircuit.app.study.data import (
    PartitionedData,
    PersonalTests,
    dataset_of,
    partition_of,
    personal_tests_of,
    source_of,
    split_probe,
)
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import CircuitSettings
from fedcircuit.clients import ClientCircuits, client_app, memory
from fedcircuit.learning import Weights, derived_seed, get_weights
from fedcircuit.learning.networks import (
    Activation,
    Head,
    Initialisation,
    WeightSparsity,
    build_model,
    sparsified,
)
from fedcircuit.learning.partitions import Partition
from fedcircuit.learning.training import (
    FeatureVariance,
    FedLC,
    FedRS,
    LocalTraining,
    LogitAdjustment,
    Objective,
)
from fedcircuit.samples import Samples

OBJECTIVES: Mapping[str, Callable[[float], Objective]] = {
    "fedlc": FedLC,
    "logit-adjustment": LogitAdjustment,
}


@dataclass(frozen=True)
class ModelFactory:
    """Builds the study's network; small enough to be sent to any worker."""

    name: str
    input_shape: tuple[int, ...]
    n_classes: int
    widths: tuple[int, ...] | None
    init: Initialisation
    seed: int
    activation: Activation = "relu"
    head: Head = "linear"

    def __call__(self) -> nn.Module:
        """A fresh network with the initial weights."""
        return build_model(
            self.name,
            self.input_shape,
            self.n_classes,
            seed=self.seed,
            widths=self.widths,
            init=self.init,
            activation=self.activation,
            head=self.head,
        )


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
    personal: PersonalTests | None

    def initial_weights(self) -> Weights:
        """Weights of round 0; cut to the persistent mask where the study asks for one."""
        sparsity = local_training(self.config).sparsity
        if sparsity is not None and sparsity.mask == "persistent":
            return sparsified(self.model(), sparsity)
        return get_weights(self.model())


def build_study(
    config: StudyConfig, remembered: Mapping[int, memory.Memories] | None = None
) -> Study:
    """Read the data, split them and make the clients.

    Parameters
    ----------
    config
        Of the study.
    remembered
        What clients remembered of the rounds before a resumed run; see ``client_app``.

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
        config.model.init,
        derived_seed(config.seed, "model"),
        config.model.activation,
        config.model.head,
    )
    circuits = None
    if config.circuits.enabled and config.circuits.discover_on == "clients":
        circuits = ClientCircuits(settings=circuit_settings(config))
    data = PartitionedData(source, config.partition, config.seed, config.engine.threads)
    tests = None
    if config.partition.personal_test is not None:
        tests = PersonalTests(data, config.partition.personal_test, config.circuits.probe_per_class)
        personal_tests_of(tests)  # an error now, not in the first round
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
            data,
            local_training(config),
            n_classes=n_classes,
            seed=config.seed,
            circuits=circuits,
            test=tests,
            personal_eval=tests is not None,
            remembered=remembered,
        ),
        personal=tests,
    )


def local_training(config: StudyConfig) -> LocalTraining:
    """How the study's clients train."""
    training = config.training
    own = {"rounds", "sparsity", "fedrs", "objective", "feature_variance"}
    options = training.model_dump(exclude=own)
    objective: Objective | None = None
    if training.objective is not None:
        objective = OBJECTIVES[training.objective.name](training.objective.tau)
    features = training.feature_variance
    return LocalTraining(
        **options,
        sparsity=WeightSparsity(**training.sparsity.model_dump()) if training.sparsity else None,
        fedrs=FedRS(**training.fedrs.model_dump()) if training.fedrs else None,
        objective=objective,
        feature_variance=FeatureVariance(**features.model_dump()) if features else None,
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
        memory_bytes=circuits.memory_mib * 2**20,
    )
