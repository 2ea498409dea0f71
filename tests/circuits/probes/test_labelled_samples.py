"""A probe is made of whatever people hold their samples in, without touching random numbers."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fedcircuit import Probe, Samples, discover
from fedcircuit.circuits.edges.edge_discovery import edge_circuits
from fedcircuit.circuits.probes.fitted_probe import as_probe
from fedcircuit.circuits.probes.labelled_samples import labelled
from fedcircuit.circuits.round.model_circuits import circuits_of_model

N = 18
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


class Rows(Dataset[Any]):
    """A data set of any rows; as many do, it knows no end of its own."""

    def __init__(self, row: Callable[[int], object]) -> None:
        self._row = row

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> object:
        return self._row(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((x, int(y)) for x, y in zip(X, Y, strict=True))


def as_in_flowers_examples(index: int) -> object:
    return {"img": X[index], "label": int(Y[index])}


SOURCES: dict[str, Callable[[], object]] = {
    "samples": lambda: Samples(X, Y),
    "tensors": lambda: (X, Y),
    "a list of two": lambda: [X, Y],
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "columns by name": lambda: {"x": X, "y": Y},
    "labels in a column": lambda: (X, Y[:, None]),
    "labels as whole floats": lambda: (X, Y.double()),
    "a dataset": lambda: TensorDataset(X, Y),
    "a subset": lambda: Subset(TensorDataset(X, Y), range(N)),
    "a dataset of mappings": lambda: Rows(as_in_flowers_examples),
    "arrays by name": lambda: Rows(lambda i: {"image": X[i].numpy(), "label": Y[i]}),
    "any name for the input": lambda: Rows(lambda i: {"pixels": X[i], "target": np.int32(Y[i])}),
    "a list of pairs": lambda: [(x, int(y)) for x, y in zip(X, Y, strict=True)],
    "a stream": Stream,
    "a loader": lambda: DataLoader(TensorDataset(X, Y), batch_size=5),
    "a loader of mappings": lambda: DataLoader(Rows(as_in_flowers_examples), batch_size=5),
    "a loader of a stream": lambda: DataLoader(Stream(), batch_size=5),
    "a loader without batches": lambda: DataLoader(TensorDataset(X, Y), batch_size=None),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_same_samples_come_of_every_source(name: str) -> None:
    found = labelled(SOURCES[name]())
    assert torch.equal(found.inputs, X)
    assert torch.equal(found.labels, Y)


def test_reading_a_loader_that_shuffles_draws_from_no_generator_of_others() -> None:
    own = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=own)
    plain = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)
    noisy = Rows(lambda i: (X[i] + torch.randn(4) + random.random(), int(Y[i])))
    before = torch.get_rng_state(), random.getstate(), own.get_state()

    first = [labelled(source).inputs for source in (loader, plain, noisy)]
    second = [labelled(source).inputs for source in (loader, plain, noisy)]

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.equal(own.get_state(), before[2])


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "one tensor": (lambda: X, r"a probe is \(inputs, labels\).* got one Tensor of shape \(18, 4\)"),
    "a word": (lambda: "test", r"a probe is \(inputs, labels\)"),
    "a number": (lambda: 3, r"a probe is \(inputs, labels\).* got int"),
    "three tensors": (lambda: TensorDataset(X, Y, Y), r"\(inputs, labels\).* got a tuple of 3"),
    "a tuple of three": (lambda: (X, Y, Y), r"a tuple of 3 \(one Tensor of shape \(18, 4\), one"),
    "a tuple of one": (lambda: (X,), r"got a tuple of 1 \(one Tensor of shape \(18, 4\)\)"),
    "a list of three arrays": (lambda: [X.numpy()] * 3, r"got a list of 3 \(one ndarray of sha"),
    "two inputs by name": (
        lambda: Rows(lambda i: {"img": X[i], "image": X[i], "label": 0}),
        r"entries \['img', 'image', 'label'\]: expected one label",
    ),
    "two labels by name": (
        lambda: Rows(lambda i: {"img": X[i], "label": 0, "target": 1}), "expected one label"
    ),
    "several shapes": (
        lambda: Rows(lambda i: (X[i, : 3 + i % 2], 0)), r"one shape, got \(3,\) and \(4,\); resize"
    ),
    "text": (lambda: Rows(lambda i: (X[i], "cat")), "labels .*number the classes from 0"),
    "one-hot": (lambda: (X, nn.functional.one_hot(Y)), r"got \(18, 3\); one-hot labels become"),
    "halves": (lambda: (X, Y + 0.5), "labels must be whole numbers"),
    "too few labels": (lambda: (X, Y[:4]), r"for the probe's 18 inputs, got \(4,\)"),
    "none": (list, "the probe has no samples"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_probe_is_refused_in_words(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        labelled(make())


def test_a_tuple_of_three_pairs_is_three_samples() -> None:
    assert labelled(((X[0], 1), (X[1], 0), (X[2], 2))).labels.tolist() == [1, 0, 2]


def test_complex_inputs_keep_their_imaginary_part_or_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(ValueError, match="they are complex: .*give real and imaginary parts"):
        as_probe((X + 1j * X, Y), model)

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(torch.view_as_real(x).flatten(1))
            return out

    probe = as_probe((X + 1j * X, Y), Parts())
    assert bool((probe.discovery.inputs.imag == probe.discovery.inputs.real).all())
    spoilt = X + 1j * X
    spoilt[3, 2] = complex(0, float("inf"))
    with pytest.raises(ValueError, match="1 of 18 inputs of the probe hold NaN or infinity"):
        as_probe((spoilt, Y), Parts())


def test_a_probe_is_taken_wherever_circuits_are_looked_for() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    probe = as_probe((X, Y), model, seed=3)

    assert torch.equal(
        discover(model, loader, seed=3).scores, discover(model, probe, seed=3).scores
    )
    one, two = (circuits_of_model(model, source, seed=3) for source in (loader, probe))
    assert torch.equal(one.masks, two.masks)
    edges = [edge_circuits(model, source, seed=3).masks for source in (loader, probe)]
    assert torch.equal(*edges)


def test_both_constructors_of_a_probe_take_them_too() -> None:
    rows = Rows(as_in_flowers_examples)
    split = Probe.split(rows, ["a", "b", "c"], 0)
    same = Probe.split(Samples(X, Y), ["a", "b", "c"], 0)
    halves = Probe(rows, DataLoader(rows, batch_size=4), ("a", "b", "c"))

    assert torch.equal(split.discovery.inputs, same.discovery.inputs)
    assert torch.equal(halves.checking.inputs, X)


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf])
def test_inputs_that_are_not_finite_make_no_probe(spoil: float) -> None:
    bad = X.clone()
    bad[[2, 7], 1] = spoil
    with pytest.raises(ValueError, match="2 of 18 inputs of the probe hold NaN or infinity"):
        Probe.split((bad, Y), ["a", "b", "c"], 0)
    with pytest.raises(ValueError, match="2 of 18 inputs"):
        Probe(Samples(X, Y), Samples(bad, Y), ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        Probe(Samples(X, Y), Samples(X, Y), ("a", "b"))
