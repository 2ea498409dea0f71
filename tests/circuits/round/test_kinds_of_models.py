"""Models of other types, modes and outputs are measured like any, or refused in words."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from three_classes import BINARY, PROBE, SHORT, N, X, Y, network
from torch import Tensor, nn

from fedcircuit import CircuitSettings, Probe, Samples, discover
from fedcircuit.circuits.edges.edge_discovery import edge_circuits
from fedcircuit.circuits.methods.named import METHOD_NAMES, discovery_method
from fedcircuit.circuits.round.batched_models import common_layers
from fedcircuit.circuits.round.model_circuits import Search, circuits_of_model
from fedcircuit.circuits.round.round_circuits import RoundTask, analyse_round
from fedcircuit.circuits.round.timing import Clock
from fedcircuit.circuits.sites.finding import find_sites


def short(method: str) -> object:
    return discovery_method(method, **SHORT.get(method, {}))


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


class Around(nn.Module):
    """The network with its output changed."""

    def __init__(self, inner: nn.Module, end: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.inner, self.end = inner, end

    def forward(self, x: Tensor) -> object:
        return self.end(self.inner(x))


def as_two(one: nn.Sequential) -> nn.Sequential:
    """The same function with the logits 0 and z."""
    two = copy.deepcopy(one)
    head = one[-1]
    two[-1] = nn.Linear(head.in_features, 2)
    with torch.no_grad():
        two[-1].weight.copy_(torch.cat([torch.zeros_like(head.weight), head.weight]))
        two[-1].bias.copy_(torch.cat([torch.zeros_like(head.bias), head.bias]))
    return two


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_one_logit_has_the_circuits_of_two(method: str) -> None:
    one = network(1)
    found = discover(one, (X, BINARY), method=short(method))
    other = discover(as_two(one), (X, BINARY), method=short(method))
    assert torch.equal(found.masks, other.masks)
    assert torch.allclose(found.scores, other.scores, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("conv", [False, True])
def test_a_round_of_models_with_one_logit_is_judged_as_with_two(conv: bool) -> None:
    one = network(1, conv=conv)
    results = []
    for model in (one, as_two(one)):
        weights = {name: np.asarray(v) for name, v in model.state_dict().items()}
        probe = Probe.split(Samples(X, BINARY), ["no", "yes"], 0)
        task = RoundTask(CircuitSettings(), 0, 1)
        results.append(analyse_round(model, weights, {"a": weights}, probe, task))
    first, second = results
    for mine, other in zip(first.models, second.models, strict=True):
        assert torch.equal(mine.masks, other.masks)
        assert [v.status for v in mine.validity] == [v.status for v in other.validity]
        recalls = ([v.full_recall for v in part.validity] for part in (mine, other))
        assert next(recalls) == next(recalls)
    assert first.comparisons["a"].verdicts == second.comparisons["a"].verdicts


def test_linear_models_with_one_logit_are_examined_together() -> None:
    one = network(1, conv=False)
    probe = Probe.split(Samples(X, BINARY), ["no", "yes"], 0)
    search = Search.of(one, probe, CircuitSettings(), 0, 0, Clock())
    weights = {name: np.asarray(v) for name, v in one.state_dict().items()}
    assert common_layers(search, one, weights) is not None


def test_one_logit_may_lose_its_axis_and_may_not_be_a_probability() -> None:
    one = network(1)
    expected = discover(one, (X, BINARY)).masks
    for end in (Tensor.squeeze, lambda z: z[:, 0], lambda z: {"logits": z}):
        assert torch.equal(discover(Around(one, end), (X, BINARY)).masks, expected)
    assert edge_circuits(Around(one, Tensor.squeeze), (X, BINARY)).masks.shape[0] == 2
    for end in (torch.sigmoid, lambda z: torch.sigmoid(z).squeeze(1)):
        with pytest.raises(ValueError, match="ends in a sigmoid: .*BCEWithLogitsLoss"):
            discover(Around(one, end), (X, BINARY))
    with pytest.raises(ValueError, match="ends in a sigmoid"):
        discover(nn.Sequential(one, nn.Sigmoid()), (X, BINARY))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1"):
        discover(one, (X, Y))


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
