"""A class is named by its number; anything else is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedcircuit.circuits import CircuitStack, class_row
from fedcircuit.circuits.discovery import discover
from fedcircuit.circuits.edges import edge_circuits
from fedcircuit.circuits.planted import planted_mlp
from fedcircuit.circuits.round import circuits_of_model

MODEL = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
PROBE = (torch.arange(48.0).reshape(12, 4).sin(), torch.arange(12) % 3)


def stack(index: Any) -> object:
    found = discover(MODEL, PROBE)
    whole = CircuitStack(found.sites, ("global",), found.masks[None], found.found[None])
    return whole.circuit("global", index)


CALLS: dict[str, Callable[[Any], object]] = {
    "of a discovery": lambda index: discover(MODEL, PROBE).circuit(index),
    "of a model": lambda index: circuits_of_model(MODEL, PROBE).circuit(index),
    "of edges": lambda index: edge_circuits(MODEL, PROBE).circuit(index),
    "of a stack": stack,
    "that was planted": lambda index: planted_mlp(n_classes=3).circuit(index),
}


@pytest.mark.parametrize("index", ["a", 7, 3, -1, 1.0, None])
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_class_is_refused_in_words(name: str, index: object) -> None:
    with pytest.raises(ValueError, match=rf"one of 0\.\.2 \(3 classes\), got {index!r}"):
        CALLS[name](index)


def test_every_kind_of_whole_number_is_one() -> None:
    assert [class_row(one, 3) for one in (0, 2, np.int64(1), torch.tensor(2))] == [0, 2, 1, 2]
