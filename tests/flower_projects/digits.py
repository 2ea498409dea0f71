"""The data of all projects: a small share of scikit-learn's digits, split by client."""

from __future__ import annotations

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor

CLIENTS = 2
N_PROBE = 120
_PER_CLIENT = 64


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # [1797, 1, 8, 8]
    return images, torch.tensor(digits.target)


def probe() -> tuple[Tensor, Tensor]:
    """Labelled samples of the server."""
    images, labels = _digits()
    return images[:N_PROBE], labels[:N_PROBE]


def samples_of(client: int) -> tuple[Tensor, Tensor]:
    """Labelled samples of a client."""
    images, labels = _digits()
    first = N_PROBE + _PER_CLIENT * client
    return images[first : first + _PER_CLIENT], labels[first : first + _PER_CLIENT]
