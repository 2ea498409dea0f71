import numpy as np
import pytest
import torch

from fedcircuit.circuits.circuit import Circuit, split_by_site
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.planted.client_plans import Fate
from fedcircuit.circuits.planted.federation import planted_federation
from fedcircuit.circuits.round.round_circuits import load_weights
from fedcircuit.circuits.sites.hooks import masked
from fedcircuit.circuits.verdicts.judging import Verdict

SIZES = [("mlp", 5, 10), ("mlp", 8, 6), ("mlp", 4, 12), ("cnn", 4, 6)]


def recall_and_fpr(model, samples, c, federation=None, kept=None):
    """Of the model, or of the kept units ``[units]`` with everything else at its mean."""
    with torch.no_grad():
        if kept is None:
            said = model(samples.inputs).argmax(1) == c
        else:
            sites = federation.sites
            reference = reference_activations(
                model, sites, samples, n_classes=len(federation.fates), ablation="mean"
            )
            with masked(model, sites, Circuit(split_by_site(kept, sites)), reference):
                said = model(samples.inputs).argmax(1) == c
    own = samples.labels == c
    return float(said[own].float().mean()), float(said[~own].float().mean())


def balanced(recall, fpr):
    return (recall + 1 - fpr) / 2


@pytest.mark.parametrize(("kind", "n_clients", "n_classes"), SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_was_planted_happens_in_function(kind, n_clients, n_classes, seed) -> None:
    fed = planted_federation(kind, n_clients=n_clients, n_classes=n_classes, seed=seed)
    samples = fed.samples(20, seed=9)
    whole = [recall_and_fpr(fed.model, samples, c) for c in range(n_classes)]
    local = planted_federation(kind, n_clients=n_clients, n_classes=n_classes, seed=seed).model
    for client, expected in fed.expected.items():
        load_weights(local, fed.client_weights[client])
        for c, verdict in enumerate(expected):
            known, global_recall = recall_and_fpr(local, samples, c)[0], whole[c][0]
            if verdict is None:
                assert known == 0.0
                continue
            truth = fed.truth[client][c]
            assert known > 0.95
            assert balanced(*recall_and_fpr(local, samples, c, fed, truth)) > 0.95
            carried = balanced(*recall_and_fpr(fed.model, samples, c, fed, truth)) - 0.5
            shared = fed.global_truth[c] & truth
            if verdict is Verdict.COLLAPSED:
                assert global_recall < 0.05
                continue
            share = carried / (balanced(*whole[c]) - 0.5)
            if verdict is Verdict.RELOCATED:
                assert global_recall > 0.85
                assert share < 0.1
            elif verdict is Verdict.DEGRADED:
                assert 0.4 < global_recall < 0.6
                assert share > 0.8
                assert 0 < int(shared.sum()) < int(truth.sum())
            else:
                assert global_recall > 0.85
                assert share > 0.8
                assert torch.equal(fed.global_truth[c], truth)


@pytest.mark.parametrize("kind", ["cnn", "mlp"])
def test_the_true_circuits_of_the_average_work_alone(kind) -> None:
    fed = planted_federation(kind, seed=3)
    samples = fed.samples(20, seed=1)
    for c, fate in enumerate(fed.fates):
        if fate in (Fate.PRIVATE, Fate.SCATTERED):
            assert not fed.global_truth[c].any()
            continue
        recall, fpr = recall_and_fpr(fed.model, samples, c, fed, fed.global_truth[c])
        assert recall == pytest.approx(recall_and_fpr(fed.model, samples, c)[0], abs=0.05)
        assert fpr < 0.02


def test_the_average_is_the_weighted_mean() -> None:
    fed = planted_federation("mlp", n_clients=4, n_classes=5, seed=1)
    assert sum(fed.shares.values()) == pytest.approx(1.0)
    assert len(set(fed.shares.values())) == 4
    for name, array in fed.global_weights.items():
        mean = np.average(
            [fed.client_weights[client][name] for client in fed.shares],
            axis=0,
            weights=list(fed.shares.values()),
        )
        np.testing.assert_allclose(array, mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(fed.model.state_dict()[name].numpy(), array)


def test_every_fate_is_there_and_says_what_it_must() -> None:
    fed = planted_federation("mlp", n_clients=6, n_classes=10, seed=2)
    assert fed.fates[0] is Fate.KEPT
    assert set(fed.fates) == set(Fate)
    by_class = {c: [row[c] for row in fed.expected.values()] for c in range(10)}
    wanted = {
        Fate.KEPT: [Verdict.PRESERVED] * 6,
        Fate.MOVED: [Verdict.PRESERVED] * 5 + [Verdict.RELOCATED],
        Fate.HALVED: [Verdict.DEGRADED] * 6,
        Fate.PRIVATE: [Verdict.COLLAPSED] + [None] * 5,
        Fate.SCATTERED: [Verdict.COLLAPSED] * 6,
    }
    for c, fate in enumerate(fed.fates):
        assert sorted(map(str, by_class[c])) == sorted(map(str, wanted[fate]))


def test_too_small_a_federation_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 4 clients and 5 classes or more, got 3 and 10"):
        planted_federation("mlp", n_clients=3)
    with pytest.raises(ValueError, match="got 5 and 4"):
        planted_federation("mlp", n_classes=4)
    with pytest.raises(ValueError, match="lstm"):
        planted_federation("lstm")
