"""What a study says: the schema of the YAML files, checked before anything runs."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from fedcircuit.aggregation import LipsSettings
from fedcircuit.analysis.estimators import (
    INPUT_ESTIMATORS,
    LABEL_ESTIMATORS,
    InformationSettings,
)
from fedcircuit.app.config.data import DataConfig, PartitionConfig, Section
from fedcircuit.app.config.rules import require_supplied
from fedcircuit.app.config.strategy import StrategyConfig
from fedcircuit.app.config.trackers import TrackerConfig, require_different
from fedcircuit.app.config.training import ModelConfig, TrainingConfig
from fedcircuit.circuits.masking import DEFAULT_BYTES
from fedcircuit.circuits.methods import METHOD_NAMES
from fedcircuit.circuits.round import CircuitSettings

if TYPE_CHECKING:
    MethodName = str
    InputEstimator = str
    LabelEstimator = str
else:  # whatever stands in the lists of those who know them
    MethodName = Literal[METHOD_NAMES]
    InputEstimator, LabelEstimator = Literal[INPUT_ESTIMATORS], Literal[LABEL_ESTIMATORS]


class CircuitsConfig(Section):
    """What is looked for after every aggregation."""

    enabled: bool = Field(True, description="False records weights and accuracy only.")
    method: MethodName = Field("attribution", description="Discovery method.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the method.")
    ablation: Literal["mean", "zero", "resample"] = Field(
        "mean",
        description="What an ablated unit becomes, in discovery and in every check: its mean over "
        "the classes, nothing, or its activation on a random sample of another class.",
    )
    discover_on: Literal["server", "clients"] = Field(
        "server", description="On the server's probe, or on every client's own data."
    )
    probe_per_class: int | None = Field(
        None,
        ge=4,
        description="Test images of each class kept for the probe; half finds circuits, half "
        "checks them, none is used for accuracy. Left out: 50, or half of the rarest class.",
    )
    controls: int | None = Field(
        None, ge=1, description="Random circuits of equal size for each check; left out: default."
    )
    minimality: bool = Field(
        CircuitSettings.minimality,
        description="Measure the share of each circuit's units that it cannot do without; "
        "the most costly check.",
    )
    stability: bool = Field(
        CircuitSettings.stability,
        description="Search twice, on other samples with another seed; a circuit that the second "
        "search does not confirm is not valid. Doubles the cost of discovery.",
    )
    ceiling: bool = Field(
        False,
        description="Search the global model a second time, on other samples with another seed: "
        "no overlap can be expected to exceed what the two searches share.",
    )
    memory_mib: int = Field(
        DEFAULT_BYTES // 2**20,
        ge=1,
        description="MiB (2**20 bytes) that the search and the checks of one model may hold at a "
        "time, beside the model, the probe and the results. It changes these by rounding at most.",
    )
    every: int = Field(1, ge=1, description="Look at every n-th round.")
    max_clients: int | None = Field(
        None, gt=0, description="Look at a reproducible sample of this many clients."
    )
    time_budget: float | None = Field(
        None, gt=0, description="Seconds a round may be looked at; who is left out is named."
    )


class InertiaConfig(Section):
    """Which layers still move, measured after every aggregation (arXiv 2506.00932)."""

    enabled: bool = Field(True, description="False leaves it out; it can be had later from disk.")
    snapshot: int = Field(
        3, ge=1, description="Round after which drift and cosine take their reference."
    )


class InformationConfig(Section):
    """What each layer keeps of input and label: the information plane (arXiv 1911.07652)."""

    enabled: bool = Field(
        False, description="Measure it after averaging; it can be had later from disk."
    )
    every: int = Field(1, ge=1, description="Look at every n-th round.")
    rounds: Literal["logarithmic"] | tuple[int, ...] | None = Field(
        None,
        description="Look at these rounds instead of every n-th one; logarithmic: ten for each "
        "power of ten, and the last. For averaging after every step.",
    )
    pool: int = Field(
        2000,
        ge=2,
        description="Test images that all models are measured on, none of them in the probe; all "
        "that are left where there are fewer.",
    )
    max_clients: int | None = Field(
        None, gt=0, description="Look at a reproducible sample of this many clients."
    )
    inputs: InputEstimator = Field(InformationSettings.inputs, description="Estimator of I(X;T).")
    labels: LabelEstimator = Field(InformationSettings.labels, description="Estimator of I(T;Y).")
    unit: Literal["bits", "nats"] = Field("bits", description="Unit of the estimates.")
    bins: int = Field(
        InformationSettings.bins, ge=2, description="Bins of binned-count and binned-range."
    )
    bin_width: float = Field(
        InformationSettings.bin_width, gt=0, description="Width of a bin of binned-width."
    )
    bin_range: tuple[float, float] = Field(
        InformationSettings.bin_range, description="Lowest and highest edge of binned-range."
    )
    beta: float = Field(
        InformationSettings.beta,
        gt=0,
        description="Kolchinsky-Tracey: noise as a share of the layer's own scale; with less, wide "
        "layers are saturated.",
    )
    noise_variance: float | None = Field(
        None,
        gt=0,
        description="Kolchinsky-Tracey: the same noise for all layers, in place of beta.",
    )
    permutations: int | None = Field(
        None,
        ge=0,
        description="Permutations of the labels, to see what an estimator of I(T;Y) gives without "
        "information. Left out: 10 for binned and Kolchinsky-Tracey, none for others.",
    )
    spatial: Literal["mean", "flat"] = Field(
        "mean", description="Convolutions: each channel's mean over positions, or all positions."
    )
    output: bool = Field(False, description="Look at the logits as well.")

    @model_validator(mode="after")
    def _parts_fit(self) -> InformationConfig:
        if self.rounds is not None and self.every != 1:
            raise ValueError("rounds and every exclude each other: give one of them")
        if isinstance(self.rounds, tuple) and min(self.rounds, default=0) < 1:
            raise ValueError(f"rounds must be one or more numbers >= 1, got {list(self.rounds)}")
        self.settings()  # what contradicts itself
        return self

    def settings(self) -> InformationSettings:
        """Estimators and their settings."""
        names = {field.name for field in fields(InformationSettings)}
        return InformationSettings(**self.model_dump(include=names))


class StorageConfig(Section):
    """What a run keeps on disk."""

    updates: Literal["full", "delta-fp16", "none"] = Field(
        "full", description="Clients' weights: exact, differences in half precision, or none."
    )
    scores: bool = Field(False, description="Keep the discovery scores of every unit too.")


class EngineConfig(Section):
    """What runs the clients."""

    name: Literal["in-process", "ray"] = Field("in-process", description="Engine.")
    cpus_per_client: float = Field(1.0, gt=0, description="Ray: processors of one client.")
    gpus_per_client: float = Field(0.0, ge=0, description="Ray: GPUs of one client.")
    threads: int = Field(1, ge=1, description="Torch threads in each process.")


class StudyConfig(Section):
    """One federation, from data to report."""

    name: str = Field(
        "study",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="Name of the run's folder.",
    )
    seed: int = Field(0, ge=0, description="The one seed; 0 is a seed like any other.")
    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="iid", clients=5)
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    strategy: StrategyConfig = StrategyConfig()
    circuits: CircuitsConfig = CircuitsConfig()
    inertia: InertiaConfig = InertiaConfig()
    information: InformationConfig = InformationConfig()
    storage: StorageConfig = StorageConfig()
    trackers: tuple[TrackerConfig, ...] = Field(
        (), description="Trackers of experiments that are told of every round: `[tensorboard]`."
    )
    engine: EngineConfig = EngineConfig()

    @property
    def n_clients(self) -> int | None:
        """Number of clients in the federation; None where the data say it (kind natural)."""
        return (
            self.partition.clients
            if self.partition.classes is None
            else len(self.partition.classes)
        )

    @model_validator(mode="after")
    def _parts_fit(self) -> StudyConfig:
        require_different(self.trackers)
        lips = self.strategy.lips
        if lips is not None:
            if lips.personalised_eval and self.partition.personal_test is None:
                raise ValueError(
                    "strategy.lips.personalised_eval needs partition.personal_test, the number of "
                    "test images of each client, such as 400"
                )
            LipsSettings(**lips.model_dump(exclude={"layers"}))  # what contradicts itself
        by_clients = self.circuits.enabled and self.circuits.discover_on == "clients"
        require_supplied(
            self.strategy.rules, self.training.model_dump(), circuits_by_clients=by_clients
        )
        return self
