import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory_helpers import in_parts
from planted_helpers import N_CLASSES, planted_mlp, planted_samples
from torch import nn

from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.masking.ablation import observed_reference, reference_activations
from fedcircuit.circuits.methods.attribution import Attribution
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.search.effects import mean_effects
from fedcircuit.circuits.search.protocol import Meter, Task, frozen
from fedcircuit.circuits.search.searched_model import SearchedModel
from fedcircuit.circuits.search.top_units import mass_rule
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


def noise(n_classes: int = 4, n: int = 40, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    return Samples(torch.randn(n, 1, 8, 8, generator=generator), labels)


def task(model: torch.nn.Module, samples: Samples, n_classes: int, ablation: str = "mean") -> Task:
    sites = find_sites(model, samples.inputs)
    reference = reference_activations(model, sites, samples, n_classes=n_classes, ablation=ablation)
    return Task(samples, n_classes, reference)


def effects(logits: torch.Tensor, labels: torch.Tensor, target: int) -> list[torch.Tensor]:
    """Mean contrast of a target class on the samples of every class, by its definition."""
    found = []
    for label in range(logits.shape[1]):
        rows = logits[labels == label]
        others = [j for j in range(logits.shape[1]) if j not in (target, label)]
        found.append((rows[:, target] - rows[:, others].mean(1)).mean())
    return found


@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_scores_are_derivatives_of_the_separations_from_the_other_classes(
    ablation: str,
) -> None:
    samples = noise()
    model = build_model("simple-cnn", (1, 8, 8), 4, seed=1, widths=(3, 5))
    sites = find_sites(model, samples.inputs)
    problem = task(model, samples, 4, ablation)

    found = Attribution(confidence=0)(model, sites, problem, torch.Generator())

    for index in range(4):
        gates = torch.ones(8, requires_grad=True)
        with gated(model, sites, split_by_site(gates, sites), problem.reference):
            values = effects(model(samples.inputs), samples.labels, index)
        slopes = [torch.autograd.grad(value, gates, retain_graph=True)[0] for value in values]
        against = torch.stack([-slopes[other] for other in range(4) if other != index])
        others = (against.amax(0) + against.mean(0)) / 2
        assert torch.allclose(found.scores[index], slopes[index] + others, atol=1e-5)


def test_circuits_of_a_planted_network_are_found_exactly() -> None:
    model, truth = planted_mlp()
    samples = planted_samples(40, seed=0)
    sites = find_sites(model, samples.inputs)

    found = Attribution()(model, sites, task(model, samples, N_CLASSES), torch.Generator())

    assert torch.equal(found.masks, truth)
    assert found.found.all()


def test_many_classes_at_once_average_over_the_others() -> None:
    model, truth = planted_mlp()
    samples = planted_samples(40, seed=1)
    sites = find_sites(model, samples.inputs)
    problem = task(model, samples, N_CLASSES)
    rows = Attribution(max_jacobian_classes=1, copies=N_CLASSES - 1)

    by_rows = rows(model, sites, problem, torch.Generator().manual_seed(0))

    here = SearchedModel(model, sites, problem, torch.Generator(), Meter())
    for index in range(N_CLASSES):
        target = torch.full_like(samples.labels, index)
        (found,) = mean_effects(here, [target])
        others = torch.cat([found.mean[:index], found.mean[index + 1 :]]).mean(0)
        assert torch.allclose(by_rows.scores[index], found.mean[index] - others, atol=1e-4)
    assert torch.equal(by_rows.masks, truth)


@pytest.mark.parametrize("resampled", [False, True])
def test_more_samples_than_fit_in_a_pass_score_the_same(resampled: bool) -> None:
    samples = noise()
    model = build_model("simple-cnn", (1, 8, 8), 4, seed=1, widths=(3, 5))
    sites = find_sites(model, samples.inputs)
    problem = task(model, samples, 4)
    if resampled:
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
        each = {s.name: torch.rand(len(samples), s.n_units, 4 // 2**i, 4 // 2**i)[order]
                for i, s in enumerate(sites)}  # fmt: skip
        problem = Task(samples, 4, each)
    whole = Attribution()(model, sites, problem, torch.Generator())

    parts = Attribution()(model, sites, in_parts(problem, model, sites, 7), torch.Generator())

    assert torch.allclose(parts.scores, whole.scores, atol=1e-5)
    assert parts.cost.backward_images == whole.cost.backward_images


def test_rows_are_compared_with_the_references_of_their_own_samples() -> None:
    samples = noise()
    model = build_model("mlp", (1, 8, 8), 4, seed=0, widths=(6,))
    sites = find_sites(model, samples.inputs)
    rows = Attribution(max_jacobian_classes=1, copies=3)
    random = torch.Generator().manual_seed(0)
    each = {sites[0].name: torch.rand(len(samples), 6, generator=random)}

    found = rows(model, sites, Task(samples, 4, each), torch.Generator().manual_seed(0))

    order = torch.randperm(len(samples), generator=random)  # samples and references together
    moved = {name: value[order] for name, value in each.items()}
    again = rows(model, sites, Task(samples.take(order), 4, moved), torch.Generator())
    assert torch.allclose(found.scores, again.scores, atol=1e-5)  # every other class is drawn
    mean = {name: value.mean(0, keepdim=True) for name, value in each.items()}
    assert not torch.allclose(found.scores, rows(model, sites, Task(samples, 4, mean),
                              torch.Generator()).scores, atol=1e-3)  # fmt: skip


def test_a_unit_that_matters_against_one_class_alone_is_in_the_circuit() -> None:
    # class 0 has one detector; class 1's samples show it too, and a veto switches it off there
    head = nn.Linear(3, 4, bias=False)
    head.weight = nn.Parameter(torch.zeros(4, 3))
    head.weight.data[0, 0], head.weight.data[0, 1] = 1.0, -1.0  # detector, veto
    head.weight.data[1, 2] = 1.0  # another class's own detector
    first = nn.Linear(3, 3, bias=False)
    first.weight = nn.Parameter(torch.eye(3))
    inputs = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]).repeat(5, 1)
    samples = Samples(inputs, torch.arange(4).repeat(5))
    model = nn.Sequential(first, nn.ReLU(), head)
    sites = find_sites(model, inputs)

    found = Attribution()(model, sites, task(model, samples, 4), torch.Generator())

    # Means: detector .5, veto .25. Detector: .5 on class 0, .5 on class 1, -.5 on 2 and 3: against
    # the best class .5 + .5, against all .5 + .5 / 3.
    # Veto: .25 on class 0, -.75 on class 1, .25 on 2 and 3: 1 against the best, 1 / 3 against all.
    wanted = torch.tensor([(1 + 2 / 3) / 2, (1 + 1 / 3) / 2])
    assert torch.allclose(found.scores[0, :2], wanted)
    assert found.scores[0, 2] < 0.1
    assert found.masks[0].tolist() == [True, True, False]


def test_an_absent_class_has_no_circuit_and_a_reason() -> None:
    samples = noise()
    kept = samples.take(samples.labels != 2)
    model = build_model("mlp", (1, 8, 8), 4, seed=0, widths=(6,))

    found = Attribution(confidence=0)(
        model, find_sites(model, kept.inputs), task(model, kept, 4), torch.Generator()
    )

    assert found.found.tolist() == [True, True, False, True]
    assert found.reasons[2] == "no sample of the class"
    assert found.scores[2].isnan().all()
    assert found.circuit(2) is None


def test_the_model_comes_back_as_it_went() -> None:
    samples = noise()
    model = build_model("resnet", (1, 8, 8), 4, seed=0, widths=(4, 4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    Attribution()(model, find_sites(model, samples.inputs), task(model, samples, 4),
                  torch.Generator())  # fmt: skip

    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


SITES = (Site("a", 3, 1, "a"), Site("b", 2, 1, "b"))


def test_the_mass_rule_takes_the_fewest_units_and_one_in_every_site() -> None:
    scores = torch.tensor([[5.0, 4.0, 1.0, -9.0, -2.0], [0.0, -1.0, 0.0, 0.0, -3.0]])

    masks = mass_rule(scores, SITES, share=0.9)

    # 5 + 4 = .9 of 10; site b keeps its best although it is negative; no positive mass: nothing
    assert masks.tolist() == [[True, True, False, False, True], [False] * 5]


@given(st.lists(st.floats(0.01, 10), min_size=5, max_size=5), st.floats(0.05, 1.0))
def test_no_smaller_set_holds_the_share_of_the_mass(values: list[float], share: float) -> None:
    one_site = (Site("a", 5, 1, "a"),)

    kept = mass_rule(torch.tensor([values]), one_site, share=share)[0]

    scores = np.array(values, dtype=np.float32)
    mass, total = scores[kept.numpy()].sum(), scores.sum()
    assert mass >= share * total * (1 - 1e-5)
    assert mass - scores[kept.numpy()].min() < share * total * (1 + 1e-5)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="positives must be >= 1, got 0"):
        Attribution(positives=0)
    with pytest.raises(ValueError, match="negatives must be >= 1"):
        Attribution(negatives=0)


@pytest.mark.parametrize("options", [{}, {"negatives": 8}, {"positives": 5}])
def test_a_graph_that_was_kept_saves_a_pass_and_changes_nothing(options: dict) -> None:
    samples = noise()
    model = build_model("simple-cnn", (1, 8, 8), 4, seed=1, widths=(3, 5))
    sites = find_sites(model, samples.inputs)
    with evaluating(model), frozen(model):
        reference, seen = observed_reference(
            model, sites, samples, n_classes=4, ablation="mean", graph=True
        )
    plain, known = Task(samples, 4, reference), Task(samples, 4, reference, seen)
    method = Attribution(**options)
    expected = method(model, sites, plain, torch.Generator())
    for _ in range(2):  # a graph serves more than once
        found = method(model, sites, known, torch.Generator())
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.masks, expected.masks)
    saved = expected.cost.forward_images - found.cost.forward_images
    assert saved >= (0 if "positives" in options else len(samples))
    assert found.cost.backward_images == expected.cost.backward_images
