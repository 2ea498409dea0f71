import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, N_INPUTS, planted_mlp, planted_samples
from torch import nn

from fedcircuit.circuits.checks.controls import Controls
from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit, EdgeLayer
from fedcircuit.circuits.edges.edge_discovery import NO_EDGE, NO_PATH, edge_circuits, edge_mass_rule
from fedcircuit.circuits.edges.edge_layers import find_edge_layers
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.samples import Samples

FEW = Controls(count=3, negatives=20)


def planted() -> tuple[nn.Module, Probe]:
    model, _ = planted_mlp()
    names = [str(c) for c in range(N_CLASSES)]
    return model, Probe.split(planted_samples(30, seed=0), names, 0)


def planted_truth(class_index: int) -> EdgeCircuit:
    """Glyph to detector, both detectors to their unit, the unit to its logit."""
    model, _ = planted_mlp()
    layers = find_edge_layers(model, torch.zeros(1, N_INPUTS))
    masks = {layer.name: torch.zeros(layer.out_units, layer.in_units) > 0 for layer in layers}
    first, second = 2 * class_index, 2 * class_index + 1
    masks["0"][first, first] = masks["0"][second, second] = True
    masks["2"][class_index, [first, second]] = True
    masks["4"][class_index, class_index] = True
    return EdgeCircuit(masks)


def test_the_edge_circuits_of_a_planted_network_are_found_exactly() -> None:
    model, probe = planted()

    found = edge_circuits(model, probe, controls=FEW)

    assert [found.circuit(c) for c in range(N_CLASSES)] == [
        planted_truth(c) for c in range(N_CLASSES)
    ]
    assert found.reasons == ("",) * N_CLASSES
    assert int(found.existing.sum()) < len(found.existing) / 20
    for check in found.checks:
        assert (check.size, check.recall, check.constant) == (5, 1.0, False)
        assert check.balanced_accuracy > check.control_balanced_accuracy
        assert check.balanced_accuracy > check.null_balanced_accuracy - 1e-9
        assert check.full_balanced_accuracy == 1.0


@given(st.integers(0, 1000), st.sampled_from([0.3, 0.6, 0.9, 1.0]))
@settings(max_examples=30, deadline=None)
def test_the_mass_rule_takes_the_fewest_existing_edges(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers = (EdgeLayer("a", 3, 4, 1), EdgeLayer("b", 2, 3, 1))
    scores = torch.randn(4, 18, generator=generator)
    existing = torch.rand(18, generator=generator) < 0.6
    scores[:, ~existing] = 9.0  # must not tempt

    masks = edge_mass_rule(scores, existing, layers, share=share)

    assert not (masks & ~existing).any()
    for part in (slice(0, 12), slice(12, 18)):
        for row, mask in zip(scores[:, part], masks[:, part], strict=True):
            positive = torch.where(existing[part], row, 0.0).clamp(min=0)
            ranked = positive.sort(descending=True).values
            fewest = int((ranked.cumsum(0) < share * positive.sum() * (1 - 1e-6)).sum()) + 1
            if bool((positive > 0).any()):
                assert int(mask.sum()) == fewest
                assert mask[positive.argmax()]
            else:
                assert not mask.any()


def test_classes_that_cannot_be_found_say_why() -> None:
    model, probe = planted()
    present = probe.discovery.labels != 3
    gone = replace(probe, discovery=probe.discovery.take(present))
    with torch.no_grad():
        model[4].weight[:, 5] = 0  # class 5 is not read any more
        model[4].weight[:, N_CLASSES] = 0

    found = edge_circuits(model, gone, controls=FEW)

    assert found.circuit(3) is None
    assert found.reasons[3] == "no sample of the class"
    assert found.scores[3].isnan().all()
    assert found.checks[3].size is None
    assert math.isnan(found.checks[3].recall)
    assert found.checks[3].constant is None
    assert found.circuit(4) == planted_truth(4)


def test_a_network_without_edges_or_paths_has_no_circuits() -> None:
    model, probe = planted()
    with torch.no_grad():
        model[4].weight.zero_()
    found = edge_circuits(model, probe, controls=FEW)
    assert set(found.reasons) == {NO_EDGE}
    assert not found.masks.any()


def test_chosen_edges_that_do_not_meet_are_no_circuit() -> None:
    # unit 0 reads one strong edge and is read by two weak ones; of unit 1 the reverse holds
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.45, 0.45]]))
        model[1].weight.copy_(torch.tensor([[0.5, 1.0], [-0.5, 0.0]]))
    labels = torch.tensor([0, 1, 0, 1])
    samples = Samples((1.0 - labels)[:, None].expand(4, 3).contiguous(), labels)
    probe = Probe.split(samples, ("a", "b"), 0)

    apart = edge_circuits(model, probe, share=0.01, controls=FEW)
    whole = edge_circuits(model, probe, share=1.0, controls=FEW)

    scores = [[1.0, 0, 0, 0, 0.45, 0.45, 0.5, 0.9, 0.5, 0]] * 2  # of z0 - z1
    assert torch.allclose(apart.scores, torch.tensor(scores))
    assert apart.reasons == (NO_PATH, NO_PATH)
    assert not apart.masks.any()
    assert whole.reasons == ("", "")
    assert torch.equal(whole.masks, whole.existing.expand(2, -1))
    assert whole.existing_circuit == whole.circuit(0)


def test_a_probe_without_checking_samples_leaves_the_checks_open() -> None:
    model, probe = planted()
    none = probe.checking.take(torch.zeros(0, dtype=torch.int64))

    found = edge_circuits(model, replace(probe, checking=none), controls=FEW)

    assert found.circuit(0) == planted_truth(0)
    assert all(math.isnan(check.recall) and check.constant is None for check in found.checks)


def test_controls_can_be_left_out_and_follow_the_seed() -> None:
    model, probe = planted()
    off = edge_circuits(model, probe, controls=Controls(count=0)).checks[0]
    assert math.isnan(off.control_balanced_accuracy)
    assert math.isnan(off.null_balanced_accuracy)
    assert off.recall == 1.0
    same = [edge_circuits(model, probe, controls=FEW, seed=seed).checks for seed in (1, 1)]
    assert same[0] == same[1]
    with pytest.raises(ValueError, match=r"share of the score mass must lie in \(0, 1\], got 0"):
        edge_circuits(model, probe, share=0)
