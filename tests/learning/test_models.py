import pytest
import torch

from fedcircuit.circuits.sites import find_sites
from fedcircuit.learning.models import MODEL_NAMES, build_model
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


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_model("mlp", (1, 8, 8), 3, seed=5)
    torch.manual_seed(2)
    second = build_model("mlp", (1, 8, 8), 3, seed=5)
    third = build_model("mlp", (1, 8, 8), 3, seed=6)

    weights = [model.state_dict()["1.weight"] for model in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_unknown_names_and_unfitting_images_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown model 'resnet50'; known: simple-cnn, mlp"):
        build_model("resnet50", (3, 32, 32), 10, seed=0)
    with pytest.raises(ValueError, match=r"needs images \[channels, height, width\]"):
        build_model("simple-cnn", (64,), 10, seed=0)
    with pytest.raises(ValueError, match="3 poolings need images of at least 8 pixels"):
        build_model("simple-cnn", (1, 4, 4), 10, seed=0)


def test_streams_of_one_seed_differ_and_seed_zero_is_valid() -> None:
    seeds = {derived_seed(0, 1, 2), derived_seed(0, 2, 1), derived_seed(0, "1", 2),
             derived_seed(1, 1, 2), derived_seed(0, 1), derived_seed(0)}  # fmt: skip

    assert len(seeds) == 6
    assert derived_seed(0, 1, 2) == derived_seed(0, 1, 2)
    with pytest.raises(ValueError, match="seeds must be >= 0"):
        derived_seed(-1)
