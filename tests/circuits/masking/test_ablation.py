"""Resample ablation: whose activation an ablated unit shows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedcircuit.circuits.masking.ablation import reference_activations, reference_rows
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.samples import Samples


def test_resampled_references_are_activations_of_the_partner() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 3))
    nn.init.ones_(model[0].weight)
    samples = Samples(torch.tensor([[10.0], [20.0], [30.0]]), torch.tensor([0, 2, 2]))
    sites = find_sites(model, samples.inputs)

    reference = reference_activations(
        model, sites, samples, n_classes=3, ablation="resample",
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip

    assert reference is not None
    first, *others = reference["0"].flatten().tolist()
    # of class 2 there is only class 0 to draw from, and of class 0 only class 2
    assert others == [10.0, 10.0]
    assert first in (20.0, 30.0)
    # rows 2 and 0 again, gate 0 for the first: its unit shows the partner of sample 2
    rows = torch.tensor([2, 0])
    with gated(model, sites, {"0": torch.tensor([[0.0], [1.0]])}, reference_rows(reference, rows)):
        model[1].weight.data.fill_(1.0)
        model[1].bias.data.zero_()
        assert model(samples.inputs[rows])[:, 0].tolist() == [10.0, 10.0]


def partners(labels: Tensor, n_classes: int, generator: torch.Generator) -> Tensor:
    """By the activations: a unit that shows the position of its sample."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, n_classes))
    nn.init.ones_(model[0].weight)
    inputs = torch.arange(len(labels)).float().unsqueeze(1)
    reference = reference_activations(
        model, find_sites(model, inputs), Samples(inputs, labels), n_classes=n_classes,
        ablation="resample", generator=generator,
    )  # fmt: skip
    assert reference is not None
    return reference["0"].flatten().long()


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20), st.integers(0, 99))
def test_partners_are_of_another_class(drawn: list[int], seed: int) -> None:
    labels = torch.tensor(drawn)
    task_classes = 6
    generator = torch.Generator().manual_seed(seed)
    if len(set(drawn)) < 2:
        with pytest.raises(ValueError, match="expected samples of at least 2 classes, got 1"):
            partners(labels, task_classes, generator)
        return

    found = partners(labels, task_classes, generator)

    assert found.shape == labels.shape
    assert (labels[found] != labels).all()
    again = partners(labels, task_classes, torch.Generator().manual_seed(seed))
    assert torch.equal(found, again)


def test_other_classes_are_drawn_alike_whatever_their_size() -> None:
    labels = torch.cat([torch.zeros(3000), torch.ones(900), torch.full((100,), 3.0)]).long()

    found = partners(labels, 4, torch.Generator().manual_seed(0))

    drawn = labels[found[labels == 0]]
    # 3000 fair coins: standard deviation of the share .009
    assert (drawn == 3).float().mean().item() == pytest.approx(0.5, abs=0.05)
    positions = found[labels == 0][drawn == 3] - 3900  # within the class, uniform on 0..99
    assert positions.float().mean().item() == pytest.approx(49.5, abs=4.0)
    assert len(positions.unique()) > 90


def test_resample_ablation_needs_a_generator() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    samples = Samples(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="give it a generator"):
        reference_activations(
            model, find_sites(model, samples.inputs), samples, n_classes=3, ablation="resample"
        )
