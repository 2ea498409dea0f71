"""One budget in bytes: one sample is counted, and what is found does not depend on it."""

from dataclasses import replace

import pytest
import torch
from memory_helpers import scarce
from planted_helpers import planted_mlp, planted_samples
from torch import nn

from fedcircuit import CircuitSettings, Probe, Samples, discover
from fedcircuit.circuits.masking.ablation import Ablation
from fedcircuit.circuits.masking.masking import masked_model
from fedcircuit.circuits.masking.memory import Memory
from fedcircuit.circuits.methods.named import METHOD_NAMES, discovery_method
from fedcircuit.circuits.round.model_circuits import circuits_of_model
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model

N_CLASSES = 4


def cnn() -> nn.Module:
    return build_model("simple-cnn", (1, 8, 8), N_CLASSES, seed=1, widths=(4, 6))


def probe(per_class: int = 8, kind: torch.dtype = torch.float32) -> Probe:
    labels = torch.arange(N_CLASSES * per_class) % N_CLASSES
    inputs = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs[torch.arange(len(labels)), 0, labels] += 2.0
    return Probe.split(Samples(inputs.to(kind), labels), list("abcd"), 0)


def test_what_a_sample_takes_by_hand() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    sites = find_sites(model, torch.ones(1, 3))

    found = Memory.of(model, sites, torch.ones(9, 3), budget=2**20)

    # floats of four bytes: 5 sums, 5 activations, their copy as a leaf, 2 logits; one site
    assert (found.sites, found.largest, found.n_units) == (20, 20, 5)
    assert found.made == (5 + 5 + 5 + 2) * 4
    double = Memory.of(model.double(), sites, torch.ones(9, 3).double(), budget=2**20)
    assert (double.made, double.sites) == (2 * found.made, 40)


def test_rows_follow_from_bytes() -> None:
    memory = Memory(budget=10_000, made=100, sites=40, largest=20, n_units=5)
    # half of the budget; 4 * 20 + 16 * 5 and 100 + 3 * 40, or 2 * 40
    assert memory.rows(graph=True) == 5000 // 380
    assert memory.rows(graph=False) == 5000 // 240
    assert memory.rows(graph=True, most=4) == 4
    assert replace(memory, budget=1).rows(graph=True) == 1
    assert memory.fits(1250)
    assert not memory.fits(1251)
    assert memory.held(100, most=1000) == 12


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_that_is_none_is_refused(budget: int) -> None:
    with pytest.raises(ValueError, match=f"memory_bytes must be >= 1, got {budget}"):
        discover(cnn(), probe(), memory_bytes=budget)
    with pytest.raises(ValueError, match="memory_bytes must be >= 1"):
        CircuitSettings(memory_bytes=budget)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_same_circuits_whatever_the_budget(method: str) -> None:
    model, samples = cnn().double(), probe(4, torch.float64)
    ablation: Ablation = "zero" if method == "gates" else "mean"
    options = {"steps": 8} if method in ("gates", "fedmi") else {}
    small, large = (
        discover(
            model,
            samples,
            method=discovery_method(method, **options),
            ablation=ablation,
            memory_bytes=size,
        )
        for size in (1, 2**29)
    )
    assert torch.equal(small.masks, large.masks)
    assert torch.allclose(small.scores, large.scores, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_row_attribution_of_many_classes_does_not_depend_on_the_budget() -> None:
    labels = torch.arange(44) % 22
    inputs = torch.randn(44, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    many = Probe.split(Samples(inputs, labels), [str(c) for c in range(22)], 0)
    model = build_model("simple-cnn", (1, 8, 8), 22, seed=1, widths=(4, 6)).double()

    small, large = (discover(model, many, memory_bytes=size) for size in (1, 2**29))

    assert torch.equal(small.masks, large.masks)
    assert torch.allclose(small.scores, large.scores, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_planted_circuits_are_found_one_sample_at_a_time() -> None:
    model, truth = planted_mlp()
    samples = planted_samples(20, 0)
    task = Probe(samples, samples, tuple(str(c) for c in range(len(truth))))
    assert torch.equal(discover(model, task, memory_bytes=1).masks, truth)


def test_checks_do_not_depend_on_the_budget() -> None:
    model, samples = cnn().double(), probe(6, torch.float64)
    small, large = (
        circuits_of_model(
            model, samples, CircuitSettings(memory_bytes=size, minimality=True, stability=True)
        )
        for size in (1, 2**29)
    )
    assert torch.equal(small.masks, large.masks)
    for one, two in zip(small.validity, large.validity, strict=True):
        assert one.status == two.status
        numbers = ("full_recall", "recall", "fpr", "auroc", "faithfulness", "necessity")
        for name in (*numbers, "minimality", "null_balanced_accuracy", "selective_necessity_10"):
            mine, other = getattr(one, name), getattr(two, name)
            assert mine == pytest.approx(other, abs=1e-6, nan_ok=True), name


def test_no_pass_is_longer_than_the_memory_allows() -> None:
    model, samples = cnn(), probe(40)
    sites = find_sites(model, samples.discovery.inputs)
    memory = scarce(Memory.of(model, sites, samples.discovery.inputs), 5)
    lengths: list[int] = []
    handle = model[0].register_forward_pre_hook(lambda _, args: lengths.append(len(args[0])))

    discover(model, samples, memory_bytes=memory.budget)
    circuits = torch.ones(3, memory.n_units, dtype=torch.bool)
    masked_model(model, sites, samples.checking.inputs, None, memory=memory).logits(circuits)

    handle.remove()
    assert max(lengths) <= memory.rows(graph=False) < len(samples.discovery)
    assert max(lengths) > 1


def test_resample_ablation_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"keeps the activations of all 16 samples, .* bytes, and"):
        discover(cnn(), probe(), ablation="resample", memory_bytes=1000)
    assert discover(cnn(), probe(), ablation="resample").masks.shape == (4, 10)
