"""What the methods by gradients and by ablation compute: laws and slow independent routes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_helpers import in_parts
from method_helpers import make_task, noise, scores_of
from planted_helpers import N_CLASSES, planted_mlp, planted_samples
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.masking.ablation import Ablation
from fedcircuit.circuits.methods.integrated import Integrated
from fedcircuit.circuits.methods.iterative import Iterative, best_units, schedule
from fedcircuit.circuits.methods.leave_one_out import LeaveOneOut
from fedcircuit.circuits.methods.named import discovery_method
from fedcircuit.circuits.search.gradients import (
    contrast_rows,
    own_gradients,
    separation_weights,
    shared_gradients,
)
from fedcircuit.circuits.search.protocol import Task
from fedcircuit.circuits.search.scored_method import Mass
from fedcircuit.circuits.search.searched_model import searched
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


@torch.no_grad()
def separations(model: nn.Module, task: Task, gates: Tensor) -> Tensor:
    """``[classes]``, by the definition: a logit less those neither asked for nor true, on average;
    on the class's own samples less on those of the other classes, one by one.
    """
    sites = find_sites(model, task.samples.inputs)
    labels = task.samples.labels
    with gated(model, sites, split_by_site(gates.float(), sites), task.reference):
        logits = model(task.samples.inputs)
    found = []
    for c in range(task.n_classes):
        means = {}
        for y in labels.unique().tolist():
            rest = [j for j in range(task.n_classes) if j not in (c, y)]
            rest = rest or [1 - c]  # of two classes the other one
            contrast = logits[labels == y][:, c] - logits[labels == y][:, rest].mean(1)
            means[y] = contrast.mean()
        others = [mean for y, mean in means.items() if y != c]
        found.append(means[c] - torch.stack(others).mean())
    return torch.stack(found)


def test_the_separation_is_the_mean_contrast_of_a_class_less_that_of_the_others() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 2])

    weights = separation_weights(labels, 3, 0)

    # own samples: z0 less the mean of z1, z2, each sample 1 / 2; others: z0 less the logit neither
    # asked for nor true, each class 1 / 2 of the negatives, each sample its share of that
    own, one, two = [0.5, -0.25, -0.25], [-0.5, 0.0, 0.5], [-1 / 6, 1 / 6, 0.0]
    expected = torch.tensor([own, own, one, two, two, two])
    assert torch.allclose(weights.float(), expected)


def linear_network() -> nn.Sequential:
    """One site, no nonlinearity behind it: every separation is linear in its gates."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_scores_of_a_network_linear_in_its_gates_sum_to_the_separation(ablation: Ablation) -> None:
    torch.manual_seed(0)
    model = linear_network()
    task = make_task(model, noise(), 3, ablation)

    one_point = scores_of(Integrated(points=1), model, task)

    gain = separations(model, task, torch.ones(5)) - separations(model, task, torch.zeros(5))
    assert torch.allclose(one_point.sum(1), gain, atol=1e-4)
    # and there is nothing to integrate: gradients are the same everywhere, single units exact
    assert torch.allclose(one_point, scores_of(Integrated(points=4), model, task), atol=1e-4)
    assert torch.allclose(one_point, scores_of(LeaveOneOut(), model, task), atol=1e-4)


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_scores_of_a_deep_smooth_network_sum_to_the_separation(ablation: Ablation) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 3), nn.Tanh(), nn.Flatten(),
        nn.Linear(80, 3),
    )  # fmt: skip
    task = make_task(model, noise(), 3, ablation)

    scores = scores_of(Integrated(points=8), model, task)

    gain = separations(model, task, torch.ones(9)) - separations(model, task, torch.zeros(9))
    assert torch.allclose(scores.sum(1), gain, atol=1e-4)
    assert gain.abs().max() > 0.05
    # gradients at the full model alone, the first round of the iteration, do not sum to it
    first = scores_of(Iterative(rounds=1), model, task)
    assert not torch.allclose(first.sum(1), gain, atol=1e-3)
    nearly = torch.ones(9)
    nearly[5] -= 0.01
    slope = (separations(model, task, torch.ones(9)) - separations(model, task, nearly)) / 0.01
    assert torch.allclose(first[:, 5].double(), slope.double(), atol=2e-3)


def test_gradients_are_differences_of_the_separation() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    samples = noise()
    task = make_task(model, Samples(samples.inputs.double(), samples.labels), 3)
    gates = torch.tensor([1.0, 0.0, 0.5, 1.0])
    sites, step = find_sites(model, task.samples.inputs), 1e-3

    with searched(model, sites, task, torch.Generator()) as here:
        gradients = shared_gradients(here, gates)

    for unit in range(4):
        up, down = gates.clone(), gates.clone()
        up[unit] += step
        down[unit] -= step
        slope = (separations(model, task, up) - separations(model, task, down)) / (2 * step)
        assert torch.allclose(gradients[:, unit], slope.float(), atol=1e-3)


def test_every_class_has_the_gradient_it_has_alone() -> None:
    model = build_model("simple-cnn", (1, 8, 8), 3, seed=1, widths=(3, 5))
    task = make_task(model, noise(), 3, "resample")
    sites = find_sites(model, task.samples.inputs)
    masks = torch.rand(3, 8, generator=torch.Generator().manual_seed(0)) > 0.4
    rows = contrast_rows(task.samples.labels, 3, None, torch.Generator())

    with searched(model, sites, task, torch.Generator()) as here:
        together = own_gradients(here, masks, rows)
        alone = [shared_gradients(here, masks[c].float())[c] for c in range(3)]

    assert torch.allclose(together, torch.stack(alone), atol=1e-5)


def test_long_inputs_are_cut_into_parts_without_a_difference() -> None:
    model = build_model("mlp", (1, 8, 8), 3, seed=1, widths=(6,))
    task = make_task(model, noise(), 3, "resample")
    whole = [scores_of(m, model, task) for m in (Integrated(), Iterative(), LeaveOneOut())]

    task = in_parts(task, model, find_sites(model, task.samples.inputs), 7)

    for method, expected in zip((Integrated(), Iterative(), LeaveOneOut(batch=4)), whole,
                                strict=True):  # fmt: skip
        assert torch.allclose(scores_of(method, model, task), expected, atol=1e-5)


@given(st.lists(st.integers(0, 3), min_size=6, max_size=30), st.integers(1, 4), st.integers(0, 9))
def test_rows_hold_all_samples_of_a_class_and_some_of_every_other(
    drawn: list[int], negatives: int, seed: int
) -> None:
    labels = torch.tensor([0, 2, *drawn])

    rows = contrast_rows(labels, 5, negatives, torch.Generator().manual_seed(seed))

    present = labels.unique().tolist()
    assert rows.targets.unique().tolist() == present
    for target in present:
        mine = rows.targets == target
        picked, weights = rows.samples[mine], rows.weights[mine]
        assert len(picked.unique()) == len(picked)
        for other in present:
            of = labels[picked] == other
            total = int((labels == other).sum())
            assert int(of.sum()) == (total if other == target else min(total, negatives))
            share = 1.0 if other == target else -1.0 / (len(present) - 1)
            assert weights[of].sum().item() == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_leave_one_out_is_the_loss_from_one_unit_after_the_other(ablation: Ablation) -> None:
    model = build_model("simple-cnn", (1, 8, 8), 3, seed=1, widths=(3, 5))
    task = make_task(model, noise(), 3, ablation)

    found = scores_of(LeaveOneOut(), model, task)

    full = separations(model, task, torch.ones(8))
    for unit in range(8):
        gates = torch.ones(8)
        gates[unit] = 0.0
        assert torch.allclose(found[:, unit], full - separations(model, task, gates), atol=1e-5)


def test_leave_one_out_runs_one_circuit_more_than_there_are_units() -> None:
    model, truth = planted_mlp()
    samples = planted_samples(2, seed=0)
    found = LeaveOneOut(size=Mass())(
        model, find_sites(model, samples.inputs), make_task(model, samples, N_CLASSES),
        torch.Generator(),
    )  # fmt: skip

    assert found.cost.forward_images == (truth.shape[1] + 1) * len(samples)
    assert found.cost.backward_images == 0


@pytest.mark.parametrize("name", ["integrated", "iterative", "leave-one-out"])
def test_planted_circuits_rank_first(name: str) -> None:
    model, truth = planted_mlp()
    samples = planted_samples(20, seed=0)
    method = discovery_method(name)

    found = method(model, find_sites(model, samples.inputs), make_task(model, samples, N_CLASSES),
                   torch.Generator())  # fmt: skip

    best = found.scores.argsort(dim=1, descending=True)[:, :3]  # a circuit has three units
    assert torch.equal(torch.zeros_like(truth).scatter_(1, best, True), truth)
    assert (found.masks & truth).sum(1).eq(3).all()


def test_sizes_fall_by_a_constant_factor_to_the_share_kept() -> None:
    assert schedule(160, 0.25, 3) == (160, 80, 40)
    assert schedule(160, 0.25, 1) == (160,)
    assert schedule(3, 0.01, 2) == (3, 1)
    assert schedule(10, 1.0, 3) == (10, 10, 10)


def test_the_best_units_leave_no_site_empty() -> None:
    sites = (Site("a", 3, 1, "a"), Site("b", 2, 1, "b"))
    scores = torch.tensor([[5.0, 4.0, 1.0, -9.0, -2.0], [0.0, 1.0, 0.0, 3.0, 2.0]])

    assert best_units(scores, sites, 2).tolist() == [
        [True, True, False, False, True],
        [False, True, False, True, True],
    ]


class Gates(nn.Module):
    """``min(a, b) + c`` for class 0: unit a is worth nothing once b is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.units.weight.copy_(torch.eye(3))
            self.head.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.units(x)
        return self.head(torch.stack([torch.minimum(h[:, 0], h[:, 1]), h[:, 2]], dim=1))


def test_iterative_scores_are_those_at_the_circuit_of_the_last_round() -> None:
    model = Gates()
    samples = Samples(torch.tensor([[2.0, 3.0, 4.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 1]))
    task = Task(samples, 2, None)

    first = scores_of(Iterative(rounds=1), model, task)[0]
    second = scores_of(Iterative(rounds=2, keep=1 / 3), model, task)[0]

    # at the full model min(2, 3) moves with a and c is worth 4: with only c open, b is what holds
    # the minimum (0 against 0: both halves) down
    assert first[0] > 0
    assert first[1] == 0
    assert first[2] == pytest.approx(2 * float(first[0]))
    assert second[1] > 0  # a unit of no effect at the full model comes back
    assert second[2] == pytest.approx(float(first[2]))
