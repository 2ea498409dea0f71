"""How well logits tell one class from the rest: recall, FPR, AUROC, separation.

A quantity without samples to measure it on is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcircuit.logits import predicted

MOST_NUMBERS = 2**21  # logits, in double precision and several times, in one call of a measure


@dataclass(frozen=True)
class OneVsRest:
    """One class against the rest, ``[rows]`` float64 each.

    Parameters
    ----------
    recall
        Share of the class's samples assigned to it (arg max over all classes).
    fpr
        Share of the other samples assigned to it.
    auroc
        Area under the ROC curve of the centred logit ``t_c = z_c - mean_j z_j``.
    separation
        ``mean of t_c over the class - mean of t_c over the others``.
    variance
        Largest variance of a centred logit over the samples: 0 for a constant function.
    """

    recall: Tensor
    fpr: Tensor
    auroc: Tensor
    separation: Tensor
    variance: Tensor

    @property
    def balanced_accuracy(self) -> Tensor:
        """``(recall + 1 - fpr) / 2``; 0.5 is what a constant predictor gets."""
        return (self.recall + 1 - self.fpr) / 2

    def replaced(self, rows: Tensor, other: OneVsRest) -> OneVsRest:
        """This with ``other`` in place of some rows; ``rows [k]`` int64."""
        values = zip(self._columns, other._columns, strict=True)
        return OneVsRest(*(mine.index_copy(0, rows, theirs) for mine, theirs in values))

    @classmethod
    def undefined(cls, n_rows: int) -> OneVsRest:
        """Rows of which nothing is known."""
        return cls(*(torch.full((n_rows,), torch.nan, dtype=torch.float64) for _ in range(5)))

    @property
    def _columns(self) -> tuple[Tensor, ...]:
        return self.recall, self.fpr, self.auroc, self.separation, self.variance


def one_vs_rest(
    logits: Tensor, labels: Tensor, classes: Tensor, rest: Tensor | None = None
) -> OneVsRest:
    """Measures of row i's logits for class ``classes[i]`` against the rest.

    Parameters
    ----------
    logits
        ``[rows, n, n_classes]``.
    labels
        ``[n]`` int64, or ``[rows, n]`` where rows have samples of their own.
    classes
        ``[rows]`` int64.
    rest
        Like the labels, bool: samples that count as the rest where they are of another class; None
        is all.
    """
    labels, classes = labels.cpu(), classes.cpu()
    centred = (logits - logits.mean(-1, keepdim=True)).double()
    score = centred[torch.arange(len(classes)), :, classes]  # [rows, n]
    positive = labels == classes[:, None]
    negative = ~positive if rest is None else ~positive & rest.cpu()
    assigned = predicted(logits) == classes[:, None]
    return OneVsRest(
        recall=masked_mean(assigned, positive),
        fpr=masked_mean(assigned, negative),
        auroc=torch.from_numpy(_auroc(score.numpy(), positive.numpy(), negative.numpy())),
        separation=masked_mean(score, positive) - masked_mean(score, negative),
        variance=centred.var(dim=1, correction=0).amax(-1),
    )


def every_class(logits: Tensor, labels: Tensor, rest: Tensor | None) -> OneVsRest:
    """Every class of every model against the rest, model after model, a few at a time.

    Parameters
    ----------
    logits
        ``[models, n, classes]``.
    labels
        ``[n]`` int64.
    rest
        ``[models, n]`` bool, samples that count as the rest; None is all.
    """
    n_models, n, n_classes = logits.shape
    owners = torch.arange(n_models).repeat_interleave(n_classes)
    classes = torch.arange(n_classes).repeat(n_models)
    result = OneVsRest.undefined(len(classes))
    for rows in torch.split(torch.arange(len(classes)), max(1, MOST_NUMBERS // (n * n_classes))):
        few = owners[rows]
        others = None if rest is None else rest[few]
        found = one_vs_rest(logits[few], labels, classes[rows], others)
        result = result.replaced(rows, found)
    return result


def masked_mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values along the last axis, float64; NaN where none is chosen."""
    total = torch.where(chosen, values.double(), 0.0).sum(-1)
    return total / chosen.sum(-1)  # 0 / 0 is NaN


def high_quantile(values: Tensor, quantile: float) -> Tensor:
    """The next higher observed value along the first axis; NaN where there is none, or a NaN."""
    if not len(values):
        return torch.full(values.shape[1:], torch.nan, dtype=torch.float64)
    found = np.quantile(values.numpy(), quantile, axis=0, method="higher")
    return torch.from_numpy(np.asarray(found))


def _auroc(
    score: NDArray[np.float64], positive: NDArray[np.bool_], negative: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Mann-Whitney's U by ranks, ties counted half, for each row; other samples are left out."""
    n_positive = positive.sum(1).astype(np.float64)
    n_pairs = n_positive * negative.sum(1)
    counted = np.where(positive | negative, score, np.inf)  # ranked behind all that count
    from scipy.stats import rankdata  # takes half a second

    of_positives = np.where(positive, rankdata(counted, axis=1), 0.0).sum(1)
    u = of_positives - n_positive * (n_positive + 1) / 2
    result: NDArray[np.float64] = np.full(len(u), np.nan)
    np.divide(u, n_pairs, out=result, where=n_pairs > 0)
    return result
