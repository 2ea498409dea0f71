"""Logits that are not finite are no prediction of a class."""

import numpy as np
import pytest
import torch
from three_classes import PROBE, network

from fedcircuit import CircuitSettings, discover
from fedcircuit.circuits.checks.validity import Status
from fedcircuit.circuits.round.model_circuits import circuits_of_model
from fedcircuit.circuits.round.round_circuits import RoundTask, analyse_round


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_logits_that_are_not_finite_have_a_status_of_their_own(ablation: str) -> None:
    model = network()
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    settings = CircuitSettings(ablation=ablation)

    found, checked = (
        discover(model, PROBE, ablation=ablation),
        circuits_of_model(model, PROBE, settings),
    )

    why = "the model's logits are NaN or infinite for 18 of 18 samples"
    assert found.reasons == (why,) * 3
    assert not found.masks.any()
    assert not checked.found.any()
    for one in checked.validity:
        assert (one.status, one.reason) == (Status.NOT_FINITE, why)
        assert np.isnan([one.full_recall, one.full_fpr, one.balanced_accuracy]).all()


@pytest.mark.parametrize("conv", [False, True])
def test_one_model_that_is_not_finite_costs_the_others_nothing(conv: bool) -> None:
    model = network(conv=conv)
    good = {name: np.asarray(v).copy() for name, v in model.state_dict().items()}
    bad = {name: v.copy() for name, v in good.items()}
    bad["5.bias"][1] = np.inf
    task = RoundTask(CircuitSettings(), 0, 1)

    alone = analyse_round(model, good, {"a": good}, PROBE, task)
    beside = analyse_round(model, good, {"a": good, "b": bad}, PROBE, task)

    assert alone.comparisons["a"] == beside.comparisons["a"]
    assert {v.status for v in beside.models[2].validity} == {Status.NOT_FINITE}
    assert np.isnan([one.normalised for one in beside.comparisons["b"].global_in_local]).all()
    broken = analyse_round(model, bad, {"a": good}, PROBE, task)
    assert all(verdict is None for verdict, _ in broken.comparisons["a"].verdicts)
