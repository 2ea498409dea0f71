"""All patterns of twelve bits on a sphere, in two classes: the kind of data of arXiv 1703.00810.

Shwartz-Ziv and Tishby (2017) take all 4,096 patterns of 12 bits that mark points on a sphere, and
label them by a threshold on a function of the pattern that no rotation changes. Their label file
is not needed here: the rule below is our own, of the same kind, so figures of their data do not
carry over bit by bit.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from fedcircuit.learning import derived_seed
from fedcircuit.learning.sources import RawData, RawSplit

N_BITS = 12
THRESHOLD = 5.95  # powers go from 5.906 to 6: half of the patterns, nearly, lie above


def patterns() -> NDArray[np.int64]:
    """All patterns ``[4096, 12]`` of zeros and ones; row r is r in binary, lowest bit first."""
    return (np.arange(2**N_BITS)[:, None] >> np.arange(N_BITS)) & 1


def vertices() -> NDArray[np.float64]:
    """The twelve vertices of a regular icosahedron on the unit sphere, ``[12, 3]``.

    They are the circular shifts of (0, +-1, +-g) with the golden ratio g, over its length.
    """
    golden = (1 + 5**0.5) / 2
    corners = np.array([(0.0, one, other) for one, other in product((-1, 1), (-golden, golden))])
    every = np.concatenate([np.roll(corners, shift, axis=1) for shift in range(3)])
    points: NDArray[np.float64] = every / np.linalg.norm(every[0])
    return points


def power(bits: NDArray[np.int64], degree: int) -> NDArray[np.float64]:
    """Power ``[n]`` of each pattern in one degree of the spherical harmonics.

    By their addition theorem it is ``sum_ij x_i x_j P_l(v_i . v_j)`` up to a factor, with the
    Legendre polynomial P_l of the degree l and the points v where the bits x lie; a rotation of
    the pattern does not change it. For l = 1 it is the squared length of the sum of the marked
    points.

    Parameters
    ----------
    bits
        ``[n, 12]`` zeros and ones.
    degree
        l >= 0.
    """
    points = vertices()
    kernel = legendre.legval(points @ points.T, np.eye(degree + 1)[degree])
    values: NDArray[np.float64] = np.einsum("ni,ij,nj->n", bits, kernel, bits, optimize=True)
    return values


def labels_of(bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each pattern, ``[n]``: 1 where the powers in degrees 1 and 2 sum to over 5.95.

    2,006 of the 4,096 patterns are of class 1. A pattern and its complement are of one class, so
    logistic regression on the bits of all patterns can only name the larger class.

    Parameters
    ----------
    bits
        ``[n, 12]`` zeros and ones.
    """
    return (power(bits, 1) + power(bits, 2) > THRESHOLD).astype(np.int64)


def binary_sphere(test_share: float, *, seed: int) -> RawData:
    """The data set, with bits as pixels of images of 1 by 12 that become -1 and 1.

    Parameters
    ----------
    test_share
        Share of every class held out for tests, drawn by the seed. Most patterns held out have
        rotations or a complement among the others. 0: all patterns are both training and test
        samples; information is then about the whole distribution of the inputs, which is known,
        and accuracy says nothing of unseen inputs.
    seed
        Of the split.

    Raises
    ------
    ValueError
        If the share lies outside [0, 1).
    """
    if not 0.0 <= test_share < 1.0:
        raise ValueError(f"test_share must lie in [0, 1), got {test_share}")
    bits = patterns()
    images, labels = (255 * bits).astype(np.uint8).reshape(-1, 1, N_BITS, 1), labels_of(bits)
    train = test = np.arange(len(bits))
    if test_share > 0:
        from sklearn.model_selection import train_test_split

        train, test = train_test_split(
            train,
            test_size=test_share,
            stratify=labels,
            random_state=derived_seed(seed, "szt-split") % 2**32,
        )
    return RawData(
        _split(images[train], labels[train]),
        _split(images[test], labels[test]),
        ("power below", "power above"),
        mean=0.5,
        std=0.5,
    )


def _split(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> RawSplit:
    return RawSplit(labels, lambda index: images[index])
