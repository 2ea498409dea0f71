"""How well a model predicts samples: loss, accuracy, and recall of every class."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import nn
from torch.nn import functional

from fedcircuit.logits import logits_of, n_not_finite, predicted
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy, and per class recall, false positive rate and number of samples.

    Recall is NaN for a class without samples, the false positive rate where all samples are of
    the class; loss and accuracy are NaN without any sample. All are NaN where the model's logits
    are NaN or infinite for a sample; ``not_finite`` says for how many.
    """

    loss: float
    accuracy: float
    recall: tuple[float, ...]
    fpr: tuple[float, ...]
    counts: tuple[int, ...]
    not_finite: int = 0


@torch.no_grad()
def evaluate(
    model: nn.Module, samples: Samples, *, n_classes: int, batch_size: int = 500
) -> Evaluation:
    """How well the model in eval mode predicts the samples; its mode is given back."""
    mode = model.training
    model.eval()
    loss, bad = torch.zeros((), dtype=torch.float64), 0
    confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64)  # [label, prediction]
    try:
        for index in torch.split(torch.arange(len(samples)), batch_size):
            batch = samples.take(index)
            logits = logits_of(model, batch.inputs)
            bad += n_not_finite(logits)
            loss += functional.cross_entropy(logits, batch.labels, reduction="sum")
            pairs = batch.labels * n_classes + predicted(logits).clamp(min=0)
            confusion += torch.bincount(pairs, minlength=n_classes**2).reshape(confusion.shape)
    finally:
        model.train(mode)
    if bad:
        none, found = (nan,) * n_classes, samples.counts(n_classes).tolist()
        return Evaluation(nan, nan, none, none, tuple(found), bad)
    counts, hits = confusion.sum(1).double(), confusion.diagonal().double()
    false = confusion.sum(0).double() - hits
    total = counts.sum()
    return Evaluation(  # 0 / 0 is NaN: undefined where there is nothing to count
        loss=float(loss / total),
        accuracy=float(hits.sum() / total),
        recall=tuple((hits / counts).tolist()),
        fpr=tuple((false / (total - counts)).tolist()),
        counts=tuple(int(n) for n in counts),
    )
