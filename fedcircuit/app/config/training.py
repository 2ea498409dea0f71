"""What a study says of model and training: sections of the YAML schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedcircuit.app.config.data import Section, Share


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
    head: Literal["linear", "simplex", "orthogonal"] = Field(
        "linear",
        description="Last layer: trained, or frozen as a simplex (FedETF) or an orthogonal frame "
        "(SphereFed), which is neither sent nor averaged and needs as many features as classes.",
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


class ObjectiveConfig(Section):
    """Local cross-entropy of logits that are shifted by the client's own class counts."""

    name: Literal["fedlc", "logit-adjustment"] = Field(
        "fedlc",
        description="fedlc: z_c - tau * n_c^(-1/4) (arXiv 2209.00189); logit-adjustment: "
        "z_c + tau * log(share of the class) (arXiv 2007.07314), with tau 1 the balanced softmax. "
        "Classes that a client lacks are left out of the softmax.",
    )
    tau: float = Field(1.0, ge=0, description="Strength; 0 is plain cross-entropy.")


class FeatureVarianceConfig(Section):
    """What clients measure for LIVAR's head: how much the features of each class vary."""

    feature_source: Literal["adapted", "frozen"] = Field(
        "adapted",
        description="adapted: features of the network that the client trains; frozen: of the "
        "network with its initial weights, the same in every round.",
    )
    correct_only: bool = Field(False, description="Only samples that are predicted right.")
    epoch: Literal["last", "all", "post"] = Field(
        "last",
        description="While the client trains, in the last local epoch or in all; or post: in a "
        "pass of its own afterwards.",
    )


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
    objective: ObjectiveConfig | None = Field(
        None, description="FedLC or logit adjustment; left out: plain cross-entropy."
    )
    feddecorr_beta: float = Field(
        0.0,
        ge=0,
        description="FedDecorr (arXiv 2210.00226): this times the mean squared correlation of the "
        "features before the last layer is added to the loss; the paper's is 0.1.",
    )
    batch_norm: Literal["shared", "own"] = Field(
        "shared",
        description="own: FedBN (arXiv 2102.07623), every client goes on with its own batch norm.",
    )
    feature_variance: FeatureVarianceConfig | None = Field(
        None, description="Left out: clients do not measure their features; {} measures them."
    )
    path_importance: bool = Field(
        False, description="Clients say how much their steps on each layer have changed the loss."
    )
    fisher: bool = Field(
        False,
        description="Clients say the diagonal Fisher information of their trained network, for the "
        "rule fisher; every sample takes a pass of its own.",
    )
    class_moments: bool = Field(
        False,
        description="Clients say moments, by class, of what the last layer takes under the weights "
        "they receive, for the rules ccvr and circuit-calibration; 8 bytes times classes times "
        "features squared a client and round, which tell of its data.",
    )
    feddyn_alpha: float = Field(
        0.0,
        ge=0,
        description="FedDyn (arXiv 2111.04263): strength of the clients' dynamic penalty; the rule "
        "feddyn needs the same alpha.",
    )
    scaffold: bool = Field(
        False,
        description="SCAFFOLD (arXiv 1910.06378): clients correct their steps by control variates, "
        "for the rule scaffold; with sgd.",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> TrainingConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError(
                f"a round has either epochs or steps, got epochs {self.epochs} and steps "
                f"{self.steps}; leave one out, or set it to null"
            )
        if self.fedrs is not None and self.objective is not None:
            raise ValueError(
                "a client has one objective, got fedrs and objective; leave one out, or set it to "
                "null"
            )
        return self

    @model_validator(mode="after")
    def _corrects_drift_once(self) -> TrainingConfig:
        if self.scaffold and self.optimizer == "adam":
            raise ValueError(
                "scaffold corrects the gradients of sgd, the optimizer is adam; use optimizer sgd, "
                "or leave scaffold out"
            )
        if self.scaffold and self.feddyn_alpha:
            raise ValueError(
                "scaffold and feddyn_alpha both correct the same drift; leave one of them out"
            )
        if self.feddyn_alpha and self.proximal_mu:
            raise ValueError(
                "feddyn_alpha and proximal_mu are both terms towards the weights received; leave "
                "one of them out"
            )
        if self.feddyn_alpha and self.batch_norm == "own":
            raise ValueError(
                "feddyn_alpha needs every parameter averaged, batch_norm own keeps some with the "
                "clients; use batch_norm shared, or leave feddyn_alpha out"
            )
        return self
