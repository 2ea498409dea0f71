"""The handwritten digits that ship with scikit-learn, read without importing it.

Importing scikit-learn takes about a second, the file of the digits some milliseconds.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_FILE = Path("datasets", "data", "digits.csv.gz")
_SIDE = 8


def read_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images ``[n, 8, 8]`` in grey levels from 0 to 16, and labels ``[n]``: ``load_digits``.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn")
    file = Path(spec.origin).parent / _FILE
    if not file.exists():  # another layout: let it say where they are
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images, digits.target.astype(np.int64)
    with gzip.open(file, "rt", encoding="ascii") as lines:
        rows = np.array([line.split(",") for line in lines], dtype=np.float64)
    return rows[:, :-1].reshape(-1, _SIDE, _SIDE), rows[:, -1].astype(np.int64)


def stratified_halves(
    labels: NDArray[np.int64], test_share: float, *, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions for training and for tests, in which every class keeps its share.

    The same positions in the same order as scikit-learn's ``train_test_split(positions,
    test_size=test_share, stratify=labels, random_state=seed)``.

    Parameters
    ----------
    labels
        Class indices ``[n]``; every class has at least two samples.
    test_share
        In (0, 1).
    seed
        Of numpy's legacy generator, below 2**32.
    """
    n_test = int(np.ceil(test_share * len(labels)))
    counts = np.bincount(labels)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    random = np.random.RandomState(seed)  # the legacy generator: its stream is frozen
    n_train_of = _shares(counts, len(labels) - n_test, random)
    n_test_of = _shares(counts - n_train_of, n_test, random)
    train: list[np.intp] = []
    test: list[np.intp] = []
    for own, first, second in zip(members, n_train_of, n_test_of, strict=True):
        drawn = own[random.permutation(len(own))]
        train += drawn[:first].tolist()
        test += drawn[first : first + second].tolist()
    return np.asarray(random.permutation(train)), np.asarray(random.permutation(test))


def _shares(
    counts: NDArray[np.int64], total: int, random: np.random.RandomState
) -> NDArray[np.int64]:
    """``total`` draws shared out in proportion; what is left over goes to the largest remainders.

    Among equal remainders the generator draws, as in scikit-learn.
    """
    exact = counts / counts.sum() * total
    shares = np.floor(exact)
    left = int(total - shares.sum())
    remainders = exact - shares
    for value in np.sort(np.unique(remainders))[::-1] if left > 0 else ():
        (equal,) = np.where(remainders == value)
        take = min(len(equal), left)
        shares[random.choice(equal, size=take, replace=False)] += 1
        left -= take
        if left == 0:
            break
    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole
