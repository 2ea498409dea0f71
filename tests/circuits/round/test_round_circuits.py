import copy
import math
from dataclasses import dataclass

import pytest
import torch
from toy_network import N_UNITS, toy_model, toy_samples, units

from fedcircuit.circuits.checks.validity import Status, ValidityThresholds
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.model_circuits import circuits_of_model
from fedcircuit.circuits.round.round_circuits import RoundTask, analyse_round
from fedcircuit.circuits.round.sent_circuits import SentCircuits
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.timing import stream
from fedcircuit.circuits.search.protocol import Cost, Discovery
from fedcircuit.circuits.sites.hooks import capture
from fedcircuit.circuits.verdicts.judging import Verdict
from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.weights import get_weights

PROBE = Probe(toy_samples(), toy_samples(6), ("a", "b", "c"))


@dataclass(frozen=True)
class Selective:
    """A real but tiny method: the units a class drives most, less what the others do."""

    keep: int = 2
    refuse: int | None = None

    @property
    def name(self) -> str:
        return "selective"

    def __call__(self, model, sites, task, generator):
        with evaluating(model), torch.no_grad(), capture(model, sites) as seen:
            model(task.samples.inputs)
        activation = torch.cat([seen[site.name] for site in sites], dim=1)
        labels = task.samples.labels
        scores = torch.stack(
            [activation[labels == c].mean(0) - activation[labels != c].mean(0)
             for c in range(task.n_classes)]
        )  # fmt: skip
        masks = torch.zeros_like(scores, dtype=torch.bool)
        masks.scatter_(1, scores.topk(self.keep).indices, True)
        found = torch.arange(task.n_classes) != (-1 if self.refuse is None else self.refuse)
        reasons = tuple("" if has else "refused" for has in found.tolist())
        cost = Cost(len(labels), 0, 0.0)
        return Discovery(
            tuple(sites), masks & found[:, None], found, scores, reasons, cost, (None,) * len(found)
        )


SETTINGS = CircuitSettings(method=Selective())


def analysed(global_model, clients, settings=SETTINGS, **options):
    task = RoundTask(settings, seed=1, round=3, **options)
    weights = {name: get_weights(model) for name, model in clients.items()}
    return analyse_round(toy_model(), get_weights(global_model), weights, PROBE, task)


def verdicts(result, client: str = "0"):
    return [found for found, _ in result.comparisons[client].verdicts]


def test_a_client_that_equals_the_average_is_preserved() -> None:
    result = analysed(toy_model(), {"0": toy_model()})
    assert verdicts(result) == [Verdict.PRESERVED] * 3
    assert [one.model for one in result.models] == ["global", "0"]
    comparison = result.comparisons["0"]
    for overlaps in comparison.overlaps:
        assert overlaps is not None
        assert (overlaps["all"].iou, overlaps["all"].pool) == (1.0, N_UNITS)
    for function in (*comparison.local_in_global, *comparison.global_in_local):
        assert (function.recall, function.fpr, function.normalised) == (1.0, 0.0, 1.0)
    assert set(result.seconds) == {"discovery", "checks", "function", "overlap"}


def test_a_function_that_moved_to_other_units_is_relocated() -> None:
    order = torch.arange(N_UNITS).flip(0)  # detectors become the last units
    result = analysed(toy_model(order=order), {"0": toy_model()})
    assert verdicts(result) == [Verdict.RELOCATED] * 3
    comparison = result.comparisons["0"]
    assert comparison.local_in_global[0].normalised == 0.0
    assert comparison.overlaps[0] is not None
    assert comparison.overlaps[0]["all"].iou == 0.0


def test_a_function_that_is_gone_has_collapsed() -> None:
    averaged = toy_model()
    with torch.no_grad():
        averaged[2].weight[2] = 0.0
        averaged[2].bias[2] = -1.0
    result = analysed(averaged, {"0": toy_model()})
    assert verdicts(result) == [Verdict.PRESERVED, Verdict.PRESERVED, Verdict.COLLAPSED]
    assert result.models[0].validity[2].status is Status.NOT_LEARNED
    backward = result.comparisons["0"].global_in_local
    assert math.isnan(backward[2].recall)  # the global circuit is not valid, so it was not run
    assert backward[0].recall == 1.0


def test_a_clients_circuit_that_carries_half_the_class_is_degraded() -> None:
    # In the average a third unit, 6, recognises the second kind of class 0 (a negative
    # coordinate); the client knows the first kind alone, and its circuit carries only that.
    averaged, client = toy_model(), toy_model()
    with torch.no_grad():
        averaged[0].weight[6, [0, 3]] = torch.tensor([-1.0, 0.0])
        averaged[2].weight[:, 6] = torch.tensor([4.0, 0.0, 0.0])
        for model in (averaged, client):
            model[2].bias[1] = 0.9  # what ablated units of class 0 leave is less than this
    samples = toy_samples(6)
    samples.inputs[9:, 0] *= -1  # of the six samples of class 0 the last three
    probe = Probe(samples, samples, ("a", "b", "c"))
    lenient = ValidityThresholds(full_recall=0.4, full_balanced_accuracy=0.5, balanced_accuracy=0.7)
    settings = CircuitSettings(method=Selective(), validity=lenient)
    task = RoundTask(settings, seed=0, round=1)
    result = analyse_round(
        toy_model(), get_weights(averaged), {"0": get_weights(client)}, probe, task
    )
    own, other = result.models[1].validity[0], result.models[0].validity[0]
    assert (own.status, own.recall) == (Status.VALID, 0.5)
    assert other.full_recall == 1.0
    assert result.comparisons["0"].local_in_global[0].recall == 0.5
    assert result.comparisons["0"].local_in_global[0].normalised == 0.5
    assert verdicts(result)[0] is Verdict.DEGRADED


def test_a_class_without_a_circuit_gives_neither_overlap_nor_verdict() -> None:
    settings = CircuitSettings(method=Selective(refuse=1))
    result = analysed(toy_model(), {"0": toy_model()}, settings)
    comparison = result.comparisons["0"]
    assert comparison.overlaps[1] is None
    assert comparison.verdicts[1][0] is None
    assert "no circuit was found: refused" in comparison.verdicts[1][1]
    assert result.models[1].circuit(1) is None
    assert result.models[1].circuit(0).size == 2
    assert result.stack.found.tolist() == [[True, False, True]] * 2


def noisy(seed: int):
    random = torch.Generator().manual_seed(seed)
    model = toy_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=random))
    return model


def test_results_do_not_depend_on_who_else_takes_part_nor_on_the_order() -> None:
    clients = {name: noisy(seed) for seed, name in enumerate(("2", "0", "1"))}
    together = analysed(noisy(9), clients)
    alone = analysed(noisy(9), {"1": clients["1"]})
    turned = analysed(noisy(9), dict(reversed(clients.items())), order=["0", "1", "2"])
    assert [one.model for one in together.models] == ["global", "2", "0", "1"]
    assert [one.model for one in turned.models] == ["global", "1", "0", "2"]
    for other in (alone, turned):
        # compared as text: NaN, where something was not measured, equals itself there
        assert repr(other.comparisons["1"]) == repr(together.comparisons["1"])
        mine = {one.model: one for one in other.models}["1"]
        theirs = {one.model: one for one in together.models}["1"]
        assert repr(mine.validity) == repr(theirs.validity)
        assert torch.equal(mine.masks, theirs.masks)


def test_functions_are_those_of_one_models_circuit_in_the_other_models_weights() -> None:
    # In the average class 0 has a handicap of 2.2: the full model still gives it 3 - 2.2 against
    # 0, but its circuit alone loses to the 1 that ablated units leave the other classes.
    averaged = toy_model()
    with torch.no_grad():
        averaged[2].bias[0] = -2.2
    comparison = analysed(averaged, {"0": toy_model()}).comparisons["0"]
    assert [one.recall for one in comparison.local_in_global] == [0.0, 1.0, 1.0]
    assert [one.normalised for one in comparison.local_in_global] == [0.0, 1.0, 1.0]
    backward = comparison.global_in_local
    assert math.isnan(backward[0].recall)  # it is not valid at home, so it was not run
    assert [one.recall for one in backward[1:]] == [1.0, 1.0]
    # and the other way round
    turned = analysed(toy_model(), {"0": averaged}).comparisons["0"]
    assert math.isnan(turned.local_in_global[0].recall)
    assert [one.recall for one in turned.global_in_local] == [0.0, 1.0, 1.0]


def test_the_pool_of_an_overlap_is_what_is_live_in_either_model() -> None:
    averaged, client = toy_model(), toy_model()
    with torch.no_grad():
        averaged[2].weight[:, 10:] = 0.0
        client[2].weight[:, 20:] = 0.0
    overlaps = analysed(averaged, {"0": client}).comparisons["0"].overlaps[0]
    assert overlaps is not None
    assert overlaps["all"].pool == 20


def test_every_round_has_its_own_random_circuits() -> None:
    settings = CircuitSettings(method=Selective(keep=500))

    def nulls(round_number: int, seed: int) -> list[float]:
        task = RoundTask(settings, seed=seed, round=round_number)
        result = analyse_round(toy_model(), get_weights(noisy(1)), {}, PROBE, task)
        return [one.necessity_null for one in result.models[0].validity]

    assert nulls(1, 0) == nulls(1, 0)
    assert len({tuple(nulls(*words)) for words in ((1, 0), (2, 0), (1, 1), (2, 1))}) > 1


def test_random_circuits_differ_between_models_rounds_and_seeds() -> None:
    draws = [
        torch.rand(3, generator=stream(*words)).tolist()
        for words in [
            (0, 1, "a"),
            (0, 1, "b"),
            (0, 2, "a"),
            (1, 1, "a"),
            (0, 1, "a", "x"),
            (0, "1a"),
        ]
    ]
    assert len({tuple(draw) for draw in draws}) == len(draws)
    assert torch.rand(3, generator=stream(0, 1, "a")).tolist() == draws[0]


def test_who_is_left_out_for_time_is_named_and_the_global_model_never_is() -> None:
    clients = {"0": toy_model(), "1": toy_model()}
    result = analysed(toy_model(), clients, time_budget=1e-9, order=["1", "0"])
    assert [one.model for one in result.models] == ["global"]
    assert result.comparisons == {}
    assert [client for client, _ in result.skipped] == ["0", "1"]
    assert "time budget of 1e-09 s" in result.skipped[0][1]


def test_circuits_that_clients_sent_are_checked_and_none_is_searched_for() -> None:
    masks = torch.stack([units(0), units(1, 4), units(100)])
    sent = {"0": SentCircuits(masks, torch.tensor([True, True, True]), None)}
    result = analysed(toy_model(), {"0": toy_model(), "1": toy_model()}, sent=sent)
    _, first, second = result.models
    assert torch.equal(first.masks, masks)
    assert [one.status for one in first.validity] == ["valid", "valid", "undiscovered"]
    assert first.scores is None
    assert result.comparisons["0"].overlaps[0]["all"].iou == 0.5
    assert not second.found.any()
    assert second.validity[0].reason == "no circuit was found: the client sent none"
    assert result.models[0].found.all()


def test_the_model_given_is_left_as_it_came() -> None:
    model = build_model("resnet", (1, 8, 8), 3, seed=0, widths=(4,)).train()
    before = copy.deepcopy(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    samples = toy_samples(4)
    images = type(samples)(torch.randn(12, 1, 8, 8, generator=generator), samples.labels)
    probe = Probe(images, images, ("a", "b", "c"))
    weights = get_weights(build_model("resnet", (1, 8, 8), 3, seed=1, widths=(4,)))
    task = RoundTask(CircuitSettings(), seed=0, round=1)
    result = analyse_round(model, weights, {"7": get_weights(model)}, probe, task)
    assert result.live.shape == (2, 12)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_circuits_of_one_model_are_those_of_a_round_with_it_alone() -> None:
    found = circuits_of_model(noisy(4), PROBE, SETTINGS, seed=1)
    result = analysed(noisy(4), {})
    assert torch.equal(found.masks, result.models[0].masks)
    assert [one.status for one in found.validity] == [
        one.status for one in result.models[0].validity
    ]
    assert found.validity[0].recall == result.models[0].validity[0].recall


@pytest.mark.parametrize("method", ["attribution", "gates"])
def test_the_packages_own_methods_find_the_planted_units(method) -> None:
    settings = CircuitSettings(method=method)
    found = circuits_of_model(toy_model(), PROBE, settings)
    for c, validity in enumerate(found.validity):
        assert bool(found.masks[c, c])
        assert validity.recall == 1.0


def test_weights_of_another_shape_are_refused() -> None:
    other = build_model("mlp", (1, 1, 4), 3, seed=0, widths=(5,))
    with pytest.raises(RuntimeError, match="Missing key"):
        analysed(other, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "atribution"}, "did you mean 'attribution'"),
        ({"method_options": {"sise": "mass"}}, "did you mean 'size'"),
        ({"method": Selective(), "method_options": {"keep": 3}}, "would be ignored"),
        ({"ablation": "none"}, "ablation must be"),
        ({"controls": -1}, "count must be >= 0"),
        ({"batch": 0}, "batch must be >= 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        CircuitSettings(**options)
