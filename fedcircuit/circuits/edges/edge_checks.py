"""What an edge circuit does alone, beside random edge circuits of the same size in every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcircuit.circuits.checks import Controls, OneVsRest, high_quantile, one_vs_rest, random_like
from fedcircuit.circuits.edges.edge_circuit import EdgeLayer, as_sites
from fedcircuit.circuits.edges.reduced_model import edge_logits
from fedcircuit.circuits.masking import contrast
from fedcircuit.samples import Samples

_CONSTANT = 1e-6  # largest variance of a centred logit that counts as constant


@dataclass(frozen=True)
class EdgeCheck:
    """What the edge circuit of one class does on the checking half; not measured is NaN or None.

    Parameters
    ----------
    size
        Edges of the circuit; None where none was found.
    full_balanced_accuracy
        Of the full model, for this class against the rest.
    recall, fpr, balanced_accuracy, auroc
        Of the circuit alone, all other edges reading their reference.
    constant
        Whether the circuit gives every sample the same logits; None where none was found.
    control_recall, control_fpr, control_balanced_accuracy
        Means over random edge circuits with as many existing edges in every layer.
    null_balanced_accuracy
        High quantile of their balanced accuracy, see `fedcircuit.circuits.checks.Controls`.
    """

    size: int | None = None
    full_balanced_accuracy: float = math.nan
    recall: float = math.nan
    fpr: float = math.nan
    balanced_accuracy: float = math.nan
    auroc: float = math.nan
    constant: bool | None = None
    control_recall: float = math.nan
    control_fpr: float = math.nan
    control_balanced_accuracy: float = math.nan
    null_balanced_accuracy: float = math.nan


@dataclass(frozen=True)
class EdgeSubject:
    """A model on the checking samples.

    Parameters
    ----------
    model, layers, references
        The model, its edge layers, and what a removed edge of each reads.
    existing
        ``[edges]`` bool.
    samples, n_classes
        Checking samples: not those on which the circuits were found; number of classes.
    batch
        Most samples in one forward pass.
    """

    model: nn.Module
    layers: tuple[EdgeLayer, ...]
    references: Mapping[str, Tensor]
    existing: Tensor
    samples: Samples
    n_classes: int
    batch: int = 500

    def logits(self, mask: Tensor, inputs: Tensor) -> Tensor:
        """Logits ``[n, classes]`` of the model reduced to a circuit."""
        return edge_logits(self.model, self.layers, mask, inputs, self.references, batch=self.batch)

    def measured(self, mask: Tensor, class_index: int, rows: Tensor | None = None) -> OneVsRest:
        """A circuit at telling a class from the rest, on all samples or some."""
        samples = self.samples if rows is None else self.samples.take(rows)
        logits = self.logits(mask, samples.inputs)
        return one_vs_rest(logits[None], samples.labels, torch.tensor([class_index]))


def check_edge_circuits(
    subject: EdgeSubject,
    masks: Tensor,
    found: Tensor,
    controls: Controls,
    generator: torch.Generator,
) -> tuple[EdgeCheck, ...]:
    """What each class's circuit does, beside random circuits of existing edges; one a class.

    Parameters
    ----------
    subject
        The model on the checking samples; without samples nothing is measured.
    masks, found
        ``[classes, edges]`` bool, and ``[classes]`` bool.
    controls, generator
        How many random circuits, and the source of the random draws.
    """
    n_classes = subject.n_classes
    if not len(subject.samples):
        return (EdgeCheck(),) * n_classes
    every = torch.ones_like(subject.existing)
    logits = subject.logits(every, subject.samples.inputs)
    full = one_vs_rest(
        logits.expand(n_classes, -1, -1), subject.samples.labels, torch.arange(n_classes)
    ).balanced_accuracy
    sites = as_sites(subject.layers)
    randoms = random_like(masks, subject.existing, sites, controls.count, generator)
    checks = []
    for c in range(n_classes):
        if not bool(found[c]):
            checks.append(EdgeCheck(full_balanced_accuracy=float(full[c])))
            continue
        own = subject.measured(masks[c], c)
        recall, fpr = _controlled(subject, randoms[:, c], c, controls)
        accuracy = (recall + 1 - fpr) / 2
        checks.append(
            EdgeCheck(
                size=int(masks[c].sum()),
                full_balanced_accuracy=float(full[c]),
                recall=float(own.recall),
                fpr=float(own.fpr),
                balanced_accuracy=float(own.balanced_accuracy),
                auroc=float(own.auroc),
                constant=bool(own.variance <= _CONSTANT),
                control_recall=float(recall.mean()),
                control_fpr=float(fpr.mean()),
                control_balanced_accuracy=float(accuracy.mean()),
                null_balanced_accuracy=float(high_quantile(accuracy, controls.quantile)),
            )
        )
    return tuple(checks)


def _controlled(
    subject: EdgeSubject, randoms: Tensor, class_index: int, controls: Controls
) -> tuple[Tensor, Tensor]:
    """Recall and FPR of random circuits, ``[count]`` each, on fewer samples of other classes."""
    rows = contrast(subject.samples.labels, class_index, controls.negatives)
    found = [subject.measured(mask, class_index, rows) for mask in randoms]
    none = torch.zeros(0, dtype=torch.float64)  # of which a mean and a quantile are NaN
    return (
        torch.cat([none, *(one.recall for one in found)]),
        torch.cat([none, *(one.fpr for one in found)]),
    )
