"""What the default method finds where the truth is known; the figures are in the benchmarks."""

from collections.abc import Collection
from statistics import fmean

import pytest
import torch

from fedcircuit.circuits.checks.controls import Controls
from fedcircuit.circuits.discovery.one_model import discover
from fedcircuit.circuits.edges.edge_circuit import split_by_layer
from fedcircuit.circuits.edges.edge_discovery import edge_circuits
from fedcircuit.circuits.methods.named import discovery_method
from fedcircuit.circuits.planted.cnn import planted_cnn
from fedcircuit.circuits.planted.mlp import planted_mlp
from fedcircuit.circuits.planted.network import CASES, HARD, PlantedNetwork
from fedcircuit.circuits.planted.score import f1
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.search.protocol import Discovery

BUILDERS = {"cnn": planted_cnn, "mlp": planted_mlp}
every_kind = pytest.mark.parametrize("kind", list(BUILDERS))


def network(kind: str, cases: Collection[str], density: str = "sparse") -> PlantedNetwork:
    return BUILDERS[kind](cases, seed=0, density=density, noise=0.05)


def found_in(net: PlantedNetwork, method: str = "attribution", **options: object) -> Discovery:
    samples = net.samples(50, seed=1000)
    probe = Probe(samples, samples, net.class_names)
    return discover(net.model, probe, method=discovery_method(method, **options))


def mean_f1(net: PlantedNetwork, found: Discovery) -> float:
    return fmean(f1(found.masks[c], net.truth[c]).f1 for c in range(net.n_classes))


@every_kind
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_plain_circuits_are_found_exactly(kind: str, density: str) -> None:
    net = network(kind, (), density)
    assert torch.equal(found_in(net).masks, net.truth)


@pytest.mark.parametrize("case", CASES)
def test_each_hard_case_alone_is_found(case: str) -> None:
    net = network("mlp", {case})
    assert mean_f1(net, found_in(net)) >= 0.98


def test_effects_that_may_be_an_accident_are_left_out() -> None:
    net = network("mlp", {"cancelling", "veto"})
    assert mean_f1(net, found_in(net)) > 0.99
    assert mean_f1(net, found_in(net, confidence=0.0)) < 0.98


@every_kind
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_all_hard_cases_together_are_found_nearly(kind: str, density: str) -> None:
    net = network(kind, HARD, density)
    assert mean_f1(net, found_in(net)) >= 0.93


@pytest.mark.parametrize("loss", [0.025, 0.1])
def test_half_and_double_the_loss_change_little(loss: float) -> None:
    net = network("mlp", HARD)
    found = found_in(net, size={"kind": "faithful", "loss": loss})
    assert mean_f1(net, found) >= 0.9


def test_a_random_ranking_finds_nothing() -> None:
    net = network("mlp", HARD)
    assert mean_f1(net, found_in(net, "random")) < 0.3


@every_kind
def test_plain_edges_between_units_are_found_exactly(kind: str) -> None:
    net = network(kind, ())
    samples = net.samples(20, seed=1000)
    probe = Probe(samples, samples, net.class_names)

    found = edge_circuits(net.model, probe, controls=Controls(count=0))

    layers = split_by_layer(found.masks, found.layers).values()
    for pair, masks in list(zip(net.edges, layers, strict=True))[1:]:
        assert torch.equal(masks, net.edges[pair]), pair
