"""The labelled samples on which circuits are found and, on other samples, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedcircuit.samples import Samples


@dataclass(frozen=True)
class Probe:
    """Labelled samples in two disjoint halves: circuits are found on one, checked on the other."""

    discovery: Samples
    checking: Samples
    class_names: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        """Number of classes of the task, those without a sample in the probe included."""
        return len(self.class_names)

    @classmethod
    def split(cls, samples: Samples, class_names: Sequence[str], seed: int) -> Probe:
        """Halve the samples of every class at random; an odd one goes to the discovery half.

        Raises
        ------
        ValueError
            If a label lies outside the class names, or a class has exactly one sample: it could
            be found but never checked.
        """
        n_classes = len(class_names)
        labels = samples.labels
        if len(labels) and not (0 <= int(labels.min()) and int(labels.max()) < n_classes):
            raise ValueError(
                f"labels must lie in 0..{n_classes - 1} (there are {n_classes} class names), "
                f"got {int(labels.min())}..{int(labels.max())}"
            )
        generator = torch.Generator().manual_seed(seed)
        first, second = [], []
        for index in range(n_classes):
            members = (labels == index).nonzero().flatten()
            if len(members) == 1:
                raise ValueError(
                    f"class {class_names[index]!r} has 1 sample in the probe; give at least 2 "
                    "(one half finds circuits, the other checks them) or none"
                )
            members = members[torch.randperm(len(members), generator=generator)]
            cut = (len(members) + 1) // 2
            first.append(members[:cut])
            second.append(members[cut:])
        return cls(
            samples.take(torch.cat(first)), samples.take(torch.cat(second)), tuple(class_names)
        )

    def take_classes(self) -> Tensor:
        """Classes that have samples in both halves, ``[k]`` int64."""
        present = (self.discovery.counts(self.n_classes) > 0) & (
            self.checking.counts(self.n_classes) > 0
        )
        return present.nonzero().flatten()
