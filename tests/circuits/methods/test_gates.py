import pytest
import torch
from method_helpers import N_BANDS, banded, make_task, noise, trained
from planted_helpers import LOUD, N_CLASSES, UNREACHED, planted_mlp, planted_samples

from fedcircuit.circuits.circuit import split_by_site
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.methods.gates import Kind, LearnedGates, _Search
from fedcircuit.circuits.search.protocol import Discovery, Task
from fedcircuit.circuits.search.searched_model import searched
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples

KINDS: tuple[Kind, ...] = ("hard-concrete", "straight-through")


def run(samples: Samples, method: LearnedGates) -> Discovery:
    model, _ = planted_mlp()
    sites = find_sites(model, samples.inputs)
    reference = reference_activations(model, sites, samples, n_classes=N_CLASSES, ablation="mean")
    task = Task(samples, N_CLASSES, reference)
    return method(model, sites, task, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gates_keep_the_planted_units_and_drop_those_nobody_reads(
    kind: Kind, warm_start: bool
) -> None:
    _, truth = planted_mlp()
    method = LearnedGates(kind=kind, steps=120, warm_start=warm_start)

    found = run(planted_samples(40, seed=0), method)

    assert found.found.all()
    assert bool((found.masks & truth).sum(1).ge(2).all())
    assert not found.masks[:, [LOUD, UNREACHED]].any()


def test_circuits_alone_still_recognise_their_class() -> None:
    model, _ = planted_mlp()
    samples = planted_samples(40, seed=1)
    sites = find_sites(model, samples.inputs)
    reference = reference_activations(model, sites, samples, n_classes=N_CLASSES, ablation="mean")
    found = run(samples, LearnedGates())

    for index in range(N_CLASSES):
        with (
            torch.no_grad(),
            gated(model, sites, split_by_site(found.masks[index], sites), reference),
        ):
            said = model(samples.inputs).argmax(1) == index
        assert said[samples.labels == index].float().mean() > 0.9
        assert said[samples.labels != index].float().mean() < 0.1


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_class_alone_gives_the_gates_it_has_among_all(kind: Kind, warm_start: bool) -> None:
    model = build_model("simple-cnn", (1, 8, 8), 3, seed=1, widths=(3, 5))
    task = make_task(model, noise(), 3, "resample")
    sites = find_sites(model, task.samples.inputs)
    method = LearnedGates(kind=kind, steps=15, still_steps=2, warm_start=warm_start)

    def search(classes: list[int]) -> _Search:
        with searched(model, sites, task, torch.Generator().manual_seed(7)) as here:
            return _Search(method, here, classes)

    together, alone = search([0, 1, 2]), search([2])

    assert torch.allclose(together.theta[2], alone.theta[0], atol=1e-4)
    assert torch.equal(together.best_masks[2], alone.best_masks[0])
    assert together.still[2] == alone.still[0]


def test_straight_through_gates_do_not_move_in_lockstep() -> None:
    model = trained("simple-cnn")
    task = make_task(model, banded(), N_BANDS)
    method = LearnedGates(kind="straight-through", steps=6, lr=0.1, init=2.0)
    sites = find_sites(model, task.samples.inputs)

    moved = method(model, sites, task, torch.Generator()).scores - 2.0

    # by signs alone each gate would have moved by a whole number of steps of 0.1
    steps = (moved / 0.1).abs()
    assert (steps - steps.round()).abs().gt(0.05).float().mean() > 0.5


def test_a_warm_start_is_in_the_order_of_attribution() -> None:
    model, truth = planted_mlp()
    samples = planted_samples(20, seed=0)
    task = make_task(model, samples, N_CLASSES)
    sites = find_sites(model, samples.inputs)
    method = LearnedGates(warm_start=True, steps=1, lr=0.0, init=0.5)

    with searched(model, sites, task, torch.Generator()) as here:
        theta = _Search(method, here, [3, 5]).theta.detach()

    best = theta.argsort(dim=1, descending=True)[:, :3]
    assert torch.equal(torch.zeros_like(truth[:2]).scatter_(1, best, True), truth[[3, 5]])
    assert torch.allclose(theta.mean(1), torch.full((2,), 0.5), atol=1e-4)
    assert torch.allclose(theta.std(1), torch.ones(2), atol=0.05)


def test_other_classes_are_negatives_as_often_as_each_other() -> None:
    labels = torch.cat([torch.zeros(20), torch.ones(300), torch.full((20,), 2.0)]).long()
    model = build_model("mlp", (1, 8, 8), 3, seed=1, widths=(4,))
    task = make_task(model, Samples(torch.zeros(340, 1, 8, 8), labels), 3)
    sites = find_sites(model, task.samples.inputs)
    method = LearnedGates(steps=1, samples=400)

    with searched(model, sites, task, torch.Generator()) as here:
        index, rows = _Search(method, here, [0, 2])._draw()

    drawn = labels[index].reshape(2, 2, 400)  # class, own or other, sample
    assert rows.tolist() == [0] * 800 + [1] * 800
    assert (drawn[0, 0] == 0).all()
    assert (drawn[1, 0] == 2).all()
    # 400 fair coins: standard deviation of the share .025
    assert (drawn[0, 1] == 2).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert (drawn[0, 1] == 1).float().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("l0", "closing_pays"), [(0.01, False), (9.0, True)])
def test_a_mask_replaces_the_best_so_far_only_if_it_is_better(
    l0: float, closing_pays: bool
) -> None:
    model = trained("simple-cnn")
    task = make_task(model, banded(), N_BANDS)
    sites = find_sites(model, task.samples.inputs)
    method = LearnedGates(steps=1, l0=l0)  # after one step all gates are open still

    with searched(model, sites, task, torch.Generator().manual_seed(0)) as here:
        search = _Search(method, here, [0, 1])
        assert search.best_masks.all()
        closed = torch.zeros_like(search.best_masks)
        search._keep_best(closed, torch.tensor([True, False]))  # class 1 has come to rest

    assert search.best_masks.any(1).tolist() == [not closing_pays, True]


def test_standing_still_is_reported() -> None:
    samples = planted_samples(20, seed=0)

    assert run(samples, LearnedGates(steps=2)).converged == (False,) * N_CLASSES
    assert run(samples, LearnedGates(steps=300)).converged == (True,) * N_CLASSES
