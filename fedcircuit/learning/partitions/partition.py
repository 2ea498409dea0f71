"""Who holds what: partitions of labelled samples over clients, and their description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from fedcircuit.learning import derived_seed, largest_remainder

Labels = NDArray[np.int64]
_MAX_DRAWS = 1000


@dataclass(frozen=True)
class Partition:
    """Sorted positions of every client's samples.

    Parameters
    ----------
    kind
        Name of the rule.
    indices
        One array of positions for each client; none is empty.
    notes
        What a reader should know, such as classes that nobody holds.
    names
        Who each client is in the data, such as a writer; empty where clients are numbers alone.
    """

    kind: str
    indices: tuple[Labels, ...]
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def iid(labels: Labels, n_clients: int, *, seed: int) -> Partition:
    """Random parts whose sizes differ by at most one."""
    _enough(labels, n_clients)
    order = np.random.default_rng(seed).permutation(len(labels))
    return _partition("iid", np.array_split(order, n_clients))


def label_sorted(labels: Labels, n_clients: int, *, seed: int) -> Partition:
    """Samples sorted by label and dealt in contiguous parts whose sizes differ by at most one.

    Client 0 gets the lowest labels. Which of a label's samples go to which of the clients that
    share it is drawn by the seed.
    """
    _enough(labels, n_clients)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return _partition("sorted", np.array_split(order, n_clients))


def by_classes(
    labels: Labels, classes_of_clients: Sequence[Sequence[int]], *, n_classes: int
) -> Partition:
    """Every client gets all samples of its classes; a shared class is given in full to each.

    Raises
    ------
    ValueError
        If a class does not exist or has no sample, or a client has no class.
    """
    for client, classes in enumerate(classes_of_clients):
        if not classes:
            raise ValueError(f"client {client} of the class map has no class; give it at least one")
        for label in classes:
            if not 0 <= label < n_classes:
                raise ValueError(
                    f"client {client} of the class map has class {label}, the data have classes "
                    f"0..{n_classes - 1}"
                )
            if not np.any(labels == label):
                raise ValueError(
                    f"client {client} of the class map has class {label}, of which the data have "
                    "no sample; leave it out or raise data.train_limit"
                )
    held = {label for classes in classes_of_clients for label in classes}
    nobody = [label for label in range(n_classes) if label not in held]
    parts = [np.flatnonzero(np.isin(labels, list(classes))) for classes in classes_of_clients]
    return _partition("classes", parts, _held_by_nobody(nobody))


def dirichlet(
    labels: Labels,
    n_clients: int,
    *,
    n_classes: int,
    alpha: float,
    min_samples: int = 10,
    seed: int,
) -> Partition:
    """Label skew: each class is dealt in Dirichlet(alpha) shares (Hsu et al., arXiv 1909.06335).

    Redrawn until every client has ``min_samples``.

    Raises
    ------
    ValueError
        If alpha is not positive, or no draw gives every client enough.
    """
    _positive(alpha)
    _enough(labels, n_clients * max(1, min_samples))
    rng = np.random.default_rng(seed)
    for _ in range(_MAX_DRAWS):
        parts: list[list[Labels]] = [[] for _ in range(n_clients)]
        for label in range(n_classes):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(n_clients, alpha))
            cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.append(piece)
        joined = [np.concatenate(part) for part in parts]
        if min(len(part) for part in joined) >= max(1, min_samples):
            return _partition("dirichlet", joined)
    raise ValueError(_no_draw(n_clients, alpha, min_samples))


def quantity_skew(
    labels: Labels, n_clients: int, *, alpha: float, min_samples: int = 10, seed: int
) -> Partition:
    """Size skew: Dirichlet(alpha) shares of all samples, with the label mix left to chance.

    Raises
    ------
    ValueError
        If alpha is not positive, or no draw gives every client enough.
    """
    _positive(alpha)
    _enough(labels, n_clients * max(1, min_samples))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    for _ in range(_MAX_DRAWS):
        shares = rng.dirichlet(np.full(n_clients, alpha))
        cuts = (np.cumsum(shares)[:-1] * len(labels)).astype(np.int64)
        parts = np.split(order, cuts)
        if min(len(part) for part in parts) >= max(1, min_samples):
            return _partition("quantity", parts)
    raise ValueError(_no_draw(n_clients, alpha, min_samples))


def low_data(
    labels: Labels, n_clients: int, *, n_classes: int, alpha: float, samples: int, seed: int
) -> Partition:
    """Few images a client, each client with a label mix of its own; clients may share images.

    Client k draws ``q_k ~ Dirichlet(alpha)`` over the classes and takes ``samples`` images in that
    mix, without replacement. Numbers of images are rounded by largest remainder: a multinomial
    draw would add chance to a mix that is random already, and the code of arXiv 2506.00932, whose
    setting this is, rounds too (but leaves what rounding makes of the total to the last class). It
    has 100 clients of 100 images at alpha 0.1. What a client holds does not depend on how many
    clients there are.

    Parameters
    ----------
    labels
        ``[n]``, classes of the training images.
    n_classes
        Length of the label mix.
    alpha
        Concentration, > 0; smaller is more skew.
    samples
        Images of every client.

    Raises
    ------
    ValueError
        If a number is out of its range, or a client draws more images of a class than there are:
        taking others instead would change its mix, taking some twice would not be more data.
    """
    _positive(alpha)
    if n_clients < 1 or samples < 1:
        raise ValueError(
            f"a partition needs at least one client with at least one sample, got {n_clients} "
            f"clients of {samples} samples"
        )
    members = [np.flatnonzero(labels == label) for label in range(n_classes)]
    parts = []
    for client in range(n_clients):
        rng = np.random.default_rng(derived_seed(seed, "low-data", client))
        counts = largest_remainder(rng.dirichlet(np.full(n_classes, alpha)), samples)
        for label, count in enumerate(counts):
            if count > len(members[label]):
                raise ValueError(
                    f"client {client} draws {count} images of class {label}, of which the data "
                    f"have {len(members[label])}; use fewer samples a client (now {samples}), a "
                    f"larger alpha (now {alpha}) or more data (data.train_limit)"
                )
        chosen = (
            rng.choice(own, size=count, replace=False)
            for own, count in zip(members, counts, strict=True)
        )
        parts.append(np.concatenate(list(chosen)))
    distinct = np.unique(np.concatenate(parts))
    nobody = sorted(set(range(n_classes)) - set(labels[distinct].tolist()))
    shared = f"clients may share images: {n_clients * samples} places, {len(distinct)} images"
    return _partition("low-data", parts, (shared, *_held_by_nobody(nobody)))


def _held_by_nobody(classes: Sequence[int]) -> tuple[str, ...]:
    return (f"nobody holds class {', '.join(map(str, classes))}",) if classes else ()


def _partition(
    kind: str, parts: Sequence[NDArray[np.intp] | Labels], notes: tuple[str, ...] = ()
) -> Partition:
    return Partition(kind, tuple(np.sort(part).astype(np.int64) for part in parts), notes)


def _positive(alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha} (smaller is more skew, such as 0.3)")


def _enough(labels: Labels, needed: int) -> None:
    if needed < 1:
        raise ValueError("a partition needs at least one client")
    if needed > len(labels):
        raise ValueError(
            f"the partition needs at least {needed} samples, the data have {len(labels)}; "
            "use fewer clients, a smaller min_samples or more data"
        )


def _no_draw(n_clients: int, alpha: float, min_samples: int) -> str:
    return (
        f"no draw of {_MAX_DRAWS} gave each of {n_clients} clients {min_samples} samples at alpha "
        f"{alpha}; raise alpha, lower min_samples or use fewer clients"
    )


@dataclass(frozen=True)
class PartitionSummary:
    """A partition in figures.

    Parameters
    ----------
    counts
        Samples ``[clients, classes]``.
    entropy
        Label entropy of each client in bits.
    distance
        Total variation distance of each client's label mix to that of all data, in [0, 1].
    """

    counts: NDArray[np.int64]
    entropy: NDArray[np.float64]
    distance: NDArray[np.float64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Samples of each client."""
        total: NDArray[np.int64] = self.counts.sum(axis=1)
        return total


def summary(partition: Partition, labels: Labels, *, n_classes: int) -> PartitionSummary:
    """Counts, label entropy and distance to the global label mix of every client."""
    counts = np.stack(
        [np.bincount(labels[index], minlength=n_classes) for index in partition.indices]
    )
    mix = counts / counts.sum(axis=1, keepdims=True)
    overall = np.bincount(labels, minlength=n_classes) / len(labels)
    return PartitionSummary(
        counts=counts.astype(np.int64),
        entropy=entr(mix).sum(axis=1) / np.log(2),
        distance=0.5 * np.abs(mix - overall).sum(axis=1),
    )
