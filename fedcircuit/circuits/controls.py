"""Random circuits of the same size in every layer, and what they do: the control of every check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedcircuit.circuits.checks import CheckedModel, contrast
from fedcircuit.circuits.circuit import Site, split_by_site


@dataclass(frozen=True)
class Controls:
    """How circuits are compared with random ones.

    Parameters
    ----------
    count
        Random circuits for each circuit; 0 leaves the comparison out (NaN).
    negatives
        Samples of other classes on which the FPR of a control, and the collateral damage of a
        knock-out, are measured; evenly spaced over the classes.
    removals
        Random draws that each selective necessity is compared with; none where ``count`` is 0.
    quantile
        Quantile of the controls' balanced accuracy a circuit must exceed: the next higher observed
        value. With ``1 / (1 - quantile)`` controls or fewer that is the largest of them, and the
        comparison is a test at level ``1 / (count + 1)``, not at ``1 - quantile``.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    count: int = 6
    negatives: int = 45
    removals: int = 4
    quantile: float = 0.95

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count must be >= 0, got {self.count} (controls of the circuits)")
        if self.negatives < 1:
            raise ValueError(f"negatives must be >= 1, got {self.negatives} (controls)")
        if self.removals < 0:
            raise ValueError(f"removals must be >= 0, got {self.removals} (controls)")
        if not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1], got {self.quantile} (controls)")


@dataclass(frozen=True)
class ControlResult:
    """What random circuits do in place of each circuit, ``[rows]`` float64; NaN without controls.

    Parameters
    ----------
    balanced_accuracy
        A high quantile of their balanced accuracy, see `Controls`.
    necessity
        Mean drop of the class's recall when their units are ablated.
    """

    balanced_accuracy: Tensor
    necessity: Tensor


def random_like(
    masks: Tensor, live: Tensor, sites: Sequence[Site], count: int, generator: torch.Generator
) -> Tensor:
    """Random masks with as many units in every site as the given ones, ``[count, rows, units]``.

    Units are drawn uniformly from the live ones: a dead unit would make the control too weak.
    Where a mask has more units than are live, the rest comes from the dead ones.

    Parameters
    ----------
    masks, live
        ``[rows, units]`` bool and ``[units]`` bool.
    sites, count
        The sites, and how many random masks to draw for each row.
    generator
        Source of the random draws.
    """
    order = torch.rand((count, *masks.shape), generator=generator, dtype=torch.float64) + live
    sizes = {name: part.sum(-1) for name, part in split_by_site(masks, sites).items()}
    return torch.cat(
        [
            part.argsort(-1, descending=True).argsort(-1) < sizes[name][:, None]
            for name, part in split_by_site(order, sites).items()
        ],
        dim=-1,
    )


def run_controls(
    subject: CheckedModel,
    masks: Tensor,
    classes: Tensor,
    controls: Controls,
    generator: torch.Generator,
) -> ControlResult:
    """Keep, and remove, random circuits in place of each circuit.

    Parameters
    ----------
    subject
        The model on the checking samples.
    masks, classes
        ``[rows, units]`` bool, and the class of each row.
    controls, generator
        How many, and the source of the random draws.
    """
    if not controls.count:
        nothing = torch.full((len(masks),), torch.nan, dtype=torch.float64)
        return ControlResult(nothing, nothing.clone())
    randoms = random_like(masks, subject.live, subject.sites, controls.count, generator)
    accuracy = torch.empty(controls.count, len(masks), dtype=torch.float64)
    without = torch.empty(len(masks), dtype=torch.float64)
    for row, class_index in enumerate(classes.tolist()):
        samples = contrast(subject.labels, class_index, controls.negatives, subject.rest)
        n_own = int(subject.counts[class_index])
        kept = _assigned(subject, randoms[:, row], samples, class_index)
        accuracy[:, row] = (kept[:, :n_own].mean(1) + 1 - kept[:, n_own:].mean(1)) / 2
        without[row] = _assigned(subject, ~randoms[:, row], samples[:n_own], class_index).mean()
    return ControlResult(
        torch.from_numpy(np.quantile(accuracy.numpy(), controls.quantile, axis=0, method="higher")),
        subject.full.recall[classes] - without,
    )


def _assigned(subject: CheckedModel, masks: Tensor, samples: Tensor, class_index: int) -> Tensor:
    """Whether each mask assigns each sample to the class, ``[masks, samples]`` float64."""
    which = torch.arange(len(masks)).repeat_interleave(len(samples))
    logits = subject.masked.pair_logits(masks, which, samples.repeat(len(masks)))
    return (logits.argmax(-1) == class_index).double().reshape(len(masks), -1)
