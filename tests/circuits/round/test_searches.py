"""A model's search for circuits: repeated for its stability, and under resample ablation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from test_round_circuits import PROBE, Selective
from toy_network import toy_model, toy_samples, units

from fedcircuit.circuits.checks.validity import Status
from fedcircuit.circuits.discovery.one_model import discover
from fedcircuit.circuits.masking.ablation import resample_partners
from fedcircuit.circuits.models.memory_format import fast_copy
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.model_circuits import Search, circuits_of_model
from fedcircuit.circuits.round.round_circuits import RoundTask, analyse_round
from fedcircuit.circuits.round.sent_circuits import SentCircuits
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.timing import Clock, stream
from fedcircuit.circuits.search.protocol import Cost, Discovery, Task
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.data.datasets import load_dataset
from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.sources.data_source import DataSource
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.weights import get_weights


@dataclass(frozen=True)
class Fixed:
    """Gives what it is told, one circuit list after the other, and keeps what it was asked."""

    masks: tuple[torch.Tensor, ...]
    tasks: list[Task] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "fixed"

    def __call__(self, model, sites, task, generator):
        masks = self.masks[len(self.tasks) % len(self.masks)]
        self.tasks.append(task)
        self.seeds.append(generator.initial_seed())
        found, scores = masks.any(1), masks.float()
        return Discovery(
            tuple(sites), masks, found, scores, ("",) * 3, Cost(0, 0, 0.0), (None,) * 3
        )


PAIRS = torch.stack([units(0, 3), units(1, 4), units(2, 5)])
OTHERS = torch.stack([units(0, 3), units(1, 100), units()])


def test_a_second_search_has_the_other_half_and_another_seed() -> None:
    method = Fixed((PAIRS, OTHERS))
    found = circuits_of_model(
        toy_model(), PROBE, CircuitSettings(method=method, stability=True), seed=1
    )
    first, second = method.tasks
    assert first.samples is PROBE.discovery
    assert second.samples is PROBE.checking
    assert len(set(method.seeds)) == 2
    assert [one.status for one in found.validity] == ["valid", "undiscovered", "undiscovered"]
    assert [one.stability for one in found.validity] == pytest.approx(
        [1.0, 1 / 3, math.nan], abs=0.01, nan_ok=True
    )
    # the circuits are those of the first search
    assert torch.equal(found.masks, PAIRS)


def test_without_the_option_there_is_one_search() -> None:
    method = Fixed((PAIRS, OTHERS))
    found = circuits_of_model(toy_model(), PROBE, CircuitSettings(method=method))
    assert len(method.tasks) == 1
    assert all(math.isnan(one.stability) for one in found.validity)


def test_a_search_that_agrees_with_itself_is_stable() -> None:
    settings = CircuitSettings(method=Selective(), stability=True)
    for one in circuits_of_model(toy_model(), PROBE, settings).validity:
        assert (one.status, one.stability) == (Status.VALID, 1.0)


def test_circuits_that_clients_sent_are_not_searched_for_a_second_time() -> None:
    method = Fixed((PAIRS,))
    settings = CircuitSettings(method=method, stability=True)
    sent = {"0": SentCircuits(PAIRS, torch.ones(3, dtype=torch.bool), None)}
    weights = get_weights(toy_model())
    task = RoundTask(settings, seed=1, round=1, sent=sent)
    result = analyse_round(toy_model(), weights, {"0": weights}, PROBE, task)
    assert len(method.tasks) == 2  # both for the global model
    assert math.isnan(result.models[1].validity[0].stability)
    assert result.models[1].validity[0].status is Status.VALID


def examined(settings: CircuitSettings, seed: int = 3):
    model = toy_model()
    with torch.no_grad():
        model[2].bias[0] = 0.5
        model[2].weight[:, 6:] = 0.0
    sites = find_sites(model, PROBE.checking.inputs)
    search = Search(sites, PROBE, settings, seed, 7, Clock())
    return search.examine(fast_copy(model, PROBE.checking.inputs), "me")


RESAMPLE = CircuitSettings(method=Selective(), ablation="resample")


def test_resample_ablation_by_hand() -> None:
    # Class 0 has a bias of 0.5, and its circuit is units 0 and 3. On its own samples the partner's
    # detectors, of class k, are shown in full: z_0 = 3.5 against z_k = 3. On others z_0 = 0.5
    # against 3, unless the partner is of class 0: its detectors are not among the ablated units,
    # and those that are show nothing, so that 0.5 wins.
    circuits, subject = examined(RESAMPLE)
    labels = PROBE.checking.labels  # 18 of them; the discovery half has 12
    partners = resample_partners(labels, 3, stream(3, 7, "me", "checks", "partners"))
    lost = labels[partners][labels != 0] == 0
    assert circuits.validity[0].recall == 1.0
    assert circuits.validity[0].fpr == pytest.approx(lost.double().mean().item())
    assert 0 < circuits.validity[0].fpr < 1
    assert subject.masked.reference is not None
    shown = subject.masked.reference[subject.sites[0].name][:, :3].argmax(1)
    assert torch.equal(shown, labels[partners])


def test_resampled_partners_depend_on_seed_round_and_model() -> None:
    def shown(settings, seed):
        _, subject = examined(settings, seed)
        return subject.masked.reference[subject.sites[0].name]

    assert torch.equal(shown(RESAMPLE, 3), shown(RESAMPLE, 3))
    assert not torch.equal(shown(RESAMPLE, 3), shown(RESAMPLE, 4))


def test_every_search_has_partners_of_its_own_samples() -> None:
    method = Fixed((PAIRS,))
    examined(CircuitSettings(method=method, ablation="resample", stability=True))
    discover(toy_model(), PROBE, method=method, ablation="resample", seed=5)
    for task, samples in zip(
        method.tasks, (PROBE.discovery, PROBE.checking, PROBE.discovery), strict=True
    ):
        assert task.samples is samples
        assert task.reference is not None
        (reference,) = task.reference.values()
        assert len(reference) == len(samples)
        assert (reference[:, :3].argmax(1) != samples.labels).all()


def test_one_call_with_resample_ablation_depends_on_its_seed_alone() -> None:
    method = Fixed((PAIRS,))
    for seed in (5, 5, 6):
        discover(toy_model(), PROBE, method=method, ablation="resample", seed=seed)
    first, again, other = (next(iter(task.reference.values())) for task in method.tasks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_models_of_a_round_are_compared_under_resample_ablation() -> None:
    model = toy_model()
    with torch.no_grad():
        model[2].bias[0] = 0.5
    weights = get_weights(model)
    task = RoundTask(RESAMPLE, seed=0, round=1)
    result = analyse_round(toy_model(), weights, {"0": weights, "1": weights}, PROBE, task)
    assert [one.model for one in result.models] == ["global", "0", "1"]
    for comparison in result.comparisons.values():
        assert comparison.overlaps[0]["all"].iou == 1.0


def test_circuits_of_digits_are_valid_under_resample_ablation() -> None:
    data = load_dataset(DataSource("digits"), seed=0)
    labels = data.test.labels
    few = torch.cat([(labels == c).nonzero().flatten()[:24] for c in range(10)])
    probe = Probe.split(data.test.take(few), data.class_names, 0)
    model = build_model("mlp", data.input_shape, 10, seed=0)
    training = LocalTraining(epochs=8, batch_size=32, optimizer="adam", lr=3e-3)
    train_local(model, data.train, training, n_classes=10, seed=0)
    found = circuits_of_model(model, probe, CircuitSettings(ablation="resample"))
    assert [one.status for one in found.validity].count(Status.VALID) >= 5
    for one in found.validity:
        assert one.balanced_accuracy > one.null_balanced_accuracy


def test_a_probe_of_one_class_has_nobody_to_resample_from() -> None:
    alone = toy_samples(classes=(0,))
    with pytest.raises(ValueError, match="samples of at least 2 classes, got 1"):
        circuits_of_model(toy_model(), Probe(alone, alone, ("a", "b", "c")), RESAMPLE)
