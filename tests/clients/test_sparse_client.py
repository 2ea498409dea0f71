"""A NumPyClient whose training depends on seed, round and client, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_federation import N_CLASSES, build_net, initial_weights, samples_of

from fedcircuit import messages
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.learning.networks.sparsity import WeightSparsity
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training.evaluation import evaluate
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.learning.weights import get_weights, set_weights

ROUND = {"server-round": 3}
TRAINING = LocalTraining(epochs=2, batch_size=8, lr=0.1)


def client(training: LocalTraining = TRAINING, **options: int) -> SparseClient:
    return SparseClient(build_net(), samples_of(1), training, n_classes=N_CLASSES, **options)


def start() -> list[np.ndarray]:
    return list(initial_weights().values())


def test_fitting_is_local_training_seeded_by_seed_round_and_client() -> None:
    weights, count, metrics = client(seed=5, client=1).fit(start(), ROUND)
    model = build_net()
    result = train_local(
        model, samples_of(1), TRAINING, n_classes=N_CLASSES, seed=derived_seed(5, 3, 1)
    )
    assert [w.tobytes() for w in weights] == [w.tobytes() for w in get_weights(model).values()]
    assert count == 28
    assert metrics == {
        "train_loss": result.loss, "train_accuracy": result.accuracy, "local-steps": result.steps
    }  # fmt: skip
    assert (type(count), type(metrics["train_loss"])) == (int, float)  # Flower takes no NumPy types


@pytest.mark.parametrize(
    ("options", "config"),
    [({"seed": 1}, ROUND), ({"client": 2}, ROUND), ({}, {"server-round": 4})],
)
def test_another_seed_client_or_round_trains_otherwise(
    options: dict[str, int], config: dict[str, int]
) -> None:
    usual, other = client().fit(start(), ROUND)[0], client(**options).fit(start(), config)[0]
    assert not np.array_equal(usual[0], other[0])


def test_the_global_random_state_neither_matters_nor_changes() -> None:
    torch.manual_seed(1)
    first = client().fit(start(), ROUND)[0]
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = client().fit(start(), ROUND)[0]
    assert [w.tobytes() for w in first] == [w.tobytes() for w in second]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_older_name_of_the_round_is_understood() -> None:
    weights = client().fit(start(), {"server_round": 3})[0]
    assert np.array_equal(weights[0], client().fit(start(), ROUND)[0][0])


def test_a_missing_round_is_an_error_that_says_how_to_send_it() -> None:
    with pytest.raises(ValueError, match="on_fit_config_fn"):
        client().fit(start(), {})


def test_the_weights_sent_are_not_changed() -> None:
    sent = start()
    before = [weights.copy() for weights in sent]
    client().fit(sent, ROUND)
    assert all(np.array_equal(a, b) for a, b in zip(sent, before, strict=True))


def test_evaluation_is_on_the_weights_sent_and_the_test_samples() -> None:
    one = SparseClient(
        build_net(), samples_of(0), TRAINING, n_classes=N_CLASSES, test=samples_of(2)
    )
    weights = [np.zeros_like(values) for values in start()]
    model = build_net()
    set_weights(model, dict(zip(initial_weights(), weights, strict=True)))
    expected = evaluate(model, samples_of(2), n_classes=N_CLASSES)
    assert one.evaluate(weights, {}) == (expected.loss, 32, {"accuracy": expected.accuracy})
    assert expected.loss == pytest.approx(np.log(N_CLASSES))  # equal logits


def test_without_test_samples_evaluation_is_on_the_training_samples() -> None:
    assert client().evaluate(start(), {})[1] == 28


def test_sparse_training_gives_sparse_weights() -> None:
    sparse = client(LocalTraining(sparsity=WeightSparsity(0.5)))
    weights = sparse.fit(start(), ROUND)[0]
    assert np.count_nonzero(weights[0]) == 15  # of 30
    assert np.count_nonzero(start()[0]) == 30


def test_the_proximal_term_that_fedprox_sends_is_used() -> None:
    sent = client().fit(start(), {**ROUND, "proximal-mu": 0.7})[0]
    configured = client(LocalTraining(epochs=2, batch_size=8, lr=0.1, proximal_mu=0.7))
    assert np.array_equal(sent[0], configured.fit(start(), ROUND)[0][0])
    assert not np.array_equal(sent[0], client().fit(start(), ROUND)[0][0])


def test_two_different_proximal_terms_are_refused() -> None:
    configured = client(LocalTraining(proximal_mu=0.7))
    with pytest.raises(ValueError, match=r"proximal-mu 0\.1.*proximal_mu 0\.7"):
        configured.fit(start(), {**ROUND, "proximal-mu": 0.1})


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="the model has 9 tensors, 8 arrived"):
        client().fit(start()[:-1], ROUND)


def test_parameters_are_the_models_in_its_own_order() -> None:
    assert [w.tobytes() for w in client().get_parameters({})] == [w.tobytes() for w in start()]


def test_without_test_samples_a_loss_on_held_out_ones_is_refused() -> None:
    asked = {**ROUND, messages.HELD_OUT: True}
    with pytest.raises(ValueError, match="no samples but those it trains on: give it test samples"):
        client().evaluate(start(), asked)
    other = SparseClient(
        build_net(), samples_of(1), TRAINING, n_classes=N_CLASSES, test=samples_of(2)
    )
    assert other.evaluate(start(), asked) == other.evaluate(start(), ROUND)
    assert client().evaluate(start(), {messages.HELD_OUT: False})[1] == 28
