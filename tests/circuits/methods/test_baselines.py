"""Baselines worked by hand, and the parts that scored methods are made of."""

from __future__ import annotations

import pytest
import torch
from memory_helpers import in_parts
from method_helpers import make_task, noise, scores_of
from torch import nn

from fedcircuit.circuits.methods.integrated import Integrated
from fedcircuit.circuits.methods.magnitude import Magnitude
from fedcircuit.circuits.methods.mean_activation import MeanActivation
from fedcircuit.circuits.methods.named import discovery_method
from fedcircuit.circuits.methods.random_scores import RandomScores
from fedcircuit.circuits.search.protocol import Curve, Meter, Sizing, Task, class_stream
from fedcircuit.circuits.search.scored_method import Mass, ScoredMethod, size_options, size_rule
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


def test_magnitude_is_the_incoming_norm_relative_to_the_site() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 15.0]]))  # norms 5, 15: mean 10
        model[2].weight.copy_(torch.tensor([[0.0, 0.0], [0.0, -1.0], [2.0, 0.0]]))  # 0, 1, 2
    task = Task(Samples(torch.eye(2), torch.tensor([0, 1])), 2, None)

    found = scores_of(Magnitude(), model, task)

    assert torch.allclose(found, torch.tensor([[0.5, 1.5, 0.0, 1.0, 2.0]]).expand(2, -1))


def test_a_site_without_weights_has_magnitude_zero() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    nn.init.zeros_(model[0].weight)
    task = Task(Samples(torch.eye(2), torch.tensor([0, 1])), 2, None)

    assert scores_of(Magnitude(), model, task).tolist() == [[0.0, 0.0]] * 2


def test_mean_activation_is_that_of_the_class_over_positions() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
    inputs = torch.tensor([[1.0, 3.0], [5.0, -1.0], [-4.0, 0.0]]).reshape(3, 1, 1, 2)
    task = Task(Samples(inputs, torch.tensor([0, 0, 1])), 3, None)

    found = scores_of(MeanActivation(), model, task)
    split = scores_of(MeanActivation(), model, in_parts(task, model, find_sites(model, inputs), 1))

    # class 0, unit 0: (1 + 3) / 2 and (5 + 0) / 2; unit 1: 0 and (0 + 2) / 2
    assert found[:2].tolist() == [[2.25, 0.5], [0.0, 4.0]]
    assert found[2].isnan().all()
    assert torch.equal(found[:2], split[:2])


def test_random_scores_of_classes_and_seeds_are_unrelated() -> None:
    model = build_model("mlp", (1, 8, 8), 3, seed=1, widths=(50,))
    task = make_task(model, noise(), 3)

    rows = torch.cat([scores_of(RandomScores(), model, task, seed) for seed in range(3)])

    assert ((rows >= 0) & (rows < 1)).all()
    assert len({tuple(row) for row in rows.tolist()}) == 9
    assert torch.equal(rows[:3], scores_of(RandomScores(), model, task, 0))
    # what was drawn before from the same generator does not matter
    used = torch.Generator().manual_seed(0)
    torch.rand(5, generator=used)
    sites = find_sites(model, task.samples.inputs)
    assert torch.equal(rows[:3], RandomScores().scores(model, sites, task, used, Meter()))


def test_streams_of_classes_do_not_collide_where_seed_and_class_have_the_same_sum() -> None:
    draws = [
        int(torch.randint(2**60, (1,), generator=class_stream(torch.Generator().manual_seed(s), c)))
        for s in range(4)
        for c in range(4)
    ]
    assert len(set(draws)) == 16


class Halves:
    """A size rule: units with at least half of the class's best score, and a curve."""

    def __call__(self, scores, model, sites, task, generator, meter):  # type: ignore[no-untyped-def]
        best = scores.nan_to_num(-1.0).amax(1, keepdim=True)
        curve = Curve((1, 2), (0.1, 0.2), (0.0, 0.0))
        return Sizing(scores >= best / 2, (curve,) * len(scores))


def test_another_size_rule_makes_other_circuits_and_keeps_its_curves() -> None:
    model = build_model("mlp", (1, 8, 8), 4, seed=1, widths=(6, 3))
    task = make_task(model, noise(n_classes=3), 4)
    sites = find_sites(model, task.samples.inputs)

    found = RandomScores(size=Halves())(model, sites, task, torch.Generator())
    by_parts = ScoredMethod(RandomScores(), Halves())
    same = by_parts(model, sites, task, torch.Generator())

    kept = found.scores[:3] >= found.scores[:3].amax(1, keepdim=True) / 2
    assert torch.equal(found.masks[:3], kept)
    assert not found.masks[3].any()
    assert found.curves[0] == Curve((1, 2), (0.1, 0.2), (0.0, 0.0))
    assert torch.equal(found.masks, same.masks)
    assert by_parts.name == "random"


def test_a_class_that_no_unit_speaks_for_has_no_circuit() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    nn.init.zeros_(model[2].weight)
    samples = Samples(torch.eye(2), torch.tensor([0, 1]))

    found = Integrated(size=Mass())(
        model, find_sites(model, samples.inputs), Task(samples, 2, None), torch.Generator()
    )

    assert not found.found.any()
    assert found.reasons == ("no unit separates the class from the others",) * 2
    assert found.scores.tolist() == [[0.0, 0.0]] * 2


def test_size_rules_have_a_plain_form() -> None:
    assert size_rule("mass") == Mass()
    assert size_rule({"kind": "mass", "share": 0.5}) == Mass(0.5)
    assert size_options(Mass(0.5)) == {"kind": "mass", "share": 0.5}
    assert discovery_method("random", size={"kind": "mass", "share": 0.5}) == RandomScores(
        size=Mass(0.5)
    )
    with pytest.raises(ValueError, match="Halves is none of the named size rules"):
        size_options(Halves())


def test_curves_ascend_and_have_a_value_for_each_size() -> None:
    with pytest.raises(ValueError, match="one fpr for each size, got 2 sizes and 1"):
        Curve((1, 2), (0.5,), (0.0, 0.0))
    with pytest.raises(ValueError, match="must ascend"):
        Curve((2, 2), (0.5, 0.6), (0.0, 0.0))
