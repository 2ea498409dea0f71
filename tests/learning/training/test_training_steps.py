"""Rounds counted in steps, and optimisers that go on from round to round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.networks.sparsity import WeightSparsity
from fedcircuit.learning.training.batches import Passes, batches_from
from fedcircuit.learning.training.local_training import (
    Continuation,
    LocalTraining,
    TrainingResult,
    train_local,
)
from fedcircuit.learning.training.optimizer_state import optimizer_arrays, restore_optimizer_
from fedcircuit.samples import Samples

N = 50  # in mini-batches of 16: three whole ones and one of two


def samples() -> Samples:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (N,), generator=generator)
    inputs = torch.randn(N, 1, 4, 4, generator=generator) + labels.reshape(-1, 1, 1, 1)
    return Samples(inputs, labels)


def mlp() -> nn.Module:
    return build_model("mlp", (1, 4, 4), 3, seed=0, widths=(6,))


OPTIMISERS = {
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1},
    "momentum": {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
    "sgd": {"optimizer": "sgd", "lr": 0.05},
}


def rounds(
    lengths: list[int], kind: str, state: str = "kept", **options: object
) -> tuple[nn.Module, list[TrainingResult]]:
    """One model trained in rounds of these steps; each goes on where the last one ended."""
    model, done, results, kept = mlp(), 0, [], {}
    for number, steps in enumerate(lengths):
        training = LocalTraining(
            steps=steps, batch_size=16, optimizer_state=state, **OPTIMISERS[kind], **options
        )
        start = Continuation(first=done, batch_seed=9, optimizer=kept)
        results.append(
            train_local(model, samples(), training, n_classes=3, seed=100 + number, start=start)
        )
        done, kept = done + steps, results[-1].optimizer
    return model, results


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("lengths", [[1] * 11, [4, 4, 3], [2, 9]])
def test_rounds_with_a_kept_optimiser_are_one_uninterrupted_training(
    kind: str, lengths: list[int]
) -> None:
    assert same(rounds(lengths, kind)[0], rounds([11], kind)[0])


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_it_is_the_training_that_a_plain_loop_does(kind: str) -> None:
    data, model = samples(), mlp()
    options = {k: v for k, v in OPTIMISERS[kind].items() if k != "optimizer"}
    make = torch.optim.Adam if kind == "adam" else torch.optim.SGD
    optimizer = make(model.parameters(), **options)
    for index in batches_from(Passes(N, 16), 7, seed=9):
        optimizer.zero_grad()
        functional.cross_entropy(model(data.inputs[index]), data.labels[index]).backward()
        optimizer.step()
    assert same(model, rounds([1] * 7, kind)[0])


def test_a_fresh_adam_moves_every_weight_by_the_learning_rate_in_its_one_step() -> None:
    before, after = mlp().state_dict(), rounds([1], "adam", "fresh")[0].state_dict()
    moved = torch.cat([(after[name] - before[name]).abs().flatten() for name in before])
    moved = moved[moved > 1e-6]  # pixels of units that never fire have no gradient
    assert torch.allclose(moved, torch.tensor(0.01), rtol=1e-2)
    assert not same(rounds([1] * 5, "adam", "fresh")[0], rounds([1] * 5, "adam")[0])


def test_plain_gradient_descent_has_nothing_to_keep() -> None:
    assert same(rounds([1] * 5, "sgd", "fresh")[0], rounds([1] * 5, "sgd")[0])
    assert rounds([3], "sgd")[1][0].optimizer == {}


def test_a_fresh_optimiser_is_not_reported_and_given_state_is_not_used() -> None:
    _, results = rounds([2], "adam")
    training = LocalTraining(steps=2, batch_size=16, **OPTIMISERS["adam"])
    models = [mlp(), mlp()]
    for model, kept in zip(models, ({}, results[0].optimizer), strict=True):
        start = Continuation(batch_seed=9, optimizer=kept)
        result = train_local(model, samples(), training, n_classes=3, seed=0, start=start)
        assert result.optimizer == {}
    assert same(*models)


def test_what_is_kept_of_adam_are_its_steps_and_moments() -> None:
    _, results = rounds([2, 3], "adam")
    kept = results[-1].optimizer
    assert sorted({name.rpartition("/")[2] for name in kept}) == ["exp_avg", "exp_avg_sq", "step"]
    assert len(kept) == 3 * 4
    assert float(kept["1.weight/step"]) == 5
    assert kept["1.weight/exp_avg"].shape == (6, 16)
    assert all(values.dtype == np.float32 for values in kept.values())


def test_steps_below_and_above_an_epoch_are_those_asked_for() -> None:
    for steps in (1, 3, 4, 9):
        result = rounds([steps], "sgd")[1][0]
        assert (result.steps, result.num_examples) == (steps, N)


def test_loss_and_accuracy_are_those_of_the_last_epoch_of_the_round() -> None:
    # with a rate of almost nothing the model stays what it was, and so do the means
    training = LocalTraining(steps=6, batch_size=16, lr=1e-12)
    result = train_local(mlp(), samples(), training, n_classes=3, seed=4)
    seen = torch.cat(list(batches_from(Passes(N, 16), 6, seed=4))[2:])
    assert len(seen) == 16 + 2 + 16 + 16
    model, data = mlp(), samples().take(seen)
    logits = model(data.inputs).detach()
    assert result.loss == pytest.approx(float(functional.cross_entropy(logits, data.labels)))
    assert result.accuracy == pytest.approx(float((logits.argmax(1) == data.labels).float().mean()))


def test_sparsity_is_annealed_over_the_steps_of_the_round() -> None:
    sparsity = WeightSparsity(0.5, anneal=1.0, min_alive=0)
    _, results = rounds([7], "sgd", "fresh", sparsity=sparsity)
    assert results[0].density["1.weight"] == pytest.approx(0.5)


def test_a_diverging_loss_is_found_in_a_round_of_steps_too() -> None:
    training = LocalTraining(steps=5, batch_size=16, lr=1e20)
    with pytest.raises(ValueError, match=r"epoch \d \(step \d\); lower the learning rate"):
        train_local(mlp(), samples(), training, n_classes=3, seed=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 1, "steps": 3}, "either epochs or steps, got epochs 1 and steps 3"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"optimizer_state": "lost"}, "optimizer_state must be one of .*'fresh', 'kept'"),
        ({"optimizer": "lion"}, "optimizer must be one of"),
    ],
)
def test_training_that_contradicts_itself_is_refused(
    options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        LocalTraining(**options)  # type: ignore[arg-type]


def test_without_steps_and_epochs_a_round_is_one_epoch() -> None:
    assert LocalTraining(batch_size=16).n_steps(Passes(N, 16)) == 4
    assert LocalTraining(batch_size=16, epochs=3).n_steps(Passes(N, 16)) == 12
    assert LocalTraining(batch_size=16, steps=3).n_steps(Passes(N, 16)) == 3


def test_the_state_of_another_model_is_refused() -> None:
    _, results = rounds([2], "adam")
    wide = build_model("mlp", (1, 4, 4), 3, seed=0, widths=(7,))
    deep = nn.Sequential(nn.Linear(4, 3))
    for model, words in ((wide, r"of shape \(6, 16\), the parameter has \(7, 16\)"),
                         (deep, "the model has no parameter '1.weight'")):  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters())
        with pytest.raises(ValueError, match=words):
            restore_optimizer_(model, optimizer, results[0].optimizer)


def test_arrays_of_an_optimiser_are_copies() -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    functional.cross_entropy(model(samples().inputs), samples().labels).backward()
    optimizer.step()
    kept = optimizer_arrays(model, optimizer)
    before = {name: values.copy() for name, values in kept.items()}
    optimizer.step()
    assert all(np.array_equal(values, before[name]) for name, values in kept.items())
    assert float(kept["1.bias/step"]) == 1
