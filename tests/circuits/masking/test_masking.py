from dataclasses import replace

import pytest
import torch
from torch import nn

from fedcircuit.circuits.circuit import split_by_site
from fedcircuit.circuits.masking.ablation import reference_activations
from fedcircuit.circuits.masking.masking import masked_model
from fedcircuit.circuits.models.evaluation_mode import evaluating
from fedcircuit.circuits.models.memory_format import fast_copy
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.circuits.sites.hooks import gated
from fedcircuit.learning.networks.models import build_model
from fedcircuit.samples import Samples


class ViewNet(nn.Module):
    """Flattens with view, which the channels-last layout does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Linear(3 * 36, 4)

    def forward(self, x):
        x = self.relu(self.conv(x))
        return self.head(x.view(x.size(0), -1))


class AroundNet(ViewNet):
    """A branch from the input to the head passes the first site by."""

    def __init__(self) -> None:
        super().__init__()
        self.around = nn.Linear(64, 4)

    def forward(self, x):
        return super().forward(x) + self.around(x.flatten(1))


class EarlySizeNet(ViewNet):
    """Reads the batch size from the input."""

    def forward(self, x):
        n = x.size(0)
        return self.head(self.relu(self.conv(x)).reshape(n, -1))


def normalised_cnn() -> nn.Sequential:
    """Batch normalisation, a stride, average pooling, a layer without bias, two linear layers."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding="same"), nn.BatchNorm2d(5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(20, 6), nn.GELU(), nn.Linear(6, 4),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
    return model


MODELS = {
    "norm": normalised_cnn,
    "cnn": lambda: build_model("simple-cnn", (1, 8, 8), 4, seed=1, widths=(3, 5)),
    "mlp": lambda: build_model("mlp", (1, 8, 8), 4, seed=1, widths=(6, 5)),
    "shallow": lambda: build_model("mlp", (1, 8, 8), 4, seed=1, widths=(6,)),
    "resnet": lambda: build_model("resnet", (1, 8, 8), 4, seed=1, widths=(3, 4)),
    "view": ViewNet,
    "around": AroundNet,
    "early-size": EarlySizeNet,
}
INPUTS = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def prepared(name: str, ablation: str = "mean", batch: int = 5):
    torch.manual_seed(0)
    model = MODELS[name]()
    sites = find_sites(model, INPUTS)
    samples = Samples(INPUTS, torch.tensor([0, 1, 2, 3, 0, 1, 2]))
    reference = reference_activations(model, sites, samples, n_classes=4, ablation=ablation)
    random = torch.Generator().manual_seed(1)
    masks = torch.rand(3, sum(site.n_units for site in sites), generator=random) < 0.5
    return masked_model(fast_copy(model, INPUTS), sites, INPUTS, reference, batch=batch), masks


def always_cut(given):
    """So much work that masks are cut out of this small network too."""
    masked, masks = given
    return replace(masked, cut=masked.cut and replace(masked.cut, work=10**9)), masks


def one_by_one(masked, mask, sample):
    """The slow way: the model itself, one mask on one sample."""
    gates = split_by_site(mask, masked.sites)
    with (
        evaluating(masked.model),
        torch.no_grad(),
        gated(masked.model, masked.sites, gates, masked.reference),
    ):
        return masked.model(INPUTS[sample : sample + 1])[0]


@pytest.mark.parametrize("ablation", ["mean", "zero"])
@pytest.mark.parametrize("name", MODELS)
def test_many_masks_at_once_give_what_each_gives_alone(name, ablation) -> None:
    masked, masks = prepared(name, ablation)
    logits = masked.logits(masks)
    assert logits.shape == (3, 7, 4)
    expected = torch.stack(
        [torch.stack([one_by_one(masked, m, i) for i in range(7)]) for m in masks]
    )
    assert torch.allclose(logits, expected, atol=1e-5)
    pairs = masked.pair_logits(masks, torch.tensor([2, 0, 2]), torch.tensor([6, 1, 0]))
    assert torch.allclose(pairs, expected[[2, 0, 2], [6, 1, 0]], atol=1e-5)


@pytest.mark.parametrize("ablation", ["mean", "zero"])
@pytest.mark.parametrize("name", MODELS)
def test_masks_that_many_samples_share_give_the_same(name, ablation) -> None:
    masked, masks = always_cut(prepared(name, ablation, batch=6))
    first = masked.sites[0].n_units
    masks = torch.cat([masks, torch.zeros_like(masks[:2]), torch.ones_like(masks[:1])])
    masks[3, :first] = True  # nothing but the first site
    which = torch.randint(6, (90,), generator=torch.Generator().manual_seed(2))
    samples = torch.arange(90) % 7
    expected = torch.stack(
        [one_by_one(masked, masks[m], i) for m, i in zip(which, samples.tolist(), strict=True)]
    )
    assert torch.allclose(masked.pair_logits(masks, which, samples), expected, atol=1e-5)


@pytest.mark.parametrize("ablation", ["mean", "zero"])
@pytest.mark.parametrize(("name", "widths"), [("norm", 4), ("cnn", 3), ("mlp", 6), ("shallow", 6)])
def test_a_mask_that_lacks_few_units_of_the_first_site_is_the_rest_less_their_part(
    name, widths, ablation
) -> None:
    masked, masks = always_cut(prepared(name, ablation))
    assert masked.cut is not None
    assert masked.cut.sums is not None
    masks = torch.cat([masks[:1], torch.ones_like(masks)])
    masks[0, :widths] = True  # no unit lost, and some of the next sites
    masks[2, 1] = False
    masks[3, [0, 2]] = False
    samples = torch.tensor([3, 0, 6, 6, 1, 2, 4, 5])
    logits = masked.pair_logits(masks, torch.arange(4).repeat_interleave(8), samples.repeat(4))
    expected = torch.stack([one_by_one(masked, m, i) for m in masks for i in samples.tolist()])
    assert torch.allclose(logits, expected, atol=1e-5)
    # and not by the other way
    other = replace(masked, cut=replace(masked.cut, sums=masked.cut.sums + 1))
    assert not torch.allclose(
        other.pair_logits(masks[2:3], torch.zeros(8, dtype=torch.int64), samples),
        expected[16:24],
        atol=1e-3,
    )


@pytest.mark.parametrize(
    ("name", "cut"),
    [("norm", True), ("cnn", True), ("mlp", True), ("resnet", False), ("around", False)],
)
def test_only_layers_that_follow_one_another_are_cut_out(name, cut) -> None:
    masked, _ = prepared(name)
    assert (masked.cut is not None) == cut


def test_networks_are_cut_out_where_many_samples_make_it_pay() -> None:
    masked, _ = prepared("cnn")
    assert masked.cut is not None
    # 3 channels of 4 x 4 places to 5 channels by 3 x 3 weights, then 20 numbers to 4 logits
    assert masked.cut.work == 16 * 3 * 5 * 9 + 20 * 4
    large = replace(masked.cut, work=10**6)
    assert large.pays(20, 2)
    assert not large.pays(18, 2)  # 9 million multiplications for each mask
    assert not replace(large, work=10**9).pays(14, 2)  # 7 samples for each


def test_a_reference_for_each_sample_goes_with_the_sample() -> None:
    mean, masks = prepared("cnn")
    reference = {name: torch.randn(7, *v.shape[1:]) for name, v in mean.reference.items()}
    masked = masked_model(mean.model, mean.sites, INPUTS, reference)
    samples = torch.tensor([6, 0, 6, 3] * 6)
    logits = masked.pair_logits(masks, torch.zeros(24, dtype=torch.int64), samples)
    for row, sample in enumerate(samples.tolist()):
        own = {name: values[sample : sample + 1] for name, values in reference.items()}
        alone = replace(masked, reference=own)
        assert torch.allclose(logits[row], one_by_one(alone, masks[0], sample), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_copy_for_speed_gives_the_same_logits(name) -> None:
    model = MODELS[name]()
    fast = fast_copy(model, INPUTS)
    with evaluating(model), evaluating(fast), torch.no_grad():
        assert torch.allclose(fast(INPUTS), model(INPUTS), atol=1e-5)
    assert fast is not model


@pytest.mark.parametrize(
    ("name", "kept"),
    [("cnn", True), ("mlp", True), ("resnet", True), ("around", False), ("early-size", False)],
)
def test_the_first_site_is_kept_only_where_all_else_depends_on_it(name, kept) -> None:
    masked, _ = prepared(name)
    assert (masked.prefix is not None) == kept


def test_a_model_that_cannot_take_the_fast_layout_stays_as_it_is() -> None:
    assert fast_copy(ViewNet(), INPUTS).conv.weight.is_contiguous()
    changed = fast_copy(MODELS["cnn"](), INPUTS)[3].weight
    assert changed.is_contiguous(memory_format=torch.channels_last)


def test_the_batch_size_changes_nothing() -> None:
    small, masks = prepared("cnn", batch=2)
    large, _ = prepared("cnn", batch=1000)
    assert torch.allclose(small.logits(masks), large.logits(masks), atol=1e-6)


def test_no_pairs_give_no_logits() -> None:
    masked, masks = prepared("mlp")
    none = torch.zeros(0, dtype=torch.int64)
    assert masked.pair_logits(masks, none, none).shape == (0, 4)
    assert masked.logits(masks[:0]).shape == (0, 7, 4)


def test_the_full_model_is_the_one_with_every_unit() -> None:
    masked, _ = prepared("resnet")
    with evaluating(masked.model), torch.no_grad():
        assert torch.allclose(masked.full_logits(), masked.model(INPUTS), atol=1e-5)
    assert masked.model.training  # as it came


def test_preparing_a_model_in_training_mode_moves_no_running_statistics() -> None:
    model = MODELS["resnet"]().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = fast_copy(model, INPUTS)
    masked_model(copy, find_sites(model, INPUTS), INPUTS, None)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
        assert torch.equal(copy.state_dict()[name], value)
