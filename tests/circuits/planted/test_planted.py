import math
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcircuit.circuits.circuit import Circuit, split_by_site
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.planted.cnn import planted_cnn
from fedcircuit.circuits.planted.mlp import planted_mlp
from fedcircuit.circuits.planted.network import CASES, HARD
from fedcircuit.circuits.planted.score import f1
from fedcircuit.circuits.sites.hooks import masked

BUILDERS = [planted_cnn, planted_mlp]
# cases that put no weight outside the circuits, so that paths alone give the truth
ON_PATHS = ("shared", "veto", "redundant", "two_routes")


def reference_of(net, samples):
    """Mean activations of the network."""
    return reference_activations(
        net.model, net.sites, samples, n_classes=net.n_classes, ablation="mean"
    )


def logits(net, samples, kept=None, reference=None):
    """Of the network, reduced to the kept units ``[units]`` by mean ablation if given."""
    with torch.no_grad():
        if kept is None:
            return net.model(samples.inputs)
        reference = reference_of(net, samples) if reference is None else reference
        with masked(net.model, net.sites, Circuit(split_by_site(kept, net.sites)), reference):
            return net.model(samples.inputs)


def own_separation(z, labels, c):
    return float(z[labels == c, c].mean() - z[labels != c, c].mean())


def centred_separation(z, labels, c):
    return own_separation(z - z.mean(1, keepdim=True), labels, c)


def balanced_accuracy(z, labels, c):
    said = z.argmax(1) == c
    recall, fpr = said[labels == c].float().mean(), said[labels != c].float().mean()
    return float(recall + 1 - fpr) / 2


def connections(net):
    """Planted weights by layer, ``[out, in]`` bool, the head's last."""
    layers = [m for m in net.model if hasattr(m, "weight")]
    used = []
    for layer, width in zip(layers, [None, *(s.n_units for s in net.sites)], strict=True):
        weight = layer.weight.detach()
        rows = weight.flatten(1) if width is None else weight.reshape(len(weight), width, -1)
        used.append((rows != 0) if width is None else (rows != 0).any(2))
    return used


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("density", ["sparse", "dense"])
@pytest.mark.parametrize("cases", [(), *[(case,) for case in CASES], tuple(sorted(HARD))], ids=str)
def test_a_planted_network_classifies_its_samples(build, density, cases) -> None:
    net = build(cases, density=density, seed=3, noise=0.05)
    samples = net.samples(12, seed=1)
    right = logits(net, samples).argmax(1) == samples.labels
    assert right.float().mean() >= (0.99 if density == "sparse" else 0.98)


@pytest.mark.parametrize("build", BUILDERS)
@settings(max_examples=5, deadline=None)
@given(cases=st.sets(st.sampled_from(ON_PATHS)), seed=st.integers(0, 1000))
def test_without_decoys_the_truth_is_what_leads_to_the_logit(build, cases, seed) -> None:
    net = build(cases, n_classes=5, seed=seed)
    used = connections(net)
    for c in range(net.n_classes):
        reached, parts, wanted = torch.tensor([i == c for i in range(net.n_classes)]), [], []
        for layer in reversed(used):
            wanted.insert(0, layer & reached[:, None])
            reached = wanted[0].any(0)
            parts.insert(0, reached)
        assert torch.equal(torch.cat(parts[1:]), net.truth[c])
        for edges, layer in zip(list(net.edges.values())[1:], wanted[1:], strict=True):
            assert torch.equal(edges[c], layer)


@pytest.mark.parametrize("build", BUILDERS)
def test_true_edges_join_true_units_only_and_leave_none_alone(build) -> None:
    net = build(HARD, n_classes=6, seed=3)
    for c in range(net.n_classes):
        masks = list(net.circuit(c).masks.values())
        for into, out in pairwise(net.edges.values()):
            mask = masks.pop(0)
            assert torch.equal(into[c].any(1), mask)  # every one is reached
            assert torch.equal(out[c].any(0), mask)  # and read
        assert out[c].any(1).nonzero().flatten().tolist() == [c]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_the_true_units_alone_carry_the_class_and_nothing_else_does(build, density) -> None:
    net = build(HARD - {"prior", "distractors"}, density=density, seed=1)
    samples = net.samples(24, seed=2)
    full, means = logits(net, samples), reference_of(net, samples)
    for c in range(net.n_classes):
        alone, without = (
            logits(net, samples, kept, means) for kept in (net.truth[c], ~net.truth[c])
        )
        assert balanced_accuracy(alone, samples.labels, c) > 0.98
        share = own_separation(alone, samples.labels, c) / own_separation(full, samples.labels, c)
        assert share == pytest.approx(1.0, abs=0.01 if density == "sparse" else 0.06)
        # the arg max may still be right by elimination, for the other logits are silent
        assert abs(own_separation(without, samples.labels, c)) < 0.4


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_units_of_no_circuit_change_no_separation(build, density) -> None:
    net = build(HARD, density=density, seed=2)
    samples = net.samples(40, seed=2)
    full, circuits = logits(net, samples), logits(net, samples, net.truth.any(0))
    for c in range(net.n_classes):
        share = centred_separation(circuits, samples.labels, c)
        share /= centred_separation(full, samples.labels, c)
        assert share == pytest.approx(1.0, abs=1e-4 if density == "sparse" else 0.05)
    assert (circuits.argmax(1) == samples.labels).float().mean() > 0.98


@pytest.mark.parametrize("build", BUILDERS)
def test_every_true_unit_counts(build) -> None:
    net = build(HARD, n_classes=4, seed=5)
    samples = net.samples(20, seed=2)
    full, means = logits(net, samples), reference_of(net, samples)
    # what each single unit does, exactly, against the mean of the other logits
    for c, unit in net.truth.nonzero().tolist():
        kept = torch.arange(net.truth.shape[1]) != unit
        left = centred_separation(logits(net, samples, kept, means), samples.labels, c)
        assert abs(left / centred_separation(full, samples.labels, c) - 1) > 0.01


@pytest.mark.parametrize("n_classes", [3, 4, 7, 12])
def test_samples_can_be_drawn_for_any_seed_and_size(n_classes) -> None:
    for seed in range(3):
        net = planted_mlp(HARD, n_classes=n_classes, seed=seed, widths=(96, 96))
        samples = net.samples(4, seed=seed)
        assert samples.counts(n_classes).tolist() == [4] * n_classes
        assert (logits(net, samples).argmax(1) == samples.labels).float().mean() > 0.95


def test_a_veto_fires_for_other_classes_only_and_lowers_the_logit() -> None:
    net = planted_mlp(["veto"], seed=4)
    samples = net.samples(40, seed=0)
    head = net.model[-1].weight.detach()
    vetoes = (head < 0).nonzero().tolist()
    assert len(vetoes) == 3
    hidden = net.model[:4](samples.inputs).detach()
    for c, unit in vetoes:
        assert bool(net.truth[c, net.sites[0].n_units + unit])
        assert float(hidden[samples.labels == c, unit].max()) == 0.0
        assert float((hidden[samples.labels != c, unit] > 0).float().mean()) > 0.05


def test_each_case_plants_what_it_says() -> None:
    plain = planted_mlp(seed=6)
    assert int((plain.truth.sum(0) > 1).sum()) == 0
    assert plain.truth.sum(1).tolist() == [6] * 10
    assert int((planted_mlp(["shared"], seed=6).truth.sum(0) > 1).sum()) > 10
    assert planted_mlp(["redundant"], seed=6).truth.sum() == plain.truth.sum() + 21
    biases = planted_mlp(["prior"], seed=6).model[-1].bias
    assert sorted(biases.tolist()) == [0.0] * 9 + [1.0]
    for case in ("distractors", "dead", "cancelling"):
        decoyed = planted_mlp([case], seed=6)
        assert decoyed.truth.sum() == plain.truth.sum()
        first = plain.model[0].bias, decoyed.model[0].bias
        assert int((first[1] != 0).sum()) > int((first[0] != 0).sum())


def test_two_routes_are_unequal() -> None:
    shares = []
    for cases in ((), ("two_routes",)):
        net = planted_mlp(cases, seed=0)
        samples = net.samples(50, seed=3)
        hidden = net.model[:4](samples.inputs).detach()
        own = hidden[samples.labels == 0][:, net.truth[0, net.sites[0].n_units :]]
        shares.append(sorted((own > 0).float().mean(0).tolist()))
    assert shares == [pytest.approx([0.5, 0.5]), pytest.approx([0.3, 0.7])]


@pytest.mark.parametrize("build", BUILDERS)
def test_a_network_and_its_samples_follow_from_their_seeds(build) -> None:
    first, second, other = (build(HARD, seed=seed) for seed in (1, 1, 2))
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    assert torch.equal(first.truth, second.truth)
    assert not torch.equal(first.truth, other.truth)
    assert torch.equal(first.samples(3, 7).inputs, second.samples(3, 7).inputs)
    assert not torch.equal(first.samples(3, 7).inputs, first.samples(3, 8).inputs)
    assert first.samples(3, 7).labels.tolist() == [c for c in range(10) for _ in range(3)]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="cases must be a collection of shared, veto.*sharde"):
        planted_cnn(["sharde"])
    with pytest.raises(ValueError, match="cases must be a collection"):
        planted_cnn("veto")
    with pytest.raises(ValueError, match="needs 3 classes or more, got 2"):
        planted_mlp(n_classes=2)
    with pytest.raises(ValueError, match="widths must be .* or more, got"):
        planted_mlp(widths=(8, 64))
    with pytest.raises(ValueError, match="found .* glyphs, needed"):
        planted_cnn(n_classes=60, widths=(200, 200, 200))


def test_precision_recall_and_f1_by_hand() -> None:
    truth = torch.tensor([True, True, True, False, False])
    found = torch.tensor([True, False, False, True, False])
    score = f1(found, truth)
    assert (score.precision, score.recall, score.f1) == (1 / 2, 1 / 3, 2 / 5)
    nothing = torch.zeros(5, dtype=torch.bool)
    score = f1(nothing, truth)
    assert math.isnan(score.precision)
    assert (score.recall, score.f1) == (0.0, 0.0)
    score = f1(found, nothing)
    assert (score.precision, score.f1) == (0.0, 0.0)
    assert math.isnan(score.recall)
    assert math.isnan(f1(nothing, nothing).f1)
    with pytest.raises(ValueError, match="bool of the same shape, got torch.float32"):
        f1(found.float(), truth)
    with pytest.raises(ValueError, match="bool of the same shape"):
        f1(found[:4], truth)


@pytest.mark.parametrize("build", BUILDERS)
def test_a_planted_network_can_be_sent_to_another_process(build) -> None:
    net = build(seed=2)
    sent = pickle.loads(pickle.dumps(net))
    assert torch.equal(sent.samples(2, 5).inputs, net.samples(2, 5).inputs)
    assert torch.equal(sent.truth, net.truth)
