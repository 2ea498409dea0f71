"""What a study says of data and training: sections of the YAML schema."""

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
        "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "parquet", "image-folder", "szt"
    ] = Field(
        "digits",
        description="Data set; digits needs no files and no network. szt does not either: all "
        "4,096 patterns of 12 bits, as -1 and 1, in two classes by a rule of the kind of arXiv "
        "1703.00810.",
    )
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
    pool: int | None = Field(
        None, ge=1, description="Average-pool every image by this factor: 2 makes 28x28 to 14x14."
    )
    test_share: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="For szt: share of the patterns held out for tests. 0: all patterns are both "
        "training and test samples, as the whole of a known distribution.",
    )

    @model_validator(mode="after")
    def _fits_name(self) -> DataConfig:
        if self.name != "szt" and self.test_share != type(self).model_fields["test_share"].default:
            raise ValueError(f"test_share belongs to szt, the data set is {self.name!r}")
        return self


class PartitionConfig(Section):
    """Who holds what."""

    kind: Literal[
        "iid", "sorted", "classes", "dirichlet", "quantity", "low-data", "flwr-datasets"
    ] = Field(
        "iid",
        description="iid: equal random parts; sorted: equal parts of the samples sorted by label; "
        "classes: by class map; dirichlet: label skew; quantity: size skew; low-data: few images a "
        "client, each with a label mix of its own; flwr-datasets: any partitioner of that package "
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
        None,
        gt=0,
        description="For dirichlet, quantity and low-data: concentration; smaller is more skew.",
    )
    samples: int | None = Field(
        None, ge=1, description="For low-data: training images of each client, such as 100."
    )
    min_samples: int = Field(10, ge=1, description="Redraw until every client has this many.")
    personal_test: int | None = Field(
        None,
        ge=1,
        description="Test images each client gets, in the label mix of its training images: every "
        "client's own model is measured on them after training, and the global model after "
        "averaging. Left out: neither.",
    )
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
        if self.kind in ("dirichlet", "quantity", "low-data") and self.alpha is None:
            raise ValueError(f"kind {self.kind!r} needs alpha > 0, such as 0.3")
        if (self.kind == "low-data") != (self.samples is not None):
            raise ValueError(
                "kind 'low-data' needs samples, the images of each client, such as 100"
                if self.samples is None
                else f"samples belongs to kind 'low-data', the kind is {self.kind!r}"
            )
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

    name: Literal["simple-cnn", "mlp", "resnet", "vgg11"] = Field(
        "simple-cnn", description="Architecture; resnet with its own widths is ResNet8."
    )
    widths: tuple[int, ...] | None = Field(
        None, description="Units of each hidden layer; left out: the architecture's own."
    )
    activation: Literal["relu", "tanh"] = Field(
        "relu", description="Nonlinearity of an mlp; other architectures have relu."
    )
    init: Literal["torch", "he"] = Field(
        "torch", description="Initial weights: torch's defaults, or He's with zero biases."
    )

    @model_validator(mode="after")
    def _fits_name(self) -> ModelConfig:
        if self.activation != "relu" and self.name != "mlp":
            raise ValueError(
                f"activation {self.activation!r} belongs to mlp, the model is {self.name!r}"
            )
        return self


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
    count: Literal["exact", "published"] = Field(
        "exact",
        description="exact: of n weights of a layer the largest (1 - target) * n, rounded down as "
        "in decimal arithmetic, whatever ties; published: as the code of arXiv 2512.23043 counts, "
        "one fewer at 0.9 of 100, all ties kept, and in every tensor of two or more dimensions.",
    )


class FedRSConfig(Section):
    """Scaling of the logits of classes that a client does not hold (Li and Zhan, KDD 2021)."""

    kind: Literal["binary", "soft"] = Field("binary", description="How the scale is made.")
    alpha: Share = Field(0.5, description="Scale of a missing class.")


class TrainingConfig(Section):
    """How long and how every client trains."""

    rounds: int = Field(10, ge=1, description="Rounds of the federation.")
    epochs: int | None = Field(
        None,
        ge=1,
        description="Local epochs in a round; left out: 1, unless steps is given.",
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="Mini-batches of a round instead of epochs, so fewer than an epoch or many; "
        "every client goes on through one sequence of its own, so studies that differ in steps "
        "and rounds alone train on the same mini-batches. One round of all steps averages once.",
    )
    batch_size: int = Field(
        64,
        ge=1,
        description="Samples of a step; with batch norm, one sample that is left at the end of a "
        "pass joins the step before it.",
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="Optimiser of every client.")
    optimizer_state: Literal["fresh", "kept"] = Field(
        "fresh",
        description="Moments and momentum in a new round: from nothing, or from where the client's "
        "last round left them; use kept where a round has few steps.",
    )
    lr: float = Field(0.1, gt=0, description="Learning rate.")
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the optimiser.")
    sparsity: SparsityConfig | None = Field(None, description="Left out: dense training.")
    proximal_mu: float = Field(
        0.0, ge=0, description="FedProx: mu/2 times the squared distance to the global weights."
    )
    fedrs: FedRSConfig | None = Field(None, description="FedRS; left out: plain logits.")

    @model_validator(mode="after")
    def _one_length(self) -> TrainingConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                f"a round has either epochs or steps, got epochs {self.epochs} and steps "
                f"{self.steps}; leave one out, or set it to null"
            )
        return self
