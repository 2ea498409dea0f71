import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, planted_mlp, planted_samples

from fedcircuit.circuits.circuit import Circuit, CircuitStack, Site
from fedcircuit.circuits.discovery.one_model import discover
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.methods.attribution import Attribution
from fedcircuit.circuits.methods.named import discovery_method
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.samples import Samples

NAMES = ("a", "b", "c")


def test_one_call_finds_the_planted_circuits() -> None:
    model, truth = planted_mlp()

    found = discover(
        model, Probe.split(planted_samples(40, seed=0), [str(i) for i in range(N_CLASSES)], 0)
    )

    assert torch.equal(found.masks, truth)
    # once over all samples, and for every class over 7 of each of 16 classes: at least 100
    assert found.cost.backward_images == 20 * N_CLASSES + 7 * N_CLASSES * N_CLASSES
    assert found.cost.forward_images > 20 * N_CLASSES  # one pass, and the search for the size


def test_methods_and_options_are_named_with_the_nearest_known_one() -> None:
    assert discovery_method("attribution", positives=9) == Attribution(positives=9)
    with pytest.raises(ValueError, match="unknown discovery method 'atribution'; did you mean"):
        discovery_method("atribution")
    with pytest.raises(ValueError, match="has no option 'step'; did you mean 'steps'"):
        discovery_method("gates", step=3)


def test_the_mean_reference_weighs_every_class_alike() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    samples = Samples(torch.tensor([[1.0], [1.0], [1.0], [5.0]]), torch.tensor([0, 0, 0, 1]))
    sites = find_sites(model, samples.inputs)

    reference = reference_activations(model, sites, samples, n_classes=2, ablation="mean")

    assert reference["0"].item() == pytest.approx(3.0)  # not 2.0, the mean over samples
    assert reference_activations(model, sites, samples, n_classes=2, ablation="zero") is None
    with pytest.raises(ValueError, match="ablation must be one of"):
        reference_activations(model, sites, samples, n_classes=2, ablation="noise")


@given(st.lists(st.integers(0, 2), min_size=3, max_size=40), st.integers(0, 5))
def test_the_halves_of_a_probe_share_no_sample_and_lose_none(labels: list[int], seed: int) -> None:
    counts = [labels.count(index) for index in range(3)]
    samples = Samples(torch.arange(len(labels)).float(), torch.tensor(labels))
    if 1 in counts:
        with pytest.raises(ValueError, match="has 1 sample in the probe"):
            Probe.split(samples, NAMES, seed)
        return

    probe = Probe.split(samples, NAMES, seed)

    both = torch.cat([probe.discovery.inputs, probe.checking.inputs]).sort().values
    assert torch.equal(both, samples.inputs)
    assert probe.discovery.counts(3).tolist() == [(n + 1) // 2 for n in counts]


def test_labels_outside_the_class_names_and_uneven_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must lie in 0..2 .* got 0..3"):
        Probe.split(Samples(torch.zeros(2), torch.tensor([0, 3])), NAMES, 0)
    with pytest.raises(ValueError, match="same length, got 2 and 1"):
        Samples(torch.zeros(2), torch.tensor([0]))
    with pytest.raises(ValueError, match="labels must be int64"):
        Samples(torch.zeros(1), torch.tensor([0.0]))


def test_a_stack_hands_out_circuits_and_none_where_none_was_found() -> None:
    sites = (Site("a", 2, 1, "a"), Site("b", 1, 1, "b"))
    masks = torch.tensor([[[True, False, True], [False, False, False]]])
    stack = CircuitStack(sites, ("global",), masks, torch.tensor([[True, False]]))

    first = stack.circuit("global", 0)

    assert first == Circuit({"a": torch.tensor([True, False]), "b": torch.tensor([True])})
    assert (first.size, first.sizes, first.n_units) == (2, {"a": 1, "b": 1}, 3)
    assert first.complement().sizes == {"a": 1, "b": 0}
    assert stack.circuit("global", 1) is None
    with pytest.raises(ValueError, match="no model 'client 3', there are global"):
        stack.circuit("client 3", 0)
    with pytest.raises(ValueError, match="do not fit 2 models and 3 units"):
        CircuitStack(sites, ("global", "0"), masks, torch.tensor([[True, False]]))
    with pytest.raises(ValueError, match="must be bool of shape"):
        Circuit({"a": torch.ones(2)})
