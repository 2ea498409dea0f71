import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_helpers import N_CLASSES, planted_mlp, planted_samples
from scipy.stats import hypergeom
from torch import nn

from fedcircuit.circuits.checks.controls import Controls
from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit
from fedcircuit.circuits.edges.edge_discovery import EdgeDiscovery, edge_circuits
from fedcircuit.circuits.edges.edge_overlap import edge_iou, edge_overlaps, induced_edge_iou
from fedcircuit.circuits.probes.probe import Probe

FEW = Controls(count=3, negatives=20)


def planted() -> tuple[nn.Module, Probe]:
    model, _ = planted_mlp()
    names = [str(c) for c in range(N_CLASSES)]
    return model, Probe.split(planted_samples(30, seed=0), names, 0)


def test_overlaps_pick_from_edges_that_exist_in_either_model() -> None:
    model, probe = planted()
    a = edge_circuits(model, probe, controls=FEW)
    b = replace(
        a, masks=a.masks.roll(1, dims=0), found=a.found.clone(), existing=a.existing.clone()
    )
    b.found[2] = False
    b.existing[a.masks[0]] = False
    b.masks[:, ~b.existing] = False

    same, other = edge_overlaps(a, a), edge_overlaps(a, b)

    assert np.allclose(same.circuits.iou, 1.0)
    assert np.allclose(same.circuits.adjusted, 1.0)
    assert same.circuits.layers == ("0", "2", "4", "all")
    assert (same.circuits.pool[:, -1] == int(a.existing.sum())).all()
    assert same.existing.iou.tolist() == [[1.0] * 4]
    assert (other.circuits.pool[0] == same.circuits.pool[0]).all()  # exists in a
    assert np.isnan(other.circuits.iou[2]).all()
    assert other.circuits.iou[4, -1] == 0  # other classes share no edge
    n = int(a.existing.sum())
    assert other.existing.iou[0, -1] == pytest.approx((n - 5) / n)


def test_the_chance_level_of_one_layer_by_its_definition() -> None:
    a = EdgeCircuit({"x": torch.tensor([[1, 1, 0], [0, 1, 0]]) > 0})
    b = EdgeCircuit({"x": torch.tensor([[1, 0, 0], [0, 1, 0]]) > 0})
    existing = EdgeCircuit({"x": torch.tensor([[1, 1, 1], [0, 1, 1]]) > 0})

    found = edge_iou(a, b, existing)

    law = hypergeom(5, 3, 2)
    expected = sum(law.pmf(t) * t / (5 - t) for t in range(3))
    assert (found.intersection, found.pool, found.iou) == (2, 5, pytest.approx(2 / 3))
    assert found.chance == pytest.approx(expected)
    assert found.adjusted == pytest.approx((2 / 3 - expected) / (1 - expected))
    assert found.p_value == pytest.approx(law.pmf(2))
    assert edge_iou(a, b).pool == 6


def test_models_of_other_shapes_are_not_compared() -> None:
    model, probe = planted()
    a = edge_circuits(model, probe, controls=FEW)
    fewer = EdgeDiscovery(
        a.layers, a.masks[:2], a.found[:2], a.scores[:2], a.existing, ("", ""), a.checks[:2], a.cost
    )
    with pytest.raises(ValueError, match="with 16 classes and .* with 2"):
        edge_overlaps(a, fewer)
    x, y = (EdgeCircuit({"x": torch.ones(shape) > 0}) for shape in ((2, 3), (3, 2)))
    with pytest.raises(ValueError, match="must have the same layers"):
        edge_iou(x, y)


@given(st.integers(1, 30), st.data())
def test_node_and_edge_iou_follow_the_formula(size: int, data: st.DataObject) -> None:
    shared = [data.draw(st.integers(0, size)) for _ in range(2)]
    units = 2 * size
    a_in = torch.arange(units) < size
    b_in = (torch.arange(units) >= size - shared[0]) & (torch.arange(units) < 2 * size - shared[0])
    b_out = (torch.arange(units) >= size - shared[1]) & (torch.arange(units) < 2 * size - shared[1])
    a = EdgeCircuit({"x": a_in[:, None] & a_in[None]})
    b = EdgeCircuit({"x": b_out[:, None] & b_in[None]})

    assert induced_edge_iou(*shared, size) == pytest.approx(
        int((a.flat() & b.flat()).sum()) / int((a.flat() | b.flat()).sum())
    )


def test_the_formula_refuses_more_than_there_is() -> None:
    assert math.isnan(induced_edge_iou(0, 0, 0))
    with pytest.raises(ValueError, match=r"must lie in \[0, size = 3\], got 4"):
        induced_edge_iou(1, 4, 3)
