"""Labelled samples of whatever people hold them in: tensors, arrays, data sets, loaders."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data import Dataset as TorchDataset

from fedcircuit.circuits.models import ordinary
from fedcircuit.samples import Samples

INPUT_NAMES = (
    "img", "image", "images", "input", "inputs", "x", "features", "pixel_values", "input_ids",
    "tokens", "data",
)  # fmt: skip
LABEL_NAMES = ("label", "labels", "target", "targets", "y")
WANTED = (
    "a probe is (inputs, labels): inputs [n, ...] and integer labels [n] as tensors, arrays or "
    "lists; or Samples, or a Probe; or a Dataset or DataLoader that yields (input, label) pairs or "
    "mappings such as {'img': ..., 'label': ...}"
)
SamplesLike = (
    Samples
    | tuple[Tensor | ArrayLike, Tensor | ArrayLike]
    | Mapping[str, Tensor | ArrayLike]
    | TorchDataset[object]
    | Iterable[object]
)


def labelled(source: object) -> Samples:
    """Samples of a pair, a data set or a loader; the labels whole numbers, the inputs as they are.

    A data set is read from its first sample to its last, a loader for one pass, without touching
    the random numbers of the process: a loader that shuffles gives the same order every time.

    Parameters
    ----------
    source
        `Samples`; a pair (inputs, labels); a mapping of these by name; or anything that yields
        such pairs or mappings sample by sample (a ``Dataset``, a ``Subset``, a list) or batch by
        batch (a ``DataLoader``). Inputs may be called as in ``INPUT_NAMES``, or anything where
        there is but one other entry; labels as in ``LABEL_NAMES``.

    Raises
    ------
    ValueError
        If it is anything else, has no sample, or its samples are of several shapes.
    """
    if isinstance(source, Samples):
        return source
    if isinstance(source, DataLoader):
        with _undisturbed(source):
            pairs = [_pair(batch) for batch in source]
        return _joined(pairs, batched=bool(pairs) and _tensor(pairs[0][1], "labels").ndim > 0)
    if isinstance(source, Mapping) or (isinstance(source, tuple) and len(source) == 2):
        return _samples(*_pair(source))
    if isinstance(source, list) and len(source) == 2 and not _is_sample(source[0]):
        return _samples(*_pair(source))
    arrays = isinstance(source, (tuple, list)) and any(map(_is_array, source))
    if arrays or _is_array(source) or isinstance(source, (str, bytes)):
        raise ValueError(f"{WANTED}; got {_kind(source)}")
    with _undisturbed(None):
        rows = _rows(source)
        return _joined([_pair(row) for row in rows], batched=False)


def whole_labels(labels: Tensor, n_inputs: int) -> Tensor:
    """Labels ``[n]`` int64 for ``n_inputs`` inputs, of whole numbers of any type.

    Raises
    ------
    ValueError
        If they have another shape, or are not whole.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != n_inputs:
        hint = "; one-hot labels become numbers with .argmax(1)" if labels.ndim == 2 else ""
        raise ValueError(
            f"labels must be [n] for the probe's {n_inputs} inputs, got {tuple(labels.shape)}{hint}"
        )
    if labels.is_complex() or (
        labels.is_floating_point() and not bool((labels == labels.round()).all())
    ):
        raise ValueError("labels must be whole numbers, the indices of classes")
    return labels.to(torch.int64)


def _rows(source: object) -> Iterator[object]:
    """The samples of a data set, one after the other."""
    read = getattr(source, "__getitem__", None)
    if isinstance(source, Sized) and callable(read):
        for index in range(len(source)):  # a map-style Dataset need not stop by itself
            yield read(index)
        return
    if not isinstance(source, Iterable):
        raise ValueError(f"{WANTED}; got {_kind(source)}")
    yield from source


def _is_sample(value: object) -> bool:
    """Whether an entry of a list of two is a labelled sample rather than all inputs."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, tuple) and len(value) == 2 and np.ndim(value[1]) == 0


def _is_array(value: object) -> TypeGuard[Tensor | NDArray[np.generic]]:
    return isinstance(value, (Tensor, np.ndarray))


def _pair(row: object) -> tuple[object, object]:
    if isinstance(row, Mapping):
        return _by_name(row)
    if isinstance(row, (tuple, list)) and len(row) == 2:
        return row[0], row[1]
    raise ValueError(f"{WANTED}; got {_kind(row)}")


def _by_name(row: Mapping[object, object]) -> tuple[object, object]:
    """Input and label of a mapping; never a guess between several."""
    labels = [name for name in row if name in LABEL_NAMES]
    others = [name for name in row if name not in labels]
    inputs = others if len(others) == 1 else [name for name in others if name in INPUT_NAMES]
    if len(labels) != 1 or len(inputs) != 1:
        raise ValueError(
            f"samples have the entries {list(row)}: expected one label, called one of "
            f"{LABEL_NAMES}, and one input, called one of {INPUT_NAMES}; give a Dataset that "
            "yields (input, label) pairs"
        )
    return row[inputs[0]], row[labels[0]]


def _joined(pairs: Sequence[tuple[object, object]], *, batched: bool) -> Samples:
    if not pairs:
        raise ValueError("the probe has no samples; give some of every class")
    inputs = [_tensor(one, "inputs") for one, _ in pairs]
    labels = [_tensor(one, "labels") for _, one in pairs]
    shapes = sorted({tuple(one.shape[batched:]) for one in inputs})
    if len(shapes) > 1:
        raise ValueError(
            f"inputs of a probe must be of one shape, got {shapes[0]} and {shapes[1]}; resize, "
            "crop or pad them first"
        )
    if batched:
        return _samples(torch.cat(inputs), torch.cat([one.reshape(len(one), -1) for one in labels]))
    return _samples(torch.stack(inputs), torch.stack(labels))


def _samples(inputs: object, labels: object) -> Samples:
    values = _tensor(inputs, "inputs")
    if values.ndim == 0:
        raise ValueError(f"{WANTED}; got a single number as inputs")
    return Samples(values, whole_labels(_tensor(labels, "labels"), len(values)))


def _tensor(value: object, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return ordinary(value)
    if type(value).__module__.startswith("PIL."):
        raise ValueError(
            "inputs of a probe must be tensors or arrays, got a PIL image; apply the transform "
            "that the model is trained with, such as torchvision's ToTensor and Normalize"
        )
    try:
        with torch.inference_mode(mode=False):
            made = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{what} of a probe must be numbers of one shape, got {_kind(value)} ({error}); "
            + ("number the classes from 0" if what == "labels" else "convert them to tensors")
        ) from error
    return made.float() if isinstance(value, (list, tuple)) and made.is_floating_point() else made


@contextmanager
def _undisturbed(loader: DataLoader[object] | None) -> Iterator[None]:
    """Reading draws from generators of its own; those of the process stay as they were."""
    sampler = None if loader is None else loader.sampler
    own = {id(g): g for g in (getattr(loader, "generator", None),
                              sampler.generator if isinstance(sampler, RandomSampler) else None)
           if isinstance(g, torch.Generator)}  # fmt: skip
    states = [(generator, generator.get_state()) for generator in own.values()]
    plain, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(mode=False):
            torch.default_generator.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
        for generator, state in states:
            generator.set_state(state)


def _kind(value: object) -> str:
    if _is_array(value):
        return f"one {type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        parts = ", ".join(map(_kind, value)) if 0 < len(value) < 5 else ""
        return f"a {type(value).__name__} of {len(value)}" + (f" ({parts})" if parts else "")
    return type(value).__name__
