"""Test sets of single clients: test images in the label mix of what each client trains on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedcircuit.learning import derived_seed, largest_remainder
from fedcircuit.learning.partitions.partition import Labels, Partition


def personal_test(
    partition: Partition,
    train_labels: Labels,
    test_labels: Labels,
    *,
    samples: int,
    n_classes: int,
    seed: int,
) -> tuple[Labels, ...]:
    """Sorted positions among the test labels for every client, in its own label mix.

    The mix is that of the client's training samples, in whole numbers by largest remainder, drawn
    without replacement; clients may share images. Where the test labels have too few of a class,
    the client gets the largest set of up to ``samples`` in its mix that they allow: the length of
    its positions says how many. Accuracy on such a set is personal accuracy, as in the code of
    arXiv 2506.00932, which takes 400 in the mix that the training images were drawn from, some of
    them twice where a class has too few.

    Parameters
    ----------
    partition
        Of any kind; positions among ``train_labels``.
    train_labels, test_labels
        ``[n]`` and ``[m]``, classes below ``n_classes``.
    samples
        Size of every client's test set, unless the test labels have too few.

    Raises
    ------
    ValueError
        If ``samples`` is not positive, or there is no test image of a class that a client holds.
    """
    if samples < 1:
        raise ValueError(f"a personal test set needs at least one sample, got {samples}")
    members = [np.flatnonzero(test_labels == label) for label in range(n_classes)]
    available = np.array([len(own) for own in members], dtype=np.int64)
    sets = []
    for client, index in enumerate(partition.indices):
        mix = np.bincount(train_labels[index], minlength=n_classes).astype(np.int64)
        lacking = np.flatnonzero((mix > 0) & (available == 0))
        if len(lacking):
            raise ValueError(
                f"client {client} trains on class {lacking[0]}, of which there is no test image; "
                "use more test images (data.test_limit), or no personal test sets"
            )
        counts = _most_in_mix(mix, available, samples)
        rng = np.random.default_rng(derived_seed(seed, "personal-test", client))
        chosen = [
            rng.choice(own, size=count, replace=False)
            for own, count in zip(members, counts, strict=True)
        ]
        sets.append(np.sort(np.concatenate(chosen)).astype(np.int64))
    return tuple(sets)


def _most_in_mix(
    mix: NDArray[np.int64], available: NDArray[np.int64], samples: int
) -> NDArray[np.int64]:
    """Samples of each class ``[classes]`` in the mix, as many as there are, up to ``samples``.

    One sample of the largest class is always there. No set in the mix has fewer of a class than
    its exact share rounded down, so the search can start where that exceeds what is available.
    """
    held = mix > 0
    limits = ((available[held] + 1) * mix.sum() - 1) // mix[held]
    size = min(samples, int(limits.min()))
    while True:
        counts = largest_remainder(mix, size)
        if (counts <= available).all():
            return counts
        size -= 1
