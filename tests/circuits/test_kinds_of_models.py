"""Models of other types, modes and outputs are measured like any, or refused in words."""

import copy

import numpy as np
import pytest
import torch
from kinds_of_models import PROBE, Around, N, X, Y, network, short
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fedcircuit import CircuitSettings, Probe, Samples, discover
from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.discovery import METHOD_NAMES
from fedcircuit.circuits.preservation import RoundTask, analyse_round, circuits_of_model
from fedcircuit.circuits.sites import find_sites
from fedcircuit.circuits.unit_weights import incoming_weights
from fedcircuit.circuits.validity import Status


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_double_precision_is_kept_and_sixteen_bits_are_measured_in_thirty_two(method: str) -> None:
    model = network()
    plain = discover(model, PROBE, method=short(method))

    double = discover(copy.deepcopy(model).double(), PROBE, method=short(method))
    low = copy.deepcopy(model).bfloat16()
    coarse = discover(low, PROBE, method=short(method))
    same = discover(copy.deepcopy(low).float(), PROBE, method=short(method))

    assert torch.allclose(double.scores, plain.scores, rtol=1e-3, atol=1e-3, equal_nan=True)
    assert torch.equal(coarse.masks, same.masks)
    assert next(low.parameters()).dtype == torch.bfloat16


def test_double_precision_sees_what_single_cannot() -> None:
    # class 1 has a sum larger by 1e-10, which no float32 of size 1 can tell
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1e10], [-1e10]]))
        model[0].bias.copy_(torch.tensor([-1e10 - 0.5, 1e10 + 0.5]))
        model[2].weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        model[2].bias.zero_()
    labels = torch.arange(40) % 2
    inputs = (1 + labels.double() * 1e-10)[:, None]
    assert discover(model, (inputs, labels)).found.all()
    assert not discover(copy.deepcopy(model).float(), (inputs, labels)).found.any()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_nobody_around_can_switch_gradients_off(method: str) -> None:
    model = network()
    expected = discover(model, PROBE, method=short(method))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = discover(model, PROBE, method=short(method))
        assert torch.equal(found.masks, expected.masks)
        assert torch.equal(found.scores.nan_to_num(), expected.scores.nan_to_num())


def test_weights_and_inputs_made_under_inference_mode_are_taken() -> None:
    plain = circuits_of_model(network(), PROBE)
    with torch.inference_mode():
        model = network()
        probe = Probe.split(Samples(X * 1, Y * 1), ["a", "b", "c"], 0)
        inside = circuits_of_model(model, probe)
    outside = circuits_of_model(model, probe)
    assert torch.equal(inside.masks, plain.masks)
    assert torch.equal(outside.masks, plain.masks)
    assert next(model.parameters()).is_inference()


def test_parameters_that_are_frozen_change_nothing() -> None:
    frozen = network().requires_grad_(False)
    assert torch.equal(discover(frozen, PROBE).masks, discover(network(), PROBE).masks)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_tokens_stay_integers_and_images_of_bytes_become_floats() -> None:
    tokens = torch.randint(0, 9, (N, 5), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(15, 4), nn.ReLU())
    model.append(nn.Linear(4, 3))
    expected = discover(model, (tokens, Y)).scores
    for kind in (Tensor.int, Tensor.numpy, Tensor.tolist):
        assert torch.equal(discover(model, (kind(tokens), Y)).scores, expected)
    with pytest.raises(ValueError, match=r"does not take inputs of shape \(36, 5\) \(probe\)"):
        discover(model, (tokens.float(), Y))

    pixels = (X.clamp(0, 2) * 100).byte()
    as_floats = discover(network(), (pixels.float(), Y)).scores
    assert torch.equal(discover(network(), (pixels, Y)).scores, as_floats)


def test_an_output_with_logits_is_that_and_others_are_refused() -> None:
    expected = circuits_of_model(network(), PROBE).masks
    model = Around(network(), lambda z: {"logits": z, "hidden": None})
    assert torch.equal(circuits_of_model(model, PROBE).masks, expected)
    for end, words in (
        (lambda z: (z, z), "got tuple; wrap it"),
        (lambda z: z[:, :, None, None].expand(-1, -1, 2, 2), "one row of logits for every pos"),
    ):
        with pytest.raises(ValueError, match=words):
            discover(Around(network(), end), PROBE)


@pytest.mark.parametrize("n_logits", [2, 5])
def test_as_many_logits_as_names_are_asked_for(n_logits: int) -> None:
    with pytest.raises(ValueError, match=f"gives {n_logits} logits, the probe has 3 class names"):
        discover(network(n_logits), PROBE)
    with pytest.raises(ValueError, match=f"gives {n_logits} logits"):
        circuits_of_model(network(n_logits), PROBE)


def test_wrappers_and_devices_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is a DataParallel: give .*model\.module"):
        discover(nn.DataParallel(network()), PROBE)
    with pytest.raises(ValueError, match="on the device 'meta'"):
        discover(network().to("meta"), PROBE)
    with pytest.raises(ValueError, match=r"must be a torch\.nn\.Module, got function"):
        discover(network, PROBE)  # type: ignore[arg-type]


NORMS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "weight norm of old": nn.utils.weight_norm,
    "spectral norm of old": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NORMS)
def test_weights_that_are_computed_are_read_and_stay_whole(name: str) -> None:
    model = network()
    NORMS[name](model[3])
    model(X)  # the old form keeps the result of a computation
    before = model.eval()(X)

    norms = discover(model, PROBE, method="magnitude")
    found = circuits_of_model(model, PROBE)

    used = model[3].weight.detach().norm(dim=1)
    assert torch.allclose(norms.scores[0, 4:], used / used.mean())
    assert found.masks.shape == (3, 10)
    assert torch.equal(model(X), before)  # copies share the class of a parametrized module


class Attends(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.size, self.head = self.attention.kdim, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        other = x[..., : self.size]
        return self.head(self.attention(x, other, other)[0].mean(1))


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 3}], ids=["joint", "apart"])
def test_magnitude_scores_heads_by_their_projections(options: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = Attends(**options)
    attention = model.attention
    if options:
        parts = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    else:
        parts = list(attention.in_proj_weight.chunk(3))
    squares = [
        sum(float(part[2 * head : 2 * head + 2].detach().square().sum()) for part in parts)
        for head in range(2)
    ]
    norms = torch.tensor(squares).sqrt()

    found = discover(model, PROBE, method="magnitude")

    assert found.sites == (Site("attention", 2, 2, "attention"),)
    assert torch.allclose(found.scores, (norms / norms.mean()).expand(3, -1))
    weights = incoming_weights(model, found.sites[0])
    assert torch.allclose(weights.norm(dim=1), norms)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrences_are_no_sites_and_do_not_disturb_those_behind(layer: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self, *, hidden: bool) -> None:
            super().__init__()
            self.cells = layer(4, 5, batch_first=True)
            self.hidden = nn.Linear(5, 5) if hidden else nn.Identity()
            self.head = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.hidden(self.cells(x[:, 0])[0][:, -1]).relu())

    assert [site.name for site in find_sites(Recurrent(hidden=True), X)] == ["hidden"]
    for method in ("attribution", "magnitude"):
        assert discover(Recurrent(hidden=True), PROBE, method=method).masks.shape == (3, 5)
    with pytest.raises(ValueError, match="has no sites: expected at least one"):
        discover(Recurrent(hidden=False), PROBE)


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
