"""What a run keeps of its clients' weights: all, differences in half precision, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fedcircuit.learning import Weights
from fedcircuit.records.files import Array, encode, encoded_size

Updates = Literal["full", "delta-fp16", "none"]


@dataclass(frozen=True)
class Storage:
    """What a run keeps on disk.

    Parameters
    ----------
    updates
        ``full`` keeps the clients' weights bit for bit. ``delta-fp16`` is lossy: it keeps a
        client's weights minus the round's sent global weights, as float16 (11 significant bits of
        the difference), wherever that is smaller than the weights themselves and does not
        overflow; other tensors, integers among them, stay exact. ``none`` keeps no client weights.
    scores
        Keep the observers' arrays named ``scores`` (one number for every model, class and unit).

    Raises
    ------
    ValueError
        If ``updates`` is none of the three.
    """

    updates: Updates = "full"
    scores: bool = False

    def __post_init__(self) -> None:
        if self.updates not in get_args(Updates):
            raise ValueError(
                f"storage.updates must be one of {get_args(Updates)}, got {self.updates!r}"
            )


def differences(weights: Weights, sent: Weights) -> dict[str, Array]:
    """Tensors worth keeping as float16 differences to the weights sent.

    A tensor is left out where the difference is not finite in half precision, where dtype or
    shape differ from the one sent, or where the tensor itself takes no more space: sparse weights
    minus dense ones are dense.
    """
    result = {}
    for name, values in weights.items():
        difference = _difference(values, sent.get(name))
        if difference is not None:
            result[name] = difference
    return result


def _difference(values: Array, sent: Array | None) -> Array | None:
    if sent is None or sent.dtype != values.dtype or sent.shape != values.shape:
        return None
    if values.dtype not in (np.float32, np.float64):
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, see below
        difference = np.asarray(np.subtract(values, sent)).astype(np.float16)
    if not np.isfinite(difference).all():
        return None
    smaller = encoded_size(encode(difference)) < encoded_size(encode(values))
    return difference if smaller else None


def restored(stored: Weights, names: frozenset[str], sent: Weights) -> dict[str, Array]:
    """Weights again, where the named tensors are differences to the weights sent."""
    return {
        name: np.asarray(np.add(sent[name], values, dtype=sent[name].dtype))
        if name in names
        else values
        for name, values in stored.items()
    }


def kept_updates(
    weights: Weights, sent: Weights | None, updates: Updates
) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    """A client's tensors as they go to disk, and the names of those that are differences."""
    if updates == "none":
        return {}, ()
    if updates == "full" or sent is None:
        return weights, ()
    by_name = differences(weights, sent)
    return {name: by_name.get(name, values) for name, values in weights.items()}, tuple(by_name)
