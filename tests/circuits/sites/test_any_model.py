import copy

import pytest
import torch
from model_kinds import KINDS, inputs_of, model_of
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Circuit, Site, split_by_site
from fedcircuit.circuits.discovery.one_model import discover
from fedcircuit.circuits.masking.ablation import Ablation, reference_activations
from fedcircuit.circuits.masking.masking import masked_model
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.models.unit_weights import incoming_weights
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import capture, gated, masked, transformed
from fedcircuit.samples import Samples

every_kind = pytest.mark.parametrize("name", list(KINDS))


def silence_(model: nn.Module, site: Site, unit: int, norms: dict[str, str]) -> None:
    """Make one unit zero by its weights: the route that knows nothing of hooks."""
    layer = model.get_submodule(site.name)
    with torch.no_grad():
        if isinstance(layer, nn.MultiheadAttention):
            channels = slice(unit * layer.head_dim, (unit + 1) * layer.head_dim)
            layer.out_proj.weight[:, channels] = 0
            return
        if site.name in norms:
            layer = model.get_submodule(norms[site.name])
        if isinstance(layer, nn.ConvTranspose2d):
            group, place = divmod(unit, layer.out_channels // layer.groups)
            size = layer.in_channels // layer.groups
            layer.weight[group * size : (group + 1) * size, place] = 0
        else:
            layer.weight[unit] = 0
        if layer.bias is not None:
            layer.bias[unit] = 0


@every_kind
def test_the_sites_are_those_that_a_person_finds(name: str) -> None:
    assert find_sites(model_of(name), inputs_of(name, 2)) == KINDS[name].sites


@every_kind
@torch.no_grad()
def test_gating_a_unit_to_zero_equals_silencing_it_by_its_weights(name: str) -> None:
    kind, model, inputs = KINDS[name], model_of(name), inputs_of(name, 3)
    with capture(model, kind.sites) as seen:
        plain = model(inputs)
    for site in kind.sites:
        # the loudest: a unit of which a ReLU lets nothing through would show nothing
        unit = int(seen[site.name].relu().movedim(site.axis, 0).flatten(1).sum(1).argmax())
        gates = {s.name: torch.ones(s.n_units) for s in kind.sites}
        gates[site.name][unit] = 0
        edited = copy.deepcopy(model)
        silence_(edited, site, unit, kind.norms)
        expected = edited(inputs)
        with gated(model, kind.sites, gates):
            ours = model(inputs)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        assert (expected - plain).abs().max() > 1e-3


@every_kind
@torch.no_grad()
def test_open_gates_and_reading_change_nothing(name: str) -> None:
    kind, model, inputs = KINDS[name], model_of(name), inputs_of(name, 3)
    plain = model(inputs)
    circuit = Circuit({s.name: torch.ones(s.n_units, dtype=torch.bool) for s in kind.sites})
    with masked(model, kind.sites, circuit):
        opened = model(inputs)
    with capture(model, kind.sites) as seen:
        read = model(inputs)

    assert torch.allclose(opened, plain, atol=1e-5)
    assert torch.allclose(read, plain, atol=1e-5)
    for site in kind.sites:
        assert seen[site.name].shape[0] == 3
        assert seen[site.name].shape[site.axis] == site.n_units
    assert torch.equal(model(inputs), plain)  # and all hooks are gone


@every_kind
@pytest.mark.parametrize("ablation", ["zero", "mean"])
@torch.no_grad()
def test_rows_of_gates_act_on_their_own_sample(name: str, ablation: Ablation) -> None:
    kind, model, inputs = KINDS[name], model_of(name), inputs_of(name, 3)
    reference = reference_activations(
        model, kind.sites, Samples(inputs, torch.arange(3)), n_classes=3, ablation=ablation
    )
    n_units = sum(site.n_units for site in kind.sites)
    rows = torch.rand(3, n_units, generator=torch.Generator().manual_seed(0)) < 0.7
    with gated(model, kind.sites, split_by_site(rows, kind.sites), reference):
        together = model(inputs)
    for row, sample, logits in zip(rows, inputs, together, strict=True):
        with gated(model, kind.sites, split_by_site(row, kind.sites), reference):
            torch.testing.assert_close(model(sample[None])[0], logits, rtol=1e-4, atol=1e-4)
    ready = masked_model(model, kind.sites, inputs, reference)
    fast = ready.pair_logits(rows, torch.arange(3), torch.arange(3))
    torch.testing.assert_close(fast, together, rtol=1e-3, atol=1e-3)


def learned(name: str, least_steps: int) -> tuple[nn.Module, Samples]:
    """A model of a kind that has learned to tell three noisy patterns apart."""
    model, random = model_of(name), torch.Generator().manual_seed(5)
    patterns = torch.randn(3, *KINDS[name].shape, generator=random)
    labels = torch.arange(3).repeat(12)
    inputs = patterns[labels] + 0.3 * inputs_of(name, 36, seed=6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(300):
        logits = model(inputs)
        if step >= least_steps and bool((logits.argmax(1) == labels).all()):
            return model, Samples(inputs, labels)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    raise AssertionError(f"{name} has not learned the patterns")


def separates(logits: Tensor, labels: Tensor, index: int) -> float:
    """Share of pairs of a sample of the class and another in which the class's logit is right."""
    contrast = logits[:, index] - logits.mean(1)
    inside, outside = contrast[labels == index], contrast[labels != index]
    return float((inside[:, None] > outside).double().mean())


@every_kind
def test_circuits_are_found_and_recognise_their_class(name: str) -> None:
    model, samples = learned(name, least_steps=5 if name == "torchvision-resnet" else 100)
    probe = Probe.split(samples, ("a", "b", "c"), seed=0)
    before = copy.deepcopy(model.state_dict())
    found = discover(model, probe)

    assert found.sites == KINDS[name].sites
    assert found.found.all(), found.reasons
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    reference = reference_activations(
        model, found.sites, probe.discovery, n_classes=3, ablation="mean"
    )
    for index in range(3):
        circuit = found.circuit(index)
        assert 0 < found.masks[index].sum() < found.masks.shape[1]
        assert circuit is not None
        with evaluating(model), torch.no_grad(), masked(model, found.sites, circuit, reference):
            assert separates(model(samples.inputs), samples.labels, index) > 0.9


@every_kind
def test_every_unit_has_weights_that_it_is_made_with(name: str) -> None:
    model = model_of(name)
    for index, site in enumerate(KINDS[name].sites):
        assert incoming_weights(model, site).shape[0] == site.n_units
        layer = model.get_submodule(site.name)
        if not isinstance(layer, nn.MultiheadAttention):
            unit = (5 * index + 2) % site.n_units
            silence_(model, site, unit, {})
            weights = incoming_weights(model, site)
            assert (weights == 0).all(1).nonzero().flatten().tolist() == [unit]


def test_torchs_resnet_18_has_twenty_sites() -> None:
    import torchvision

    model = torchvision.models.resnet18(num_classes=10)
    sites = find_sites(model, torch.zeros(1, 3, 32, 32))
    assert len(sites) == 20
    assert sum(site.n_units for site in sites) == 4800
    assert sites[-1] == Site("layer4.1.conv2", 512, 1, "layer4.1.bn2")


@torch.no_grad()
def test_a_unit_is_read_before_the_in_place_addition_and_relu_behind_it() -> None:
    model, inputs = model_of("torchvision-resnet"), inputs_of("torchvision-resnet", 2)
    block, sites = model.layer1[0], KINDS["torchvision-resnet"].sites[:3]
    with capture(model, sites) as seen:
        model(inputs)
    first = model.maxpool(model.relu(model.bn1(model.conv1(inputs))))
    inner = torch.relu(block.bn1(block.conv1(first)))

    torch.testing.assert_close(seen["layer1.0.conv1"], inner)
    torch.testing.assert_close(seen["layer1.0.conv2"], block.bn2(block.conv2(inner)))


@torch.no_grad()
def test_one_call_of_a_shared_module_is_transformed_in_every_forward_pass() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
    inputs = torch.randn(4, 2)
    expected = torch.relu(model[2](10 * torch.relu(model[0](inputs))))
    with transformed(model, {"1#0": lambda output: 10 * output}):
        for _ in range(2):
            torch.testing.assert_close(model(inputs), expected)


@torch.no_grad()
def test_gates_within_gates_multiply_and_a_raising_model_is_given_back() -> None:
    kind, model, inputs = KINDS["encoder"], model_of("encoder"), inputs_of("encoder", 3)
    random = torch.Generator().manual_seed(3)
    one, two = (
        {site.name: torch.rand(site.n_units, generator=random) for site in kind.sites}
        for _ in range(2)
    )
    with gated(model, kind.sites, {name: one[name] * two[name] for name in one}):
        expected = model(inputs)
    with gated(model, kind.sites, one), gated(model, kind.sites, two):
        torch.testing.assert_close(model(inputs), expected)
        with pytest.raises(RuntimeError):
            model(inputs[..., :3])
        torch.testing.assert_close(model(inputs), expected)

    attention, plain = model.get_submodule("1.layers.0.self_attn"), model(inputs)
    projection = attention.out_proj
    with gated(model, kind.sites, one):
        once = model(inputs)
        assert attention.out_proj is projection  # also between forward passes
        for _ in range(2):
            assert torch.equal(model(inputs), once)
            with pytest.raises(RuntimeError, match="embed_dim 8 did"):
                attention(inputs, inputs, inputs)
    assert attention.out_proj is projection
    assert torch.equal(model(inputs), plain)
