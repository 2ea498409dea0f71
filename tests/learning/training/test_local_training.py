import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.networks.sparsity import WeightSparsity
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.training.objectives import FedRS, proximal_term
from fedcircuit.learning.training.optimizer_state import last_gradient
from fedcircuit.learning.weights import get_weights, set_weights
from fedcircuit.samples import Samples


def samples(n: int = 60, n_classes: int = 3, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    inputs = torch.randn(n, 1, 8, 8, generator=generator) + labels.reshape(-1, 1, 1, 1)
    return Samples(inputs, labels)


def mlp(seed: int = 0) -> nn.Module:
    return build_model("mlp", (1, 8, 8), 3, seed=seed, widths=(6,))


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_one_full_batch_step_of_sgd_is_the_gradient_step() -> None:
    model, data = mlp(), samples()
    expected = copy.deepcopy(model)
    functional.cross_entropy(expected(data.inputs), data.labels).backward()
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter -= 0.5 * parameter.grad

    result = train_local(
        model, data, LocalTraining(epochs=1, batch_size=60, lr=0.5), n_classes=3, seed=4
    )

    assert result.steps == 1
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    training = LocalTraining(epochs=2, batch_size=16, optimizer="adam", lr=0.01)
    models = [mlp() for _ in range(3)]

    for model, seed in zip(models, (7, 7, 8), strict=True):
        train_local(model, samples(), training, n_classes=3, seed=seed)

    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_dropout_is_reproducible_and_the_global_generator_is_left_alone() -> None:
    models = [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        for _ in range(2)
    ]
    models[1].load_state_dict(models[0].state_dict())
    state = torch.get_rng_state()

    for model in models:
        train_local(model, samples(), LocalTraining(epochs=2), n_classes=3, seed=1)
        torch.rand(3)  # what the caller draws in between must not matter

    torch.set_rng_state(state)
    assert same(models[0], models[1])


def test_the_proximal_term_is_half_the_squared_distance() -> None:
    model = nn.Linear(2, 1)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        model.weight += torch.tensor([[3.0, 0.0]])
        model.bias += 4.0

    term = proximal_term(model, start)
    term.backward()

    assert float(term.detach()) == pytest.approx(12.5)  # (9 + 16) / 2, not their root
    assert torch.allclose(model.weight.grad, torch.tensor([[3.0, 0.0]]))


def test_a_large_proximal_weight_keeps_the_model_where_it_started() -> None:
    def moved(mu: float) -> float:
        model, start = mlp(), mlp()
        training = LocalTraining(epochs=3, batch_size=20, lr=0.05, proximal_mu=mu)
        train_local(model, samples(), training, n_classes=3, seed=0)
        pairs = zip(model.parameters(), start.parameters(), strict=True)
        return float(sum((a - b).detach().square().sum() for a, b in pairs))

    assert moved(10.0) < 0.5 * moved(0.0)


def test_fedrs_scales_missing_classes_and_soft_ones_by_their_share() -> None:
    counts = torch.tensor([8, 0, 2])

    assert FedRS("binary", 0.4).scale(counts).tolist() == pytest.approx([1.0, 0.4, 1.0])
    assert FedRS("soft", 0.4).scale(counts).tolist() == pytest.approx([1.0, 0.4, 0.55])


def test_fedrs_pulls_the_row_of_a_missing_class_down_less() -> None:
    data = samples()
    held = data.take(data.labels < 2)

    def bias_of_missing(fedrs: FedRS | None) -> float:
        model = mlp()
        start = float(model[-1].bias.detach()[2])
        training = LocalTraining(epochs=5, batch_size=20, lr=0.1, fedrs=fedrs)
        train_local(model, held, training, n_classes=3, seed=0)
        return float(model[-1].bias.detach()[2]) - start

    plain, restricted = bias_of_missing(None), bias_of_missing(FedRS("binary", 0.2))
    assert plain < restricted < 0


class Watched(nn.Sequential):
    """An MLP with batch norm that keeps the weights and inputs of its last forward pass."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            layers = (nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        super().__init__(nn.Flatten(), *layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen, self.before = x.clone(), copy.deepcopy(self.state_dict())
        return super().forward(x)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("mu", "alpha"), [(0.0, 1.0), (0.7, 1.0), (0.7, 0.3)])
def test_the_last_gradient_is_that_of_the_loss_on_the_last_mini_batch(
    optimizer: str, mu: float, alpha: float
) -> None:
    data = samples().take(samples().labels != 2)
    model = Watched()
    start = copy.deepcopy(model)
    training = LocalTraining(
        epochs=2, batch_size=16, optimizer=optimizer, lr=0.01, momentum=0.9, weight_decay=0.1,
        proximal_mu=mu, fedrs=FedRS("binary", alpha),
    )  # fmt: skip

    train_local(model, data, training, n_classes=3, seed=5)
    ours = last_gradient(model)

    n_last = len(data) % 16
    assert 0 < n_last == len(model.seen) < 16
    places = [int((data.inputs == x).flatten(1).all(1).nonzero()) for x in model.seen]
    again = Watched()
    again.load_state_dict(model.before)
    logits = again(model.seen) * torch.tensor([1.0, 1.0, alpha])
    own = dict(again.named_parameters())
    distance = sum((own[k] - p.detach()).square().sum() for k, p in start.named_parameters())
    loss = -logits.log_softmax(1)[range(n_last), data.labels[places]].mean() + mu / 2 * distance
    theirs = dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
    assert list(ours) == list(theirs)
    for name, values in ours.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, theirs[name].numpy(), rtol=1e-4, atol=1e-6)
    assert max(np.abs(values).max() for values in ours.values()) > 1e-2


def test_last_gradients_are_copies_that_outlive_the_gradient() -> None:
    model = mlp()
    train_local(model, samples(), LocalTraining(), n_classes=3, seed=0)
    gradient = last_gradient(model)

    for parameter in model.parameters():
        parameter.grad.zero_()

    assert list(gradient) == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert all(np.abs(values).max() > 0 for values in gradient.values())


def test_last_gradients_are_float32_and_what_has_none_is_left_out() -> None:
    model = mlp().double()
    assert last_gradient(model) == {}
    model[1].bias.requires_grad_(False)

    data = Samples(samples().inputs.double(), samples().labels)
    train_local(model, data, LocalTraining(), n_classes=3, seed=0)

    gradient = last_gradient(model)
    assert list(gradient) == ["1.weight", "3.weight", "3.bias"]
    assert all(values.dtype == np.float32 for values in gradient.values())


def test_training_ends_at_the_target_sparsity() -> None:
    model = build_model("simple-cnn", (1, 8, 8), 3, seed=0, widths=(8, 8, 8))
    training = LocalTraining(epochs=2, batch_size=20, sparsity=WeightSparsity(0.9, min_alive=1))

    result = train_local(model, samples(), training, n_classes=3, seed=0)

    assert result.density["3.weight"] == pytest.approx(0.1, abs=0.02)


def test_a_persistent_mask_survives_training_and_nothing_else_grows() -> None:
    model = mlp()
    with torch.no_grad():
        model[1].weight[:, ::2] = 0
        model[3].weight[0] = 0
    sparsity = WeightSparsity(0.5, mask="persistent")

    train_local(
        model,
        samples(),
        LocalTraining(epochs=2, optimizer="adam", lr=0.01, sparsity=sparsity),
        n_classes=3,
        seed=0,
    )

    assert bool((model[1].weight[:, ::2] == 0).all())
    assert bool((model[1].weight[:, 1::2] != 0).all())
    assert bool((model[3].weight[0] == 0).all())


def test_a_client_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no training samples"):
        train_local(mlp(), samples().take(torch.tensor([], dtype=torch.int64)),
                    LocalTraining(), n_classes=3, seed=0)  # fmt: skip


def test_a_diverging_loss_names_the_epoch_and_the_learning_rate() -> None:
    with pytest.raises(ValueError, match=r"not finite in epoch \d+ .*lower the learning rate"):
        train_local(mlp(), samples(), LocalTraining(epochs=30, lr=1e20), n_classes=3, seed=0)


def test_weights_go_to_arrays_and_back_with_integer_buffers_rounded() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    weights = get_weights(model)
    weights["1.num_batches_tracked"] = np.float64(2.5000001)
    weights["0.weight"] = np.arange(6, dtype=np.float64).reshape(3, 2)

    set_weights(model, weights)

    assert int(model[1].num_batches_tracked) == 3
    assert model[0].weight.flatten().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.weight"), r"missing \['0.weight'\]"),
        (lambda w: w.update(more=np.zeros(1)), r"unexpected \['more'\]"),
        (
            lambda w: w.update({"0.bias": np.zeros(4)}),
            r"'0.bias' has shape \(4,\), expected \(3,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change: object, message: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    weights = get_weights(model)
    change(weights)

    with pytest.raises(ValueError, match=message):
        set_weights(model, weights)


def test_the_reported_density_is_that_of_layers() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.LayerNorm((4,)), nn.Linear(4, 3))
    model.register_parameter("token", nn.Parameter(torch.zeros(2, 2)))

    result = train_local(model, samples(), LocalTraining(), n_classes=3, seed=0)

    assert list(result.density) == ["1.weight", "3.weight"]
