import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import MODEL_NAMES, build_model
from fedcircuit.learning.seeds import derived_seed


def test_simple_cnn_has_the_published_number_of_parameters() -> None:
    model = build_model("simple-cnn", (1, 28, 28), 10, seed=0)

    assert sum(p.numel() for p in model.parameters()) == 104_202


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8)])
def test_every_model_takes_every_image_and_has_sites(
    name: str, shape: tuple[int, int, int]
) -> None:
    model = build_model(name, shape, 7, seed=0)

    assert model.eval()(torch.zeros(2, *shape)).shape == (2, 7)
    assert len(find_sites(model, torch.zeros(1, *shape))) >= 2


@pytest.mark.parametrize(("widths", "depth"), [((6, 8), 6), ((16, 32, 64), 8), ((4,) * 4, 10)])
def test_a_resnet_of_three_widths_is_resnet8(widths: tuple[int, ...], depth: int) -> None:
    model = build_model("resnet", (3, 16, 16), 5, seed=0, widths=widths)
    names = [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]

    assert len([name for name in names if "shortcut" not in name]) == depth


def test_the_default_resnet_is_resnet8() -> None:
    own, eight = (build_model("resnet", (3, 32, 32), 10, seed=0, widths=widths)
                  for widths in (None, (16, 32, 64)))  # fmt: skip

    assert str(own) == str(eight)


def with_statistics(model: nn.Module) -> nn.Module:
    """The model with batch norms that do something, in eval mode."""
    random = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.uniform_(-0.3, 0.3, generator=random)
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 2, generator=random)
    return model.eval()


@torch.no_grad()
def test_vgg11_is_torchvisions_configuration_a_with_one_linear_layer() -> None:
    model = with_statistics(build_model("vgg11", (3, 32, 32), 10, seed=0))
    theirs = make_layers(cfgs["A"], batch_norm=True).eval()
    biases = {f"{i}.bias" for i, layer in enumerate(theirs) if isinstance(layer, nn.Conv2d)}
    for name, values in theirs.state_dict().items():
        values.copy_(torch.zeros(()) if name in biases else model.state_dict()[name])

    inputs = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    features = theirs(inputs)
    assert features.shape == (3, 512, 1, 1)
    expected = model[-1](features.flatten(1))
    torch.testing.assert_close(model(inputs), expected)
    # 9 weights a kernel, two numbers a batch norm, and the linear layer
    kernels = 3 * 64 + 64 * 128 + 128 * 256 + 256**2 + 256 * 512 + 3 * 512**2
    numbers = 9 * kernels + 2 * (64 + 128 + 2 * 256 + 4 * 512) + 512 * 10 + 10
    assert sum(p.numel() for p in model.parameters()) == numbers == 9_228_362


NARROW = (4, 5, 6, 6, 7, 7, 8, 8)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((3, 64, 64), "64 p 32 p 16 16 p 8 8 p 4 4 p"),
        ((3, 32, 32), "32 p 16 p 8 8 p 4 4 p 2 2 p"),
        ((1, 28, 28), "28 p 14 p 7 7 p 3 3 3 3 p"),
        ((1, 14, 14), "14 p 7 p 3 3 3 3 3 3 p"),
        ((1, 8, 20), "8 p 4 p 2 2 2 2 2 2 p"),
        ((1, 20, 8), "8 p 4 p 2 2 2 2 2 2 p"),
        ((1, 3, 3), "3 3 3 3 3 3 3 3 p"),
    ],
)
def test_poolings_of_vgg11_leave_two_pixels_to_every_convolution(
    shape: tuple[int, int, int], sides: str
) -> None:
    values, seen = torch.zeros(1, *shape), []
    for layer in build_model("vgg11", shape, 3, seed=0, widths=NARROW).eval():
        if isinstance(layer, nn.Conv2d):
            seen.append(str(min(values.shape[2:])))
        elif isinstance(layer, nn.MaxPool2d):
            seen.append("p")
        values = layer(values)

    assert " ".join(seen) == sides


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 8, 8), (1, 14, 14), (3, 32, 32)])
def test_vgg11_trains_on_one_sample_and_with_all_of_every_kernel(
    shape: tuple[int, int, int],
) -> None:
    model = build_model("vgg11", shape, 3, seed=0, widths=NARROW)
    inputs = torch.randn(16, *shape, generator=torch.Generator().manual_seed(0))

    assert bool(model(inputs[:1]).isfinite().all())  # in training mode
    nn.functional.cross_entropy(model(inputs), torch.arange(16) % 3).backward()

    for layer in model:
        if isinstance(layer, nn.Conv2d):
            assert bool((layer.weight.grad.abs().amax((0, 1)) > 0).all())


def test_tanh_takes_the_place_of_relu_and_changes_no_weight() -> None:
    plain, tanh = (build_model("mlp", (1, 4, 4), 3, seed=5, widths=(6, 5), activation=kind)
                   for kind in ("relu", "tanh"))  # fmt: skip
    assert str(tanh) == str(plain).replace("ReLU", "Tanh")
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), tanh.parameters(), strict=True)
    )
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second, last = (layer for layer in tanh if isinstance(layer, nn.Linear))
        expected = last(torch.tanh(second(torch.tanh(first(x)))))
        assert torch.equal(tanh(x.reshape(3, 1, 4, 4)), expected)
    with pytest.raises(ValueError, match="of other models 'relu'; got 'tanh' for 'resnet'"):
        build_model("resnet", (1, 8, 8), 3, seed=0, activation="tanh")
    with pytest.raises(ValueError, match="must be one of .*got 'gelu'"):
        build_model("mlp", (4,), 3, seed=0, activation="gelu")  # type: ignore[arg-type]


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_model("mlp", (1, 8, 8), 3, seed=5)
    torch.manual_seed(2)
    second = build_model("mlp", (1, 8, 8), 3, seed=5)
    third = build_model("mlp", (1, 8, 8), 3, seed=6)

    weights = [model.state_dict()["1.weight"] for model in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_he_initialisation_has_variance_two_over_fan_in_and_no_bias() -> None:
    model = build_model("mlp", (1, 20, 20), 10, seed=3, widths=(500,), init="he")
    first, last = model.get_submodule("1"), model.get_submodule("3")
    for layer, fan_in in ((first, 400), (last, 500)):
        values = layer.weight.detach()
        spread = float(values.var()) * fan_in / 2
        # the variance of n normal draws has a relative error of sqrt(2 / n)
        assert abs(spread - 1) < 5 * (2 / values.numel()) ** 0.5
        assert not layer.bias.any()
    norms = build_model("resnet", (3, 8, 8), 3, seed=0, init="he").state_dict()
    assert norms["1.weight"].eq(1).all()
    with pytest.raises(ValueError, match=r"init must be one of \('torch', 'he'\), got 'xavier'"):
        build_model("mlp", (4,), 2, seed=0, init="xavier")  # type: ignore[arg-type]


def test_unknown_names_and_unfitting_images_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown model 'resnet50'; known: simple-cnn, mlp"):
        build_model("resnet50", (3, 32, 32), 10, seed=0)
    with pytest.raises(ValueError, match=r"needs images \[channels, height, width\]"):
        build_model("simple-cnn", (64,), 10, seed=0)
    with pytest.raises(ValueError, match="3 poolings need images of at least 8 pixels"):
        build_model("simple-cnn", (1, 4, 4), 10, seed=0)
    with pytest.raises(ValueError, match="at least 2 pixels a side, got 1x9; use mlp"):
        build_model("vgg11", (1, 1, 9), 10, seed=0)
    with pytest.raises(ValueError, match=r"eight convolutions, .* got 3 widths: \(4, 4, 4\)"):
        build_model("vgg11", (1, 8, 8), 10, seed=0, widths=(4, 4, 4))


def test_streams_of_one_seed_differ_and_seed_zero_is_valid() -> None:
    seeds = {derived_seed(0, 1, 2), derived_seed(0, 2, 1), derived_seed(0, "1", 2),
             derived_seed(1, 1, 2), derived_seed(0, 1), derived_seed(0)}  # fmt: skip

    assert len(seeds) == 6
    assert derived_seed(0, 1, 2) == derived_seed(0, 1, 2)
    with pytest.raises(ValueError, match="seeds must be >= 0"):
        derived_seed(-1)
