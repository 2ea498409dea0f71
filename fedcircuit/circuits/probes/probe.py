"""The labelled samples on which circuits are found and, on other samples, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.circuits.models import ordinary
from fedcircuit.circuits.probes.labelled_samples import SamplesLike, labelled
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Probe:
    """Labelled samples in two disjoint halves: circuits are found on one, checked on the other.

    Parameters
    ----------
    discovery, checking
        `Samples`, or what `fedcircuit.circuits.probes.labelled_samples.labelled` makes samples of.
    class_names
        Of all classes of the task, those without samples included.

    Raises
    ------
    ValueError
        If an input holds NaN or infinity, or a label lies outside the class names.
    """

    discovery: Samples
    checking: Samples
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        for name in ("discovery", "checking"):
            half = labelled(getattr(self, name))
            _require_labels(half.labels, self.n_classes)
            require_finite_inputs(half.inputs, "probe")
            if half.inputs.is_inference() or half.labels.is_inference():
                half = Samples(ordinary(half.inputs), ordinary(half.labels))
            object.__setattr__(self, name, half)

    @property
    def n_classes(self) -> int:
        """Number of classes of the task, those without a sample in the probe included."""
        return len(self.class_names)

    @classmethod
    def split(cls, samples: Samples | SamplesLike, class_names: Sequence[str], seed: int) -> Probe:
        """Halve the samples of every class at random; an odd one goes to the discovery half.

        Parameters
        ----------
        samples
            `Samples`, or what `fedcircuit.circuits.probes.labelled_samples.labelled` makes samples
            of: a pair, a data set, a loader.
        class_names, seed
            Names of all classes, and the seed of the split.

        Raises
        ------
        ValueError
            If an input is not finite, a label lies outside the class names, or a class has exactly
            one sample: it could be found but never checked.
        """
        samples, n_classes = labelled(samples), len(class_names)
        labels = samples.labels
        _require_labels(labels, n_classes)
        require_finite_inputs(samples.inputs, "probe")
        generator = torch.Generator().manual_seed(seed)
        first, second = [], []
        for index in range(n_classes):
            members = (labels == index).nonzero().flatten()
            if len(members) == 1:
                raise ValueError(
                    f"class {class_names[index]!r} has 1 sample in the probe; give at least 2 "
                    "(one half finds circuits, the other checks them) or none"
                )
            order = torch.randperm(len(members), generator=generator).to(members.device)
            members = members[order]
            cut = (len(members) + 1) // 2
            first.append(members[:cut])
            second.append(members[cut:])
        return cls(
            samples.take(torch.cat(first)), samples.take(torch.cat(second)), tuple(class_names)
        )


def require_finite_inputs(inputs: Tensor, what: str) -> None:
    """Refuse inputs that hold NaN or infinity.

    Raises
    ------
    ValueError
        If there are any; the message says how many.
    """
    if not (inputs.is_floating_point() or inputs.is_complex()) or not inputs.numel():
        return
    rows = inputs.reshape(len(inputs), -1)
    count = sum(int((~part.isfinite()).any(1).sum()) for part in torch.split(rows, 500))
    if count:
        raise ValueError(
            f"{count} of {len(inputs)} inputs of the {what} hold NaN or infinity; mend them, or "
            "leave them out"
        )


def _require_labels(labels: Tensor, n_classes: int) -> None:
    if len(labels) and not (0 <= int(labels.min()) and int(labels.max()) < n_classes):
        raise ValueError(
            f"labels must lie in 0..{n_classes - 1} (there are {n_classes} class names), "
            f"got {int(labels.min())}..{int(labels.max())}"
        )
