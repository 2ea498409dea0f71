"""Variance of features by class: streamed, merged, and measured while a client trains."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedcircuit.learning import get_weights
from fedcircuit.learning.networks import build_model, head_inputs, head_layer
from fedcircuit.learning.training import Continuation, FeatureVariance, LocalTraining, train_local
from fedcircuit.learning.watching.feature_variance import FeatureMoments
from fedcircuit.learning.watching.feature_watch import seen_batch, variances_of
from fedcircuit.samples import Samples

N_CLASSES = 3


def by_torch(features: Tensor, labels: Tensor, n_classes: int = N_CLASSES) -> list[float]:
    """An independent route: torch.var of every class, a mean over features."""
    found = []
    for index in range(n_classes):
        own = features.detach()[labels == index].double()
        found.append(float(own.var(dim=0).mean()) if len(own) > 1 else float("nan"))
    return found


def made(n: int, seed: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(N_CLASSES, (n,), generator=random)
    features = torch.randn(n, 4, generator=random) * (1.0 + labels[:, None]) + offset
    return features, labels


def streamed(features: Tensor, labels: Tensor, size: int) -> FeatureMoments:
    total = FeatureMoments.nothing(N_CLASSES, features.shape[1])
    for x, y in zip(features.split(size), labels.split(size), strict=True):
        total = total.merged(FeatureMoments.of(x, y, N_CLASSES))
    return total


def test_an_example_by_hand() -> None:
    # class 0: (0, 1), (2, 5), (4, 3): variances 4 and 4; class 1 once; class 2 never
    features = torch.tensor([[0.0, 1.0], [2.0, 5.0], [9.0, 9.0], [4.0, 3.0]])
    moments = FeatureMoments.of(features, torch.tensor([0, 0, 1, 0]), N_CLASSES)
    assert moments.counts.tolist() == [3, 1, 0]
    assert moments.means.tolist() == [[2, 3], [9, 9], [0, 0]]
    assert moments.deviations.tolist() == [[8, 8], [0, 0], [0, 0]]
    assert moments.variances() == pytest.approx((4.0, np.nan, np.nan), nan_ok=True)


@given(st.integers(0, 40), st.integers(1, 17), st.integers(0, 10**6), st.sampled_from([0.0, 1e3]))
def test_streaming_equals_the_variance_of_all_samples(
    n: int, size: int, seed: int, offset: float
) -> None:
    features, labels = made(n, seed, offset)
    expected = by_torch(features, labels)
    assert streamed(features, labels, size).variances() == pytest.approx(
        expected, rel=1e-5, nan_ok=True
    )


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 10**6))
def test_the_order_of_merging_does_not_matter(n: int, m: int, seed: int) -> None:
    a, b = (FeatureMoments.of(*made(k, seed + k), N_CLASSES) for k in (n, m))
    c = FeatureMoments.of(*made(7, seed + 99), N_CLASSES)
    one, other = a.merged(b).merged(c), c.merged(a.merged(b))
    another = b.merged(c.merged(a))
    for left in (other, another):
        torch.testing.assert_close(left.deviations, one.deviations)
        torch.testing.assert_close(left.means, one.means)
        assert torch.equal(left.counts, one.counts)


def test_merging_with_nothing_changes_nothing() -> None:
    own = FeatureMoments.of(*made(9, 0), N_CLASSES)
    nothing = FeatureMoments.nothing(N_CLASSES, 4)
    for merged in (own.merged(nothing), nothing.merged(own)):
        assert torch.equal(merged.means, own.means)
        assert torch.equal(merged.deviations, own.deviations)


def test_features_that_are_not_finite_make_their_class_unknown_and_no_other() -> None:
    features = torch.tensor([[0.0], [torch.inf], [1.0], [3.0]])
    moments = FeatureMoments.of(features, torch.tensor([0, 0, 1, 1]), N_CLASSES)
    assert moments.variances() == pytest.approx((np.nan, 2.0, np.nan), nan_ok=True)


def test_only_samples_that_are_predicted_right_count_where_asked_for() -> None:
    features = torch.tensor([[1.0], [2.0], [40.0], [3.0]])
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[2.0, 1], [2, 1], [1, 2], [2, 1]])
    assert seen_batch(features, logits, labels, correct_only=True).counts.tolist() == [2, 0]
    assert seen_batch(features, logits, labels, correct_only=False).counts.tolist() == [3, 1]


def test_tokens_that_are_not_pooled_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, features\], got \(2, 5, 4\); pool positions"):
        FeatureMoments.of(torch.zeros(2, 5, 4), torch.tensor([0, 1]), N_CLASSES)


@pytest.mark.parametrize("option", ["feature_source", "epoch"])
def test_a_choice_that_is_none_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be one of"):
        FeatureVariance(**{option: "first"})


def mlp(seed: int = 0) -> nn.Module:
    return build_model("mlp", (4,), N_CLASSES, seed=seed, widths=(6, 5))


def data(n: int = 30) -> Samples:
    return Samples(*made(n, 5))


def before_head(model: nn.Module) -> nn.Module:
    return nn.Sequential(*list(model)[:-1])


def features_of(model: nn.Module, samples: Samples) -> Tensor:
    return before_head(model)(samples.inputs)


def trained(model: nn.Module, options: FeatureVariance | None, **more: object) -> tuple:
    training = LocalTraining(batch_size=10, lr=0.1, feature_variance=options, **more)
    start = Continuation(frozen=mlp(9))
    result = train_local(model, data(), training, n_classes=N_CLASSES, seed=3, start=start)
    return result.class_variances


def test_the_features_of_the_last_epoch_are_those_of_its_forward_passes() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()

        def forward(self, x: Tensor) -> Tensor:
            match = [int((data().inputs == row).all(1).nonzero()) for row in x]
            seen.append((before_head(self.net)(x).detach(), data().labels[match]))
            return self.net(x)

    for epoch, first in (("last", 6), ("all", 0)):
        seen.clear()
        found = trained(Watched(), FeatureVariance(epoch=epoch), epochs=3)
        assert len(seen) == 9
        features, labels = (torch.cat(part) for part in zip(*seen[first:], strict=True))
        assert found == pytest.approx(by_torch(features, labels), rel=1e-5)


def test_after_training_the_features_are_those_of_the_trained_model() -> None:
    model = mlp()
    found = trained(model, FeatureVariance(epoch="post"), epochs=2)
    assert found == pytest.approx(by_torch(features_of(model, data()), data().labels), rel=1e-5)


def test_a_frozen_network_gives_the_same_in_every_round_whatever_is_trained() -> None:
    options = FeatureVariance(feature_source="frozen")
    expected = by_torch(features_of(mlp(9), data()), data().labels)
    assert trained(mlp(0), options) == pytest.approx(expected, rel=1e-5)
    assert trained(mlp(1), options, epochs=2) == trained(mlp(0), options)
    with pytest.raises(ValueError, match=r"give start=Continuation\(frozen=...\)"):
        train_local(
            mlp(), data(), LocalTraining(feature_variance=options), n_classes=N_CLASSES, seed=0
        )


def test_fewer_steps_than_an_epoch_has_are_all_counted() -> None:
    one = trained(mlp(), FeatureVariance(), steps=2)
    assert one == trained(mlp(), FeatureVariance(epoch="all"), steps=2)


@pytest.mark.parametrize("epoch", ["last", "all", "post"])
@pytest.mark.parametrize("dropout", [False, True])
def test_measuring_does_not_change_what_is_trained(epoch: str, dropout: bool) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = nn.Linear(3, 3), nn.Linear(4, 3)
            self.drop = nn.Dropout(0.5 if dropout else 0.0)
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.drop(self.norm(torch.relu(self.body(x)))))

    torch.manual_seed(0)
    plain = Backwards()
    watched = copy.deepcopy(plain)
    assert trained(plain, None, epochs=2) is None
    assert trained(watched, FeatureVariance(epoch=epoch, correct_only=True), epochs=2) is not None
    for name, values in get_weights(watched).items():
        assert values.tobytes() == get_weights(plain)[name].tobytes(), name
    assert not watched.head._forward_pre_hooks


def test_one_pass_counts_every_sample_once_and_gives_the_mode_back() -> None:
    model = mlp().train()
    found = variances_of(model, data(), n_classes=N_CLASSES, batch_size=7)
    assert found == pytest.approx(by_torch(features_of(model, data()), data().labels), rel=1e-5)
    assert all(module.training for module in model.modules())


def test_a_model_without_a_linear_head_is_refused_before_it_trains() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (8, 1)), nn.Conv1d(8, 3, 1))
    model.append(nn.Flatten())
    before = get_weights(model)
    with pytest.raises(ValueError, match=r"last linear layer with 3 outputs.*\{'0': 8\}"):
        trained(model, FeatureVariance())
    assert all((v == before[k]).all() for k, v in get_weights(model).items())


def test_a_head_that_is_not_called_as_a_module_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.head.weight, self.head.bias)

    with pytest.raises(ValueError, match="'head' was not called in a forward pass"):
        trained(Odd(), FeatureVariance())


def test_the_head_is_looked_for_without_a_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 3)).train()
    before, state = get_weights(model), torch.get_rng_state()
    assert head_layer(model, 3, data().inputs) == "3"
    assert head_layer(model, 8, data().inputs) is None
    assert all((v == before[k]).all() for k, v in get_weights(model).items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_looking_for_the_head_counts_no_forward_pass() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 3)
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            return self.head(self.body(x))

    model = Counting()
    assert head_layer(model, 3, data().inputs) == "head"
    assert float(model.passes) == 0


def test_what_goes_into_the_head_is_read_without_its_graph() -> None:
    model = mlp()
    with head_inputs(model, "5") as seen:
        with pytest.raises(ValueError, match="'5' was not called in a forward pass"):
            seen.features("5")
        model(data(3).inputs)
    features = seen.features("5")
    assert features.shape == (3, 5)
    assert not features.requires_grad


def test_the_hook_on_the_head_is_removed_when_training_fails() -> None:
    model = mlp()
    with pytest.raises(RuntimeError), head_inputs(model, "5"):
        model(torch.zeros(1, 9))
    assert not model[5]._forward_hooks
