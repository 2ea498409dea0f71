"""The quantity that circuits explain: how a class's logit stands out, per pair of classes.

For a sample of class y and a target class c the contrast is
``t_c = z_c - mean of z_j over j outside {c, y}``: the logit against those of all classes that are
neither asked for nor true. A shift of all logits leaves it unchanged, and a unit that merely raises
the sample's true class y counts neither for nor against c: it belongs to y's circuit, not to c's.
(With the mean over all other classes instead, every class's units leak into every other class's
circuit at about ``1 / (C - 1)`` of their own score.) With two classes the other logit remains.

The separation of c from d is ``E[t_c | y = c] - E[t_c | y = d]``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def contrast_of_logits(labels: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Weights ``[n, n_classes]`` float64 whose product with the logits sums to each ``t_c``.

    Parameters
    ----------
    labels, target
        ``[n]`` int64: true class and target class of each sample.
    n_classes
        At least 2.
    """
    index = torch.arange(n_classes, device=labels.device)
    out = (index != target[:, None]) & (index != labels[:, None])
    if n_classes == 2:
        out = index != target[:, None]
    weights = -out.double() / out.sum(1, keepdim=True).clamp(min=1)
    weights[index == target[:, None]] = 1.0
    return weights


def separations(logits: Tensor, labels: Tensor, classes: Tensor) -> Tensor:
    """Separation of row i's class from every other class, ``[rows, n_classes]``.

    NaN where a class has no sample, and of a class from itself.

    Parameters
    ----------
    logits
        ``[rows, n, n_classes]``.
    labels
        ``[n]`` int64.
    classes
        ``[rows]`` int64.
    """
    n_classes = logits.shape[-1]
    weights = torch.stack(
        [contrast_of_logits(labels, c.expand_as(labels), n_classes) for c in classes]
    )
    contrast = (logits * weights).sum(-1)  # [rows, n]
    members = torch.nn.functional.one_hot(labels, n_classes).double()
    means = contrast @ (members / members.sum(0))  # [rows, n_classes]; no sample: NaN
    own = means.gather(1, classes[:, None])
    return (own - means).scatter(1, classes[:, None], torch.nan)
