"""Class moments of what the head reads: what CCVR and calibration by circuits fit the head to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.learning.networks import evaluating, head_inputs
from fedcircuit.learning.watching.feature_watch import head_of
from fedcircuit.logits import logits_of
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class ClassMoments:
    """Of D features by class; those of disjoint sets of samples add up to those of all.

    Parameters
    ----------
    counts
        ``[classes]`` int64, samples.
    sums
        ``[classes, D]`` float64.
    outer
        ``[classes, D, D]`` float64, sums of the features' outer products.
    """

    counts: Tensor
    sums: Tensor
    outer: Tensor


@torch.no_grad()
def class_moments(
    model: nn.Module, samples: Samples, *, n_classes: int, batch_size: int = 500
) -> ClassMoments:
    """Moments of the head's inputs in one pass in eval mode; the model is left as it is.

    Parameters
    ----------
    model
        Any with a linear head.
    samples
        Not empty.
    n_classes
        Number of logits.
    batch_size
        Samples of one forward pass.

    Raises
    ------
    ValueError
        If the model has no linear head, it does not take one row of features a sample, or features
        are not finite.
    """
    head = head_of(model, samples, n_classes, "class_moments")
    parts, labels = [], samples.labels.cpu()
    with evaluating(model), head_inputs(model, head) as seen:
        for index in torch.split(torch.arange(len(samples)), batch_size):
            batch = samples.take(index)
            logits_of(model, batch.inputs)
            features = seen.features(head)
            if features.ndim != 2 or len(features) != len(batch):
                raise ValueError(
                    f"the head must take one row of features a sample, [{len(batch)}, features], "
                    f"got {tuple(features.shape)}; pool positions or tokens before the last linear "
                    "layer"
                )
            parts.append(features.to("cpu", torch.float64))
    x = torch.cat(parts)
    if not bool(x.isfinite().all()):
        raise ValueError(
            "class_moments needs finite features, those of the weights that arrived are NaN or "
            "infinite"
        )
    sums = x.new_zeros(n_classes, x.shape[1])
    outer = x.new_zeros(n_classes, x.shape[1], x.shape[1])
    for label in range(n_classes):
        own = x[labels == label]
        sums[label], outer[label] = own.sum(0), own.T @ own
    return ClassMoments(samples.counts(n_classes), sums, outer)
