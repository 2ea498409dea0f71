"""Models examined together give what they give one by one."""

import math
from dataclasses import astuple, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedcircuit.circuits.masking.masking import masked_model
from fedcircuit.circuits.masking.stacked_masks import masked_models
from fedcircuit.circuits.masking.stacked_models import layers_of, stack
from fedcircuit.circuits.paths.connectivity import has_path, live_units
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round import batched_models as together
from fedcircuit.circuits.round import round_circuits as whole
from fedcircuit.circuits.round.model_circuits import Search
from fedcircuit.circuits.round.round_circuits import RoundCircuits, load_weights
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.timing import Clock
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples

N_CLASSES, SHAPE = 4, (1, 5, 5)
NAMES = tuple("abcd")


def blobs(n: int, seed: int) -> Samples:
    """Noisy copies of one picture a class."""
    random, fixed = (torch.Generator().manual_seed(one) for one in (seed, 9))
    centres = torch.randn(N_CLASSES, *SHAPE, generator=fixed)
    labels = torch.arange(n) % N_CLASSES
    return Samples(centres[labels] + 0.8 * torch.randn(n, *SHAPE, generator=random), labels)


def plain() -> nn.Module:
    return build_model("mlp", SHAPE, N_CLASSES, seed=1, widths=(12, 9))


def varied() -> nn.Module:
    """Two activations in a row, dropout, a layer without bias, layers in a layer, three sites."""
    inner = nn.Sequential(nn.Linear(12, 9, bias=False), nn.Tanh(), nn.GELU())
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(25, 12), nn.ReLU(inplace=True), nn.Dropout(0.3),
        inner, nn.Linear(9, 8), nn.LeakyReLU(), nn.Identity(), nn.Linear(8, N_CLASSES),
    )  # fmt: skip


def convolutional() -> nn.Module:
    return build_model("simple-cnn", SHAPE, N_CLASSES, seed=0, widths=(3,))


class Functional(nn.Module):
    """A nonlinearity that no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(25, 12), nn.Linear(12, N_CLASSES)

    def forward(self, x):
        return self.two(torch.sin(self.one(x.flatten(1))))


class Around(Functional):
    """A way around the only site."""

    def forward(self, x):
        x = x.flatten(1)
        return self.two(self.one(x)) + x[:, :N_CLASSES]


def weights_of(make, seed: int, *, steps: int = 25, classes: int = N_CLASSES) -> dict:
    return {name: value.copy() for name, value in trained(make, seed, steps, classes).items()}


@cache  # and copied for every test
def trained(make, seed: int, steps: int, classes: int) -> dict:
    torch.manual_seed(seed)
    model, data = make(), blobs(80, seed)
    data = data.take(data.labels < classes)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model.train()(data.inputs), data.labels).backward()
        optimiser.step()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("weight"):  # many are zero: some units are dead
                value[value.abs() < value.abs().quantile(0.4)] = 0.0
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def a_round(make, settings: CircuitSettings, *, one_by_one: bool, clients: dict) -> RoundCircuits:
    probe = Probe.split(blobs(160, 5), NAMES, seed=0)
    budget = 1e9 if one_by_one else None  # never used up, and yet models go one by one
    task = whole.RoundTask(settings, seed=3, round=2, time_budget=budget)
    average = {k: np.mean([c[k] for c in clients.values()], axis=0) for k in clients["x"]}
    return whole.analyse_round(make(), average, clients, probe, task)


def clients_of(make) -> dict:
    return {
        "x": weights_of(make, 1),
        "new": weights_of(make, 2, steps=0),  # recognises next to nothing
        "two": weights_of(make, 3, classes=2),
        "y": weights_of(make, 4),
    }


def same(one: object, two: object) -> bool:
    """Equal, numbers up to rounding and NaN with NaN."""
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float) and isinstance(two, float):
        both = math.isnan(one) and math.isnan(two)
        return both or math.isclose(one, two, rel_tol=1e-4, abs_tol=1e-5)
    return one == two


def assert_same(quick: RoundCircuits, slow: RoundCircuits) -> None:
    assert torch.equal(quick.stack.masks, slow.stack.masks)
    assert torch.equal(quick.stack.found, slow.stack.found)
    assert torch.equal(quick.live, slow.live)
    for fast, plain_ in zip(quick.models, slow.models, strict=True):
        assert (fast.model, fast.reasons) == (plain_.model, plain_.reasons)
        assert torch.allclose(fast.scores, plain_.scores, atol=1e-5, equal_nan=True)
        for mine, theirs in zip(fast.validity, plain_.validity, strict=True):
            # samples that close all units tie but for the last bit, and a tie is half a pair
            assert math.isnan(mine.auroc) == math.isnan(theirs.auroc)
            assert not abs(mine.auroc - theirs.auroc) > 0.02
            assert same(astuple(replace(mine, auroc=0.5)), astuple(replace(theirs, auroc=0.5)))
    assert quick.comparisons.keys() == slow.comparisons.keys()
    for client, compared in quick.comparisons.items():
        expected = slow.comparisons[client]
        assert compared.verdicts == expected.verdicts
        for name in ("local_in_global", "global_in_local"):
            for mine, theirs in zip(getattr(compared, name), getattr(expected, name), strict=True):
                assert same(astuple(mine), astuple(theirs))
        for mine, theirs in zip(compared.overlaps, expected.overlaps, strict=True):
            assert (mine is None) == (theirs is None)
            for layer, value in (mine or {}).items():
                assert same(astuple(value), astuple(theirs[layer]))


@pytest.mark.parametrize("make", [plain, varied])
@pytest.mark.parametrize(
    "settings",
    [
        CircuitSettings(),
        CircuitSettings(ablation="zero"),
        CircuitSettings(minimality=True, controls=0),
        CircuitSettings(method_options={"positives": 9, "negatives": 12}),
    ],
    ids=["default", "zero", "minimality", "few"],
)
def test_a_round_together_is_the_round_one_by_one(make, settings) -> None:
    clients = clients_of(make)
    quick = a_round(make, settings, one_by_one=False, clients=clients)
    assert_same(quick, a_round(make, settings, one_by_one=True, clients=clients))
    assert any(one.status == "valid" for model in quick.models for one in model.validity)


def test_models_are_really_examined_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = together.examined_together

    def counted(search, layers, models, like):
        sizes.append([name for name, _ in models])
        return real(search, layers, models, like)

    monkeypatch.setattr("fedcircuit.circuits.round.round_circuits.examined_together", counted)
    clients = clients_of(plain)
    a_round(plain, CircuitSettings(), one_by_one=False, clients=clients)
    assert sizes == [["global", "x", "new", "two", "y"]]
    a_round(plain, CircuitSettings(), one_by_one=True, clients=clients)
    assert len(sizes) == 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_groups_change_nothing(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    clients = clients_of(plain)
    whole = a_round(plain, CircuitSettings(), one_by_one=False, clients=clients)
    monkeypatch.setattr(
        "fedcircuit.circuits.round.round_circuits.most_together", lambda search: size
    )
    assert_same(a_round(plain, CircuitSettings(), one_by_one=False, clients=clients), whole)


def test_the_order_of_work_changes_nothing() -> None:
    clients = clients_of(plain)
    probe = Probe.split(blobs(160, 5), NAMES, seed=0)
    task = whole.RoundTask(CircuitSettings(), seed=3, round=2)
    first, second = (
        whole.analyse_round(plain(), clients["x"], clients, probe, replace(task, order=order))
        for order in (None, ["y", "two"])
    )
    assert [one.model for one in second.models] == ["global", "two", "y"]
    assert same(astuple(second.models[1].validity[0]), astuple(first.models[3].validity[0]))


def test_weights_that_do_not_fit_are_named() -> None:
    weights = weights_of(plain, 1, steps=0)
    name = next(iter(weights))
    probe = Probe.split(blobs(160, 5), NAMES, seed=0)
    task = whole.RoundTask(CircuitSettings(), seed=3, round=2)
    lacking = {key: value for key, value in weights.items() if key != name}
    for wrong in (lacking, weights | {name: weights[name][1:]}):
        with pytest.raises(RuntimeError, match=name):
            whole.analyse_round(plain(), weights, {"x": weights, "y": wrong}, probe, task)


@pytest.mark.parametrize(
    ("make", "settings", "fits"),
    [
        (plain, CircuitSettings(), True),
        (varied, CircuitSettings(ablation="zero"), True),
        (plain, CircuitSettings(ablation="resample"), False),
        (plain, CircuitSettings(stability=True), False),
        (plain, CircuitSettings(method="magnitude"), False),
        (plain, CircuitSettings(method_options={"size": "mass"}), False),
        (plain, CircuitSettings(method_options={"max_jacobian_classes": 3}), False),
        (Functional, CircuitSettings(), False),
        (Around, CircuitSettings(), False),
        (convolutional, CircuitSettings(), False),
    ],
)
def test_only_what_gives_the_same_is_examined_together(make, settings, fits) -> None:
    torch.manual_seed(0)
    model, probe = make(), Probe.split(blobs(40, 5), NAMES, seed=0)
    sites = find_sites(model, probe.checking.inputs)
    search = Search(sites, probe, settings, 0, 0, Clock())
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    assert (together.common_layers(search, model, weights) is not None) == fits


def stacked(seeds):
    make = varied
    model = make().eval()
    data = blobs(11, 7)
    sites = find_sites(model, data.inputs)
    weights = [weights_of(make, seed, steps=3) for seed in seeds]
    layers = layers_of(model, sites, data.inputs)
    return model, data, weights, stack(layers, weights, torch.zeros(()))


@pytest.mark.parametrize("mean", [True, False])
def test_rows_run_in_the_model_that_their_sample_is_of(mean: bool) -> None:
    model, data, weights, models = stacked([0, 1, 2])
    random = torch.Generator().manual_seed(0)
    sites = models.layers.sites
    reference = None
    if mean:
        reference = tuple(torch.randn(3, 1, s.n_units, generator=random) for s in sites)
    first = models.first(data.inputs)
    masked = masked_models(models, first, models.behind(first)[-1], reference)
    masks = torch.rand(5, sum(s.n_units for s in sites), generator=random) > 0.4
    # all rows of model 1, some of model 2, none of model 0, mixed
    samples = torch.tensor([11, 32, 12, 13, 22, 21, 14, 11, 32])
    which = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])
    found = masked.pair_logits(masks, which, samples)
    for row, (mask, sample) in enumerate(zip(which.tolist(), samples.tolist(), strict=True)):
        owner, place = divmod(sample, 11)
        load_weights(model, weights[owner])
        means = zip(sites, reference or (), strict=bool(reference))
        own = {site.name: part[owner] for site, part in means} if reference else None
        alone = masked_model(model, sites, data.inputs, own)
        expected = alone.pair_logits(masks, torch.tensor([mask]), torch.tensor([place]))
        assert torch.allclose(found[row], expected[0], atol=1e-5)
    assert masked.pair_logits(masks, which[:0], samples[:0]).shape == (0, N_CLASSES)


@given(seed=st.integers(0, 2**31))
def test_paths_and_live_units_are_those_of_the_models(seed: int) -> None:
    model, data, weights, models = stacked([0, 1])
    random = np.random.default_rng(seed)
    for one in weights:
        for name, value in one.items():
            if name.endswith("weight"):
                value[random.random(value.shape) < 0.8] = 0.0
    models = stack(models.layers, weights, torch.zeros(()))
    sites = models.layers.sites
    masks = torch.from_numpy(random.random((6, sum(s.n_units for s in sites))) < 0.5)
    owners = torch.tensor([1, 0, 1, 1, 0, 0])
    found, live = models.has_path(masks, owners), models.live()
    for owner in range(2):
        load_weights(model, weights[owner])
        rows = owners == owner
        assert torch.equal(found[rows], has_path(model, sites, masks[rows], data.inputs))
        assert torch.equal(live[owner], live_units(model, sites, data.inputs))
