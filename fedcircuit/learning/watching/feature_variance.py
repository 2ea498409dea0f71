"""How much the features of each class vary within a client, in one pass over its samples.

LIVAR (Fiorini et al. 2025, arXiv 2507.06813) weights the rows of clients' heads by it. Mean and
squared deviations are kept as samples come (Welford 1962) and two states are merged exactly (Chan,
Golub and LeVeque 1983), so no feature is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

FeatureSource = Literal["adapted", "frozen"]
FeatureEpoch = Literal["last", "all", "post"]


@dataclass(frozen=True)
class FeatureVariance:
    """Which features a client measures the variance of.

    Parameters
    ----------
    feature_source
        ``adapted``: of the network that it trains. ``frozen``: of the network as it was built,
        before any weights arrived (pretrained or initial), in one pass: the scalars are then the
        same in every round, as in the released code.
    correct_only
        Only samples that this network predicts right.
    epoch
        ``last``: while it trains, in the last local epoch; ``all``: in every epoch; ``post``: in a
        pass of its own after training, in eval mode. Of no effect on a frozen network.

    Raises
    ------
    ValueError
        If a choice is none of these.
    """

    feature_source: FeatureSource = "adapted"
    correct_only: bool = False
    epoch: FeatureEpoch = "last"

    def __post_init__(self) -> None:
        for name, known in (("feature_source", FeatureSource), ("epoch", FeatureEpoch)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"{name} must be one of {get_args(known)}, got {getattr(self, name)!r}"
                )

    @property
    def while_training(self) -> bool:
        """Whether features are taken from the forward passes of training."""
        return self.feature_source == "adapted" and self.epoch != "post"


@dataclass(frozen=True)
class FeatureMoments:
    """What is known of the features seen so far; float64 tensors.

    Parameters
    ----------
    counts
        ``[classes]``, samples.
    means
        ``[classes, features]``; 0 for a class without samples.
    deviations
        ``[classes, features]``, sums of squared differences from the mean.
    """

    counts: Tensor
    means: Tensor
    deviations: Tensor

    @classmethod
    def nothing(cls, n_classes: int, n_features: int) -> FeatureMoments:
        """No sample seen."""
        zeros = torch.zeros(n_classes, n_features, dtype=torch.float64)
        return cls(torch.zeros(n_classes, dtype=torch.float64), zeros, zeros.clone())

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, n_classes: int) -> FeatureMoments:
        """Of one batch: features ``[n, features]``, labels ``[n]`` int64.

        Raises
        ------
        ValueError
            If there is not one row of features for every label.
        """
        if features.ndim != 2 or len(features) != len(labels):
            raise ValueError(
                f"the head must take one row of features a sample, [{len(labels)}, features], got "
                f"{tuple(features.shape)}; pool positions or tokens before the last linear layer"
            )
        x, y = features.detach().to("cpu", torch.float64), labels.cpu()
        counts = torch.bincount(y, minlength=n_classes).to(torch.float64)
        zeros = torch.zeros(n_classes, x.shape[1], dtype=torch.float64)
        means = zeros.index_add(0, y, x) / counts.clamp(min=1).unsqueeze(1)
        return cls(counts, means, zeros.index_add(0, y, (x - means[y]).square()))

    def merged(self, other: FeatureMoments) -> FeatureMoments:
        """Of the samples of both, as if they had been seen together."""
        counts = self.counts + other.counts
        part = (other.counts / counts.clamp(min=1)).unsqueeze(1)  # n_b / n
        apart = other.means - self.means
        return FeatureMoments(
            counts,
            self.means + apart * part,
            self.deviations
            + other.deviations
            + apart.square() * part * self.counts.unsqueeze(1),  # delta^2 n_a n_b / n
        )

    def variances(self) -> tuple[float, ...]:
        """Per class the unbiased variance, a mean over the features.

        NaN for a class with fewer than two samples, or where features are not finite.
        """
        unbiased = self.deviations / (self.counts - 1).clamp(min=1).unsqueeze(1)
        means = unbiased.mean(dim=1)
        known = (self.counts >= 2) & means.isfinite()
        return tuple(torch.where(known, means, torch.nan).tolist())
