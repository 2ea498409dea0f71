"""From scores to a circuit: how many of the best units are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.masking import Masked, masked_model
from fedcircuit.circuits.search.protocol import Curve, Meter, Sizing, Task
from fedcircuit.circuits.search.size_search import Limits, Trials, smallest
from fedcircuit.circuits.search.top_units import top_units
from fedcircuit.ranges import require_at_least, require_between


@dataclass(frozen=True)
class Faithful:
    """The smallest number of best units that keeps a class apart from the others.

    Faithfulness of a circuit of class c is its separation from the other classes as a share of
    the full model's, both averaged over the classes that the model recognises (recall of at least
    a half on these samples). The least size with a faithfulness of at least ``1 - loss`` is
    searched for: upwards in steps, then by interpolation between the last two.

    Parameters
    ----------
    loss
        Share of the separation that may be lost, in (0, 1).
    fpr
        Where more than this share of the other samples is assigned to the circuit, in (0, 1], a
        larger one is searched for to which no more are; if there is none, the first one remains,
        and the checks say so. 1 leaves this out: a class that the model prefers to the others
        whenever it knows nothing better then keeps its small circuit.
    samples_per_class
        Samples of the class on which its circuits are run during the search, and most samples of
        any other class: of these together twice as many, or one of each class.
    tolerance
        The search ends when the bracket is narrower than this share of its upper end, or 1 unit.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    loss: float = 0.05
    fpr: float = 1.0
    samples_per_class: int = 24
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        require_between("(0, 1)", loss=self.loss)
        require_between("(0, 1]", "size rule 'faithful'", fpr=self.fpr)
        require_at_least(1, samples_per_class=self.samples_per_class)
        require_between("[0, 1)", tolerance=self.tolerance)

    def __call__(
        self,
        scores: Tensor,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Sizing:
        """Masks and curves for scores ``[classes, units]``; rows without a positive one get none.

        Parameters
        ----------
        scores
            Larger is more important; NaN counts as none.
        model, sites
            The model in eval mode, and its sites.
        task
            Samples that scores may have been made on, and the activations of ablated units.
        generator, meter
            Not used; counts the images.
        """
        few = first_of_each_class(task, self.samples_per_class)
        memory = few.memory_of(model, sites)
        masked = masked_model(
            model,
            sites,
            few.samples.inputs,
            few.reference,
            batch=512,
            seen=few.seen,
            memory=memory,
        )
        sizing, n_rows = self.search(masked, few.samples.labels, scores)
        meter.forward += n_rows - (len(few.samples) if few.seen else 0)
        return sizing

    def search(self, masked: Masked, labels: Tensor, scores: Tensor) -> tuple[Sizing, int]:
        """Masks and curves, and the number of images sent forward.

        Parameters
        ----------
        masked
            The model on samples that are to be searched on; or several.
        labels
            ``[n]`` int64, of these samples.
        scores
            ``[classes, units]``; of several models ``[models * classes, units]``.
        """
        known = scores.nan_to_num(0.0)
        trials = Trials(masked, labels, known, self.samples_per_class)
        positive = (known > 0).any(1).tolist()
        usable = [task for task, yes in enumerate(trials.usable) if yes and positive[task]]
        found = smallest(trials, usable, Limits(1 - self.loss, self.fpr, self.tolerance))
        sizes = (known > 0).sum(1)
        curves: list[Curve | None] = [None] * len(known)
        for one in found:
            sizes[one.c], curves[one.c] = one.high, one.curve()
        masks = top_units(known, sizes, masked.sites) & torch.tensor(positive).unsqueeze(1)
        return Sizing(masks, tuple(curves)), trials.n_rows


def first_places(labels: Tensor, per_class: int, n_classes: int) -> Tensor:
    """Positions of the first samples of every class, class by class; all in order if so few."""
    if per_class >= int(torch.bincount(labels, minlength=n_classes).max()):
        return torch.arange(len(labels))
    return torch.cat([(labels == c).nonzero().flatten()[:per_class] for c in range(n_classes)])


def first_of_each_class(task: Task, per_class: int) -> Task:
    """The task with the first samples of every class only."""
    return task.take(first_places(task.samples.labels, per_class, task.n_classes))
