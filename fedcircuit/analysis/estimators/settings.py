"""Which estimators look at a layer, and their settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedcircuit.analysis.estimators.estimate import UNITS

BINNED = ("binned-width", "binned-count", "binned-range")
CRITICS = ("infonce", "mine", "smile")
INPUT_ESTIMATORS = ("kolchinsky-tracey", *BINNED)
LABEL_ESTIMATORS = ("probe", "kolchinsky-tracey", *BINNED, "ksg", *CRITICS)
_NULL_BY_DEFAULT = ("kolchinsky-tracey", *BINNED)
_PERMUTATIONS = 10


@dataclass(frozen=True)
class CriticSettings:
    """How a variational critic is trained and scored.

    Parameters
    ----------
    steps, batch
        Training steps at most, and pairs in each.
    width
        Units of its hidden layers.
    learning_rate
        Of Adam.
    patience
        Looks at the validation samples, one every 25 steps, without a gain before it stops.
    score_batch
        Pairs in a batch when the held-out half is scored; InfoNCE never exceeds its log.
    tau
        Where SMILE clips the critic.
    """

    steps: int = 600
    batch: int = 64
    width: int = 64
    learning_rate: float = 2e-3
    patience: int = 8
    score_batch: int = 512
    tau: float = 5.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "width", "patience", "score_batch"):
            _at_least(f"critic.{name}", getattr(self, name), 2 if "batch" in name else 1)
        for name in ("learning_rate", "tau"):
            _positive(f"critic.{name}", getattr(self, name))


@dataclass(frozen=True)
class InformationSettings:
    """Which estimators look at a layer, and their settings.

    Parameters
    ----------
    inputs
        Estimator of I(X;T): one of ``INPUT_ESTIMATORS``.
    labels
        Estimator of I(T;Y): one of ``LABEL_ESTIMATORS``.
    unit
        ``bits`` or ``nats``.
    bin_width
        Of ``binned-width``: codes are ``floor(T / bin_width)``.
    bins
        Of ``binned-count`` and ``binned-range``: bins of every dimension.
    bin_range
        Of ``binned-range``: lowest and highest edge; values outside fall into the end bins.
    miller_madow
        Whether the entropies of codes are corrected by (occupied codes - 1) / (2 n).
    beta
        Of Kolchinsky-Tracey: the noise's standard deviation as a share of the layer's scale, so
        its variance is ``beta ** 2 * mean_d Var(T_d)``.
    noise_variance
        An absolute noise variance, in place of ``beta``.
    block
        Rows of the distance matrix in memory at once, ``block * n`` numbers.
    neighbours
        ``k`` of KSG and Ross.
    folds
        Parts into which the probe's samples are split; each is held out once.
    strength
        Of the probe: prior variance of a logit, so weights of standardised units have the prior
        variance ``strength / d``.
    permutations
        Permutations of the labels for the null of I(T;Y); 0: none. None: 10 where labels without
        meaning get a high value (binned, Kolchinsky-Tracey), none elsewhere.
    critic
        Of InfoNCE, MINE and SMILE.

    Raises
    ------
    ValueError
        If a name is unknown or a number out of its range.
    """

    inputs: str = "kolchinsky-tracey"
    labels: str = "probe"
    unit: str = "bits"
    bin_width: float = 0.07
    bins: int = 30
    bin_range: tuple[float, float] = (-1.0, 1.0)
    miller_madow: bool = False
    beta: float = 1.0  # as much noise as signal in a unit: with less, wide layers saturate
    noise_variance: float | None = None
    block: int = 1024
    neighbours: int = 3
    folds: int = 5
    strength: float = 10.0
    permutations: int | None = None
    critic: CriticSettings = field(default_factory=CriticSettings)

    def __post_init__(self) -> None:
        _one_of("inputs", self.inputs, INPUT_ESTIMATORS)
        _one_of("labels", self.labels, LABEL_ESTIMATORS)
        _one_of("unit", self.unit, tuple(UNITS))
        for name in ("bin_width", "beta", "strength"):
            _positive(name, getattr(self, name))
        if self.noise_variance is not None:
            _positive("noise_variance", self.noise_variance)
        for name, least in (("bins", 2), ("block", 1), ("neighbours", 1), ("folds", 2)):
            _at_least(name, getattr(self, name), least)
        if not self.bin_range[0] < self.bin_range[1]:
            raise ValueError(f"bin_range must be (low, high) with low < high, got {self.bin_range}")
        if self.permutations is not None:
            _at_least("permutations", self.permutations, 0)

    def permutations_of(self, estimator: str) -> int:
        """Permutations for the null of an estimator of I(T;Y)."""
        if self.permutations is not None:
            return self.permutations
        return _PERMUTATIONS if estimator in _NULL_BY_DEFAULT else 0


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")
