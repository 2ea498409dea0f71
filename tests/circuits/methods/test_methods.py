"""What every discovery method keeps to: a new method is one more name in the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from method_helpers import N_BANDS as N_CLASSES
from method_helpers import banded, make_task, trained
from torch import Tensor, nn

from fedcircuit.circuits.masking.ablation import Ablation
from fedcircuit.circuits.methods.named import METHOD_NAMES, discovery_method
from fedcircuit.circuits.search.protocol import Discovery, Task
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples

QUICK: dict[str, dict[str, object]] = {"gates": {"steps": 6}, "fedmi": {"steps": 6}}
CONTRASTIVE = ("attribution", "integrated", "iterative", "gates", "leave-one-out")
ONE_CLASS_AT_A_TIME = tuple(name for name in METHOD_NAMES if name not in CONTRASTIVE)
# those that see all samples, whatever their order
ORDERLESS = ("integrated", "leave-one-out", "magnitude", "mean-activation", "random")
KINDS = ("simple-cnn", "mlp")

every_method = pytest.mark.parametrize("name", METHOD_NAMES)


def run(
    name: str, kind: str = "simple-cnn", task: Task | None = None, seed: int = 0, **options: object
) -> Discovery:
    model = trained(kind)
    task = make_task(model, banded(), N_CLASSES) if task is None else task
    method = discovery_method(name, **{**QUICK.get(name, {}), **options})
    sites = find_sites(model, task.samples.inputs)
    return method(model, sites, task, torch.Generator().manual_seed(seed))


def kinds_of(name: str) -> tuple[str, ...]:
    return KINDS[:1] if name == "fedmi" else KINDS  # it gates convolutions only


@every_method
def test_results_have_their_shapes_and_the_network_its_circuits(name: str) -> None:
    for kind in kinds_of(name):
        found = run(name, kind)

        n_units = sum(site.n_units for site in found.sites)
        assert discovery_method(name).name == name
        assert found.masks.shape == found.scores.shape == (N_CLASSES, n_units)
        assert found.masks.dtype == found.found.dtype == torch.bool
        assert found.scores.is_floating_point()
        assert not found.scores.isnan().any()
        assert found.found.all()
        assert found.masks.any(1).all()
        assert found.reasons == ("",) * N_CLASSES
        assert len(found.converged) == N_CLASSES
        assert len(found.curves) in (0, N_CLASSES)
        assert found.cost.forward_images >= 0 <= found.cost.backward_images


@every_method
def test_circuits_depend_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = run(name, seed=5)
    torch.manual_seed(2)  # the global generator is not looked at
    second = run(name, seed=5)

    assert torch.equal(first.masks, second.masks)
    assert torch.equal(first.scores, second.scores)


@pytest.mark.parametrize("name", ["gates", "random", "fedmi", "iterative"])
def test_methods_that_draw_at_random_give_others_for_another_seed(name: str) -> None:
    assert not torch.equal(
        run(name, seed=1, **NARROW.get(name, {})).scores,
        run(name, seed=2, **NARROW.get(name, {})).scores,
    )


NARROW: dict[str, dict[str, object]] = {
    "iterative": {"negatives": 1},
    "fedmi": {"batch_size": 4},
}


def hooks(model: nn.Module) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in model.modules()]  # fmt: skip


@every_method
def test_the_model_comes_back_as_it_went(name: str) -> None:
    model = build_model("resnet", (1, 8, 8), N_CLASSES, seed=0, widths=(4, 4)).train()
    next(model.children()).eval()  # a mode of its own
    next(model.parameters()).requires_grad_(False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    data = banded(16)
    method = discovery_method(name, **QUICK.get(name, {}))
    sites = find_sites(model, data.inputs)

    method(model, sites, make_task(model, data, N_CLASSES), torch.Generator().manual_seed(0))

    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks(model) == [0] * len(modes)


@every_method
def test_a_method_that_raises_leaves_no_hook_behind(name: str) -> None:
    model = build_model("simple-cnn", (1, 8, 8), N_CLASSES, seed=0, widths=(3,)).train()
    data = banded(8)
    sites = find_sites(model, data.inputs)
    spoiled = Task(Samples(data.inputs[:, :, :1], data.labels), N_CLASSES, None)  # too few rows
    method = discovery_method(name, **QUICK.get(name, {}))

    with pytest.raises(RuntimeError):
        method(model, sites, spoiled, torch.Generator())

    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(hooks(model))


@every_method
def test_absent_classes_have_no_circuit_and_a_reason(name: str) -> None:
    data = banded()
    found = run(name, task=make_task(trained("simple-cnn"), data.take(data.labels != 2), N_CLASSES))

    assert found.found.tolist() == [True, True, False, True]
    assert found.reasons == ("", "", "no sample of the class", "")
    assert found.scores[2].isnan().all()
    assert not found.masks[2].any()
    assert found.circuit(2) is None


@pytest.mark.parametrize("name", [n for n in METHOD_NAMES if n != "fedmi"])
def test_a_class_without_others_cannot_be_contrasted(name: str) -> None:
    data = banded()
    found = run(name, task=make_task(trained("simple-cnn"), data.take(data.labels == 1), N_CLASSES))

    assert not found.found.any()
    assert found.reasons[1] == "no sample of any other class"
    assert found.reasons[0] == "no sample of the class"
    assert found.scores.isnan().all()


@pytest.mark.parametrize("name", [n for n in ONE_CLASS_AT_A_TIME if n != "fedmi"])
def test_a_class_taken_away_leaves_the_circuits_of_the_others(name: str) -> None:
    task = make_task(trained("simple-cnn"), banded(), N_CLASSES)
    fewer = Task(task.samples.take(task.samples.labels != 2), N_CLASSES, task.reference)

    together, without = run(name, task=task), run(name, task=fewer)

    others = [0, 1, 3]
    assert torch.equal(together.masks[others], without.masks[others])


@pytest.mark.parametrize("name", [n for n in METHOD_NAMES if n in ORDERLESS])
def test_the_order_of_samples_does_not_matter(name: str) -> None:
    task = make_task(trained("simple-cnn"), banded(), N_CLASSES)
    order = torch.randperm(len(task.samples), generator=torch.Generator().manual_seed(4))
    shuffled = Task(task.samples.take(order), N_CLASSES, task.reference)

    first, second = run(name, task=task), run(name, task=shuffled)

    assert torch.allclose(first.scores, second.scores, atol=1e-4)
    assert torch.equal(first.masks, second.masks)


@pytest.mark.parametrize("name", [n for n in CONTRASTIVE if n != "gates"])
def test_classes_named_otherwise_have_the_same_circuits(name: str) -> None:
    """Head and labels renamed together: the circuit of a class goes with its name."""
    model, names = trained("mlp"), torch.tensor([2, 0, 3, 1])  # old to new
    renamed = build_model("mlp", (1, 8, 8), N_CLASSES, seed=1, widths=(10, 7))
    renamed.load_state_dict(model.state_dict())
    head = [m for m in renamed.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in (head.weight, head.bias):
            parameter[names] = parameter.clone()
    task = make_task(model, banded(), N_CLASSES)
    other = Task(Samples(task.samples.inputs, names[task.samples.labels]), N_CLASSES,
                 task.reference)  # fmt: skip
    options = {"negatives": None} if name == "iterative" else {}
    method, sites = discovery_method(name, **options), find_sites(model, task.samples.inputs)

    first = method(model, sites, task, torch.Generator())
    second = method(renamed, sites, other, torch.Generator())

    assert torch.allclose(second.scores[names], first.scores, atol=1e-4)
    assert torch.equal(second.masks[names], first.masks)


@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
@every_method
def test_every_ablation_is_understood(name: str, ablation: Ablation) -> None:
    found = run(name, task=make_task(trained("simple-cnn"), banded(), N_CLASSES, ablation))

    assert found.found.all()


@pytest.mark.parametrize("name", [n for n in METHOD_NAMES if n in CONTRASTIVE])
def test_a_reference_for_each_sample_is_read_for_the_right_one(name: str) -> None:
    """The mean reference, once for all and once repeated for each sample, is the same."""
    task = make_task(trained("simple-cnn"), banded(), N_CLASSES)
    assert task.reference is not None
    n = len(task.samples)
    repeated = {key: v.expand(n, *v.shape[1:]).clone() for key, v in task.reference.items()}

    first, second = run(name, task=task), run(name, task=Task(task.samples, N_CLASSES, repeated))

    assert torch.allclose(first.scores, second.scores, atol=1e-4)
    assert torch.equal(first.masks, second.masks)


def recognised(name: str) -> Tensor:
    """Mean score of the units that alone know a class, less that of the others; one a class."""
    found = run(name, "mlp")
    best = run("leave-one-out", "mlp").masks
    return torch.stack(
        [row[own].mean() - row[~own].mean() for row, own in zip(found.scores, best, strict=True)]
    )


@pytest.mark.parametrize("name", ["attribution", "integrated", "iterative"])
def test_gradients_agree_with_what_single_units_do(name: str) -> None:
    assert (recognised(name) > 0).all()


Wrong = Callable[[], object]
REFUSALS: tuple[tuple[Wrong, str], ...] = (
    (lambda: discovery_method("integrated", points=0), "points must be >= 1, got 0"),
    (lambda: discovery_method("iterative", rounds=0), "rounds must be >= 1, got 0"),
    (lambda: discovery_method("iterative", keep=0), r"keep must lie in \(0, 1\], got 0"),
    (lambda: discovery_method("iterative", negatives=0), "negatives must be >= 1, got 0"),
    (lambda: discovery_method("leave-one-out", batch=0), "batch must be >= 1, got 0"),
    (lambda: discovery_method("gates", kind="soft"), "kind must be one of .* got 'soft'"),
    (lambda: discovery_method("gates", steps=0), "steps must be >= 1, got 0"),
    (lambda: discovery_method("random", size="most"), "kind of a size rule .* got 'most'"),
    (lambda: discovery_method("random", size={"kind": "mass", "rho": 1}), "no option 'rho'"),
    (lambda: discovery_method("random", size={"kind": "mass", "share": 2}), "share must lie in"),
)


@pytest.mark.parametrize(("wrong", "message"), REFUSALS)
def test_parameters_out_of_range_are_refused(wrong: Wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()
