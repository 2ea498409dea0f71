import torch
from planted_helpers import LOUD, N_CLASSES, UNREACHED, planted_mlp, planted_samples

from fedcircuit.circuits.ablation import reference_activations
from fedcircuit.circuits.circuit import split_by_site
from fedcircuit.circuits.discovery import Discovery, LearnedGates, Task
from fedcircuit.circuits.sites import find_sites, gated
from fedcircuit.samples import Samples


def run(samples: Samples, method: LearnedGates) -> Discovery:
    model, _ = planted_mlp()
    sites = find_sites(model, samples.inputs)
    reference = reference_activations(model, sites, samples, n_classes=N_CLASSES, ablation="mean")
    task = Task(samples, N_CLASSES, reference)
    return method(model, sites, task, torch.Generator().manual_seed(3))


def test_gates_keep_the_planted_units_and_drop_those_nobody_reads() -> None:
    _, truth = planted_mlp()

    found = run(planted_samples(40, seed=0), LearnedGates(steps=120))

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


def test_a_class_alone_gives_the_gates_it_has_among_all() -> None:
    samples = planted_samples(20, seed=0)
    together = run(samples, LearnedGates(steps=15, still_steps=100))
    two = samples.take(samples.labels != 2)
    # class 2 has no samples: its row is gone, and the negatives of the others have changed
    without = run(two, LearnedGates(steps=15, still_steps=100))

    assert without.found.tolist()[2] is False
    assert without.reasons[2] == "no sample of the class"
    again = run(samples, LearnedGates(steps=15, still_steps=100))
    assert torch.equal(together.scores, again.scores)


def test_standing_still_is_reported() -> None:
    samples = planted_samples(20, seed=0)

    assert run(samples, LearnedGates(steps=2)).converged == (False,) * N_CLASSES
    assert run(samples, LearnedGates(steps=300)).converged == (True,) * N_CLASSES
