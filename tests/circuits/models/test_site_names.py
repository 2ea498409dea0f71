"""What people call the layers of a model: own names, else type and order, each name once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits.models.site_names import (
    KINDS,
    RESERVED,
    Names,
    has_own_name,
    layer_title,
    model_names,
    place_names,
)
from fedcircuit.circuits.sites.finding import find_sites

IMAGE, TOKENS = torch.zeros(1, 1, 8, 8), torch.zeros(1, 4, 6)


def conv(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU())


class Named(nn.Module):
    """Own names, some below numbers, and functions in between."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv1", nn.Conv2d(1, 3, 3))
        self.layer1 = nn.ModuleList([nn.ModuleDict({"conv2": nn.Conv2d(3, 4, 3)})])
        self.hidden = nn.Linear(64, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.features(x))
        x = functional.relu(self.layer1[0]["conv2"](x))  # type: ignore[index, operator]
        return self.head(functional.relu(self.hidden(x.flatten(1))))


class Attending(nn.Module):
    """Numbered attentions and linear layers around a named one."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [nn.Linear(6, 6), nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 6)]
        )
        self.attn2 = nn.MultiheadAttention(6, 3, batch_first=True)
        self.more = nn.ModuleList([nn.MultiheadAttention(6, 1, batch_first=True)])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts[0](x)
        for attention in (self.parts[1], self.attn2, self.more[0]):
            x = attention(x, x, x)[0]
        return self.head(self.parts[2](x).mean(1))


def sequential() -> nn.Module:
    return nn.Sequential(
        *conv(1, 3), nn.ConvTranspose2d(3, 2, 2), nn.Flatten(), nn.Linear(162, 7), nn.Linear(7, 2)
    )


def called(model: nn.Module, example: Tensor) -> list[tuple[str, str, str]]:
    return [(site.title, site.name, site.kind) for site in find_sites(model, example)]


def test_numbered_modules_are_called_after_type_and_order() -> None:
    # a transposed convolution counts among convolutions; module 6, the head, is no site
    assert called(sequential(), IMAGE) == [
        ("conv1", "0", "conv"), ("conv2", "3", "conv"), ("fc1", "5", "fc"),
    ]  # fmt: skip


def test_a_module_with_a_name_of_its_own_keeps_its_whole_path() -> None:
    assert [title for title, _, _ in called(Named(), IMAGE)] == [
        "features.conv1", "layer1.0.conv2", "hidden",
    ]  # fmt: skip


def test_a_name_that_is_taken_is_passed_over_and_order_stays() -> None:
    # the second attention is called attn2 by itself, so the numbered ones are attn1 and attn3
    assert called(Attending(), TOKENS) == [
        ("fc1", "parts.0", "fc"), ("attn1", "parts.1", "attn"), ("attn2", "attn2", "attn"),
        ("attn3", "more.0", "attn"), ("fc2", "parts.2", "fc"),
    ]  # fmt: skip


def test_the_name_of_a_layer_that_is_no_site_is_taken_too() -> None:
    model = nn.Sequential()
    for name, module in (("0", nn.Linear(4, 3)), ("fc1", nn.Linear(3, 2))):
        model.add_module(name, module)
    assert called(model, torch.zeros(1, 4)) == [("fc2", "0", "fc")]


def test_a_folder_of_modules_does_not_take_a_name() -> None:
    model = nn.Sequential()
    model.add_module("conv1", conv(1, 3))
    model.add_module("rest", nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    assert called(model, IMAGE) == [("conv1", "conv1.0", "conv")]


def test_sites_are_the_same_whatever_they_are_called() -> None:
    one, other = find_sites(sequential(), IMAGE)[0], find_sites(sequential(), IMAGE)[0]
    assert one == other.__class__(one.name, one.n_units, one.axis, one.output)


@pytest.mark.parametrize(
    ("path", "own"),
    [("conv1", True), ("a.0.b", True), ("0", False), ("layers.12", False), ("", False),
     ("all", False), ("x.all", True), ("output", False), ("block1x1.2b", True)],
)  # fmt: skip
def test_a_path_whose_last_part_is_a_number_is_no_name(path: str, *, own: bool) -> None:
    assert has_own_name(path) == own


PARTS = st.sampled_from(["0", "1", "7", "conv1", "conv2", "fc1", "attn1", "norm1", "x", "all"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(".".join)
PLACES = st.lists(st.tuples(PATHS, st.sampled_from([*KINDS, ""])), unique_by=lambda place: place[0])


@given(PLACES, st.lists(PATHS, max_size=3))
def test_no_two_places_share_a_name(places: list[tuple[str, str]], taken: Iterable[str]) -> None:
    names = place_names(places, taken)
    assert list(names) == [path for path, _ in places]
    assert len(set(names.values())) == len(places)
    for path, kind in places:
        if has_own_name(path):
            assert names[path] == path
        elif kind:
            assert names[path] not in {*RESERVED, *taken}
            assert names[path].removeprefix(kind).isdecimal()


def weights(model: nn.Module) -> dict[str, int]:
    return {name: value.ndim for name, value in model.state_dict().items()}


def assert_same_from_weights(model: nn.Module, example: Tensor) -> Names:
    sites = find_sites(model, example)
    names = model_names([(site.name, "") for site in sites], weights(model))
    assert [names(site.name) for site in sites] == [site.title for site in sites]
    return names


def test_weights_alone_tell_the_kind_of_a_site() -> None:
    names = assert_same_from_weights(sequential(), IMAGE)
    assert names.units("0") == "channels"
    assert names.units("5", 1) == "unit"
    names = assert_same_from_weights(Attending(), TOKENS)
    assert names.units("attn2") == "heads"
    assert_same_from_weights(Named(), IMAGE)


def test_a_tensor_is_called_after_its_module() -> None:
    names = assert_same_from_weights(sequential(), IMAGE)
    assert [names(name) for name in ("0.weight", "1.running_mean", "5.bias", "6.weight")] == [
        "conv1.weight", "norm1.running_mean", "fc1.bias", "fc2.weight",
    ]  # fmt: skip
    names = assert_same_from_weights(Attending(), TOKENS)
    assert names("parts.1.out_proj.weight") == "attn1.out_proj.weight"
    assert names("more.0.in_proj_weight") == "attn3.in_proj_weight"
    assert names("head.weight") == "head.weight"
    assert names("unheard.3.weight") == "unheard.3.weight"


def test_tensors_made_by_a_parametrisation_are_called_after_their_module() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    nn.utils.parametrizations.weight_norm(model[0])
    names = assert_same_from_weights(model, IMAGE)
    assert names("0.parametrizations.weight.original1") == "conv1.parametrizations.weight.original1"


def test_a_table_before_the_first_site_is_an_embedding() -> None:
    axes = {"0.weight": 2, "1.weight": 2, "3.weight": 2, "3.bias": 1}
    names = model_names([("1", "fc")], axes)
    assert [names(name) for name in axes] == ["emb1.weight", "fc1.weight", "fc2.weight", "fc2.bias"]
    # without sites nothing tells it from a linear layer
    assert model_names([], axes)("0.weight") == "fc1.weight"


def test_recorded_names_stay() -> None:
    names = model_names([("0", "fc")], {"0.weight": 2, "1.weight": 2}, {"0": "fc2"})
    assert (names("0"), names("1.weight")) == ("fc2", "fc3.weight")


def test_without_kind_and_weights_the_path_is_all_there_is() -> None:
    names = model_names([("3", ""), ("last.conv", "")])
    assert (names("3"), names("last.conv")) == ("3", "last.conv")
    assert [layer_title(name) for name in ("3", "conv1")] == ["layer 3", "conv1"]
