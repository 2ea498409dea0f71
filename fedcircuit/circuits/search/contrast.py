"""The quantity that circuits explain: how a class's logit stands out, per pair of classes.

For a sample of class y and a target class c the contrast t_c is the logit z_c less the middle of
the logits of all classes j outside {c, y}: those that are neither asked for nor true. A shift of
all logits leaves it unchanged, and a unit that merely raises the sample's true class y counts
neither for nor against c: it belongs to y's circuit, not to c's. With two classes the other logit
remains.

The middle is the mean where derivatives are taken (`contrast_of_logits`), for sums of derivatives
are what attribution can compute; and the median where circuits are run (`separations`), which does
not move when one or two of the other classes' logits do. (With the mean over all other classes,
every class's units leak into every other class's circuit at about ``1 / (C - 1)`` of their own
score.)

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
    """Separation of row i's class from every other class by the median contrast.

    Parameters
    ----------
    logits
        ``[rows, n, n_classes]``.
    labels
        ``[n]`` int64, or ``[rows, n]`` where rows have samples of their own.
    classes
        ``[rows]`` int64.

    Returns
    -------
    Tensor
        ``[rows, n_classes]``; NaN where a class has no sample, and of a class from itself.
    """
    n_classes = logits.shape[-1]
    labels = labels.expand(logits.shape[:2])
    contrast = _median_contrast(logits, labels, classes[:, None].expand_as(labels))
    members = torch.nn.functional.one_hot(labels, n_classes).to(contrast.dtype)
    means = (contrast.unsqueeze(1) @ members).squeeze(1) / members.sum(1)  # no sample: NaN
    own = means.gather(1, classes[:, None])
    return (own - means).scatter(1, classes[:, None], torch.nan)


def _median_contrast(logits: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """t_c ``[rows, n]`` float64 of each sample, with the median as the middle."""
    logits = logits.double()
    n_classes = logits.shape[-1]
    index = torch.arange(n_classes, device=logits.device)
    out = index != target.unsqueeze(-1)
    if n_classes > 2:
        out = out & (index != labels.unsqueeze(-1))
    ordered = logits.masked_fill(~out, torch.inf).sort(-1).values
    count = out.sum(-1, keepdim=True)
    middle = (ordered.gather(-1, (count - 1) // 2) + ordered.gather(-1, count // 2)) / 2
    return (logits.gather(-1, target.unsqueeze(-1)) - middle).squeeze(-1)


def against_others(own: Tensor, others: Tensor) -> Tensor:
    """Score ``[..., units]`` of what adds ``own`` to t_c on samples of c: it counts by halves.

    Half is what it adds to the separation of c from the class it separates c from most, so that a
    unit that matters against one class alone (a veto) is not averaged away; half is what it adds
    to the separation from all other classes on average.

    Parameters
    ----------
    own
        Mean effects on the contrast of c on samples of c, ``[..., units]``.
    others
        The same on samples of each other class, ``[..., others, units]``; at least one.
    """
    effect = own.unsqueeze(-2) - others
    return (effect.amax(-2) + effect.mean(-2)) / 2


def contrast_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Weights ``[classes, n]`` whose product with ``t_c`` sums to the separation of class c."""
    counts = torch.bincount(labels, minlength=n_classes)
    present = int((counts > 0).sum())
    each = 1.0 / counts[labels]  # [n]
    own = torch.nn.functional.one_hot(labels, n_classes).T.bool()
    return torch.where(own, each, -each / max(1, present - 1))
