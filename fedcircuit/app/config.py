"""What a study says: the schema of the YAML files, checked before anything runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of a configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Which data set, and how much of it."""

    name: Literal[
        "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "parquet", "image-folder"
    ] = Field("digits", description="Data set; digits needs no files and no network.")
    root: str | None = Field(
        None,
        description="Folder of the data; else the environment variable FEDCIRCUIT_DATA, "
        "else the default cache folder.",
    )
    train_limit: int | None = Field(
        None, gt=0, description="Use a seeded, class-stratified subset of this many images."
    )
    test_limit: int | None = Field(None, gt=0, description="The same for the test images.")
    download: bool = Field(False, description="Allow torchvision to download what is missing.")


class PartitionConfig(Section):
    """Who holds what."""

    kind: Literal["iid", "classes", "dirichlet", "quantity", "flwr-datasets"] = Field(
        "iid",
        description="iid: equal random parts; classes: by class map; dirichlet: label skew; "
        "quantity: size skew; flwr-datasets: any partitioner of that package "
        "(`pip install 'fedcircuit[data]'`).",
    )
    clients: int | None = Field(
        None, gt=0, description="Number of clients; not with classes, where the map says it."
    )
    classes: tuple[tuple[int, ...], ...] | None = Field(
        None,
        description="For kind classes: the classes of each client; a shared class is "
        "given in full to each of its owners.",
    )
    alpha: float | None = Field(
        None, gt=0, description="For dirichlet and quantity: concentration; smaller is more skew."
    )
    min_samples: int = Field(10, ge=1, description="Redraw until every client has this many.")
    partitioner: str | None = Field(
        None, description="For flwr-datasets: the class, such as PathologicalPartitioner."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="For flwr-datasets: the class's arguments besides the number of clients, "
        "the label column and the seed, such as num_classes_per_partition.",
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _fits_kind(self) -> PartitionConfig:
        if self.kind == "classes":
            if not self.classes:
                raise ValueError("kind 'classes' needs classes, such as [[0, 1, 2], [3, 4, 5]]")
            if self.clients not in (None, len(self.classes)):
                raise ValueError(
                    f"clients is {self.clients}, but classes lists {len(self.classes)} clients; "
                    "leave clients out"
                )
        elif self.classes is not None:
            raise ValueError(f"classes belongs to kind 'classes', the kind is {self.kind!r}")
        if self.kind != "classes" and self.clients is None:
            raise ValueError(f"kind {self.kind!r} needs clients, the number of clients")
        if self.kind in ("dirichlet", "quantity") and self.alpha is None:
            raise ValueError(f"kind {self.kind!r} needs alpha > 0, such as 0.3")
        if self.kind == "flwr-datasets" and self.partitioner is None:
            raise ValueError(
                "kind 'flwr-datasets' needs partitioner, such as PathologicalPartitioner"
            )
        if self.kind != "flwr-datasets" and (self.partitioner is not None or self.options):
            raise ValueError(
                f"partitioner and options belong to kind 'flwr-datasets', the kind is {self.kind!r}"
            )
        return self


class ModelConfig(Section):
    """Which network."""

    name: Literal["simple-cnn", "mlp", "resnet"] = Field("simple-cnn", description="Architecture.")
    widths: tuple[int, ...] | None = Field(
        None, description="Units of each hidden layer; left out: the architecture's own."
    )


class SparsityConfig(Section):
    """Weight sparsity of local training: magnitude top-k per tensor."""

    target: Share = Field(0.99, description="Share of zero weights at the end of every round.")
    anneal: Share = Field(
        0.5, description="Share of a round's steps over which sparsity grows from 0 to target."
    )
    min_alive: int = Field(4, ge=0, description="Weights that every conv filter keeps.")
    mask: Literal["magnitude", "persistent"] = Field(
        "magnitude", description="persistent: one mask for the whole federation, never regrown."
    )


class FedRSConfig(Section):
    """Scaling of the logits of classes that a client does not hold (Li and Zhan, KDD 2021)."""

    kind: Literal["binary", "soft"] = Field("binary", description="How the scale is made.")
    alpha: Share = Field(0.5, description="Scale of a missing class.")


class TrainingConfig(Section):
    """How long and how every client trains."""

    rounds: int = Field(10, ge=1, description="Rounds of the federation.")
    epochs: int = Field(1, ge=1, description="Local epochs in a round.")
    batch_size: int = Field(64, ge=1, description="Samples of a step.")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="Fresh in every round.")
    lr: float = Field(0.1, gt=0, description="Learning rate.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimiser.")
    sparsity: SparsityConfig | None = Field(None, description="Left out: dense training.")
    proximal_mu: float = Field(
        0.0, ge=0, description="FedProx: mu/2 times the squared distance to the global weights."
    )
    fedrs: FedRSConfig | None = Field(None, description="FedRS; left out: plain logits.")


class StrategyConfig(Section):
    """The aggregation on the server."""

    name: Literal[
        "fedavg",
        "fedavgm",
        "fedprox",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "fedmedian",
        "fedtrimmedavg",
        "krum",
        "multikrum",
        "bulyan",
        "qfedavg",
    ] = Field("fedavg", description="A strategy of Flower; all of them are observed alike.")
    fraction_train: float = Field(
        1.0, gt=0, le=1, description="Share of the clients that train in a round."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of Flower's class."
    )


class CircuitsConfig(Section):
    """What is looked for after every aggregation."""

    enabled: bool = Field(True, description="False records weights and accuracy only.")
    method: Literal[
        "attribution",
        "integrated",
        "iterative",
        "gates",
        "leave-one-out",
        "magnitude",
        "mean-activation",
        "random",
        "fedmi",
    ] = Field("attribution", description="Discovery method.")
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
        False,
        description="Measure the share of each circuit's units that it cannot do without; "
        "the most costly check.",
    )
    stability: bool = Field(
        False,
        description="Search twice, on other samples with another seed; a circuit that the second "
        "search does not confirm is not valid. Doubles the cost of discovery.",
    )
    ceiling: bool = Field(
        False,
        description="Search the global model a second time, on other samples with another seed: "
        "no overlap can be expected to exceed what the two searches share.",
    )
    every: int = Field(1, ge=1, description="Look at every n-th round.")
    max_clients: int | None = Field(
        None, gt=0, description="Look at a reproducible sample of this many clients."
    )
    time_budget: float | None = Field(
        None, gt=0, description="Seconds a round may be looked at; who is left out is named."
    )


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
        "study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run's folder."
    )
    seed: int = Field(0, ge=0, description="The one seed; 0 is a seed like any other.")
    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig(kind="iid", clients=5)
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    strategy: StrategyConfig = StrategyConfig()
    circuits: CircuitsConfig = CircuitsConfig()
    storage: StorageConfig = StorageConfig()
    engine: EngineConfig = EngineConfig()

    @property
    def n_clients(self) -> int:
        """Number of clients in the federation."""
        if self.partition.classes is not None:
            return len(self.partition.classes)
        assert self.partition.clients is not None  # the partition's validator saw to it
        return self.partition.clients
