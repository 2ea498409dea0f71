"""What circuits need of a model, shown on VGG11 by routes that know nothing of hooks."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fedcircuit.circuits.circuit import Site, split_by_site
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.masking.masking import masked_model
from fedcircuit.circuits.paths.connectivity import has_path, live_units
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import capture, gated
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples

WIDTHS = (4, 5, 6, 6, 7, 7, 8, 8)
STARTS = (0, 4, 8, 11, 15, 18, 22, 25)  # places of the convolutions for 32x32 images
ENDS = ("3", "7", "10", "14", "17", "21", "24", "29")  # the pooling, else the ReLU, behind each
SITES = tuple(
    Site(str(start), width, 1, end) for start, width, end in zip(STARTS, WIDTHS, ENDS, strict=True)
)


def vgg() -> nn.Module:
    model = build_model("vgg11", (3, 32, 32), 3, seed=0, widths=WIDTHS)
    random = torch.Generator().manual_seed(1)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1, generator=random)
            nn.init.uniform_(module.bias, 0.1, 0.4, generator=random)
    return model.eval()


def inputs(n: int) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_the_sites_are_the_eight_convolutions_read_behind_their_pooling() -> None:
    assert find_sites(vgg(), inputs(1)) == SITES


@torch.no_grad()
def test_the_sites_of_smaller_images_follow_the_poolings_that_are_there() -> None:
    model = build_model("vgg11", (1, 8, 8), 3, seed=0, widths=WIDTHS).eval()

    ends = [site.output for site in find_sites(model, torch.zeros(1, 1, 8, 8))]

    kinds = [type(model[int(end)]).__name__ for end in ends]
    assert kinds == ["MaxPool2d"] * 2 + ["ReLU"] * 5 + ["AdaptiveAvgPool2d"]


@torch.no_grad()
def test_gating_a_unit_equals_silencing_its_batch_norm() -> None:
    model, images = vgg(), inputs(3)
    with capture(model, SITES) as seen:
        plain = model(images)
    for site in SITES:
        unit = int(seen[site.name].flatten(2).sum((0, 2)).argmax())
        edited = copy.deepcopy(model)
        norm = edited[int(site.name) + 1]
        norm.weight[unit] = norm.bias[unit] = 0
        gates = {s.name: torch.ones(s.n_units) for s in SITES}
        gates[site.name][unit] = 0

        with gated(model, SITES, gates):
            ours = model(images)

        torch.testing.assert_close(ours, edited(images))
        assert (ours - plain).abs().max() > 1e-3


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@torch.no_grad()
def test_many_circuits_at_once_equal_one_after_the_other(ablation: str) -> None:
    model, images = vgg(), inputs(3)
    samples = Samples(images, torch.arange(3))
    reference = reference_activations(model, SITES, samples, n_classes=3, ablation=ablation)
    rows = torch.rand(4, sum(WIDTHS), generator=torch.Generator().manual_seed(3)) < 0.8

    ready = masked_model(model, SITES, images, reference)
    fast = ready.pair_logits(rows, torch.arange(4), torch.tensor([0, 1, 2, 1]))

    for row, place, logits in zip(rows, (0, 1, 2, 1), fast, strict=True):
        with gated(model, SITES, split_by_site(row, SITES), reference):
            torch.testing.assert_close(model(images[[place]])[0], logits, rtol=1e-3, atol=1e-4)


def with_missing_kernels(seed: int) -> nn.Module:
    """The model with two thirds of its kernels, whole ones, set to zero."""
    model, random = vgg(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                drop = torch.rand(layer.weight.shape[:2], generator=random) < 0.67
                layer.weight[drop] = 0
    return model


def links(model: nn.Module) -> list[Tensor]:
    """Which channel feeds which, ``[out, in]`` bool, layer by layer."""
    weights = [m.weight.detach() for m in model if isinstance(m, nn.Conv2d | nn.Linear)]
    return [weight.flatten(2).any(2) if weight.ndim > 2 else weight != 0 for weight in weights]


def reachable(model: nn.Module, kept: list[Tensor]) -> list[Tensor]:
    """Kept channels of every convolution that a path of kept ones joins to the image."""
    here, found = torch.ones(3, dtype=torch.bool), []
    for link, keep in zip(links(model)[:-1], kept, strict=True):
        here = (link & here).any(1) & keep
        found.append(here)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_live_units_and_paths_are_those_of_a_walk_over_the_kernels(seed: int) -> None:
    model = with_missing_kernels(seed)
    everything = [torch.ones(width, dtype=torch.bool) for width in WIDTHS]
    reached, read, here = reachable(model, everything), [], torch.ones(3, dtype=torch.bool)
    for link in reversed(links(model)[1:]):
        here = (link & here[:, None]).any(0)
        read.append(here)
    live = torch.cat([a & b for a, b in zip(reached, reversed(read), strict=True)])

    assert live_units(model, SITES, inputs(1)).tolist() == live.tolist()

    rows = torch.rand(12, sum(WIDTHS), generator=torch.Generator().manual_seed(seed)) < 0.75
    expected = []
    for row in rows:
        end = reachable(model, list(row.split(WIDTHS)))[-1]
        expected.append(bool((links(model)[-1] & end).any()))
    assert has_path(model, SITES, rows, inputs(1)).tolist() == expected


def test_the_walks_are_neither_all_nor_nothing() -> None:
    shares = [float(live_units(with_missing_kernels(s), SITES, inputs(1)).double().mean())
              for s in range(6)]  # fmt: skip

    assert all(0 < share < 1 for share in shares)
