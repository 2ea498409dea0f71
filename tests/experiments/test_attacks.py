"""Attacks: what becomes of an update and of labels, and that only bad clients do it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from attacks import (
    ATTACKS,
    AsSparse,
    AttackMod,
    PoisonedData,
    UpdateAttack,
    all_nan,
    labels_turned,
    last_as_first,
    one_nan,
    scaled,
    sign_flipped,
)
from flwr.app import Context, RecordDict
from flwr.serverapp.strategy import FedAvg
from toy_federation import N_CLASSES, Witness, data_of, initial_weights, samples_of, toy_app

from fedcircuit import RecorderOptions, observe
from fedcircuit.app.engines.engine import Engine, Federation
from fedcircuit.app.engines.running import run_federation
from fedcircuit.records.rounds.round_record import RoundView

START = {
    "w": np.array([[1.0, -2.0], [0.5, 4.0]], np.float32),
    "n": np.array(3, np.int64),
}
TRAINED = {
    "w": np.array([[1.5, -2.0], [0.0, 1.0]], np.float32),
    "n": np.array(7, np.int64),
}


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (sign_flipped, [[0.5, -2.0], [1.0, 7.0]]),  # 1 - 0.5, -2 - 0, 0.5 + 0.5, 4 + 3
        (scaled, [[6.0, -2.0], [-4.5, -26.0]]),  # 1 + 5, -2 + 0, 0.5 - 5, 4 - 30
        (one_nan, [[np.nan, -2.0], [0.0, 1.0]]),
        (all_nan, [[np.nan, np.nan], [np.nan, np.nan]]),
    ],
)
def test_an_attack_changes_floating_point_tensors_and_nothing_else(
    attack: UpdateAttack, expected: list[list[float]]
) -> None:
    before = {name: values.copy() for name, values in TRAINED.items()}

    sent = attack(START, TRAINED)

    np.testing.assert_array_equal(sent["w"], np.array(expected, np.float32))
    assert {name: values.dtype for name, values in sent.items()} == {
        "w": np.float32,
        "n": np.int64,
    }
    assert sent["n"] == 7
    for name, values in before.items():
        np.testing.assert_array_equal(TRAINED[name], values)


def test_a_hiding_attack_leaves_as_many_numbers_as_training_did() -> None:
    sent = AsSparse(sign_flipped)(START, TRAINED)  # of 0.5, -2, 1, 7 three, as of 1.5, -2, 0, 1
    np.testing.assert_array_equal(sent["w"], np.array([[0.0, -2.0], [1.0, 7.0]], np.float32))
    assert sent["w"].dtype == np.float32
    assert sent["n"] == 7


def test_labels_are_counted_from_the_other_end_or_the_last_becomes_the_first() -> None:
    labels = torch.tensor([0, 3, 1, 3])
    assert labels_turned(labels, 4).tolist() == [3, 0, 2, 0]
    assert last_as_first(labels, 4).tolist() == [0, 0, 1, 0]


def context_of(partition: int) -> Context:
    return Context(
        run_id=1,
        node_id=9,
        node_config={"partition-id": partition, "num-partitions": 4},
        state=RecordDict(),
        run_config={},
    )


def test_only_bad_clients_have_other_labels_on_the_same_inputs() -> None:
    poisoned = PoisonedData(data_of, labels_turned, n_bad=2, n_classes=N_CLASSES)
    for client, own in ((1, True), (2, False)):
        samples, known = poisoned(context_of(client)), samples_of(client)
        assert torch.equal(samples.inputs, known.inputs)
        assert torch.equal(samples.labels, 2 - known.labels if own else known.labels)


def first_round(app_options: dict[str, object], **options: object) -> RoundView:
    witness = Witness()
    strategy = observe(
        FedAvg(fraction_evaluate=0.0, min_available_nodes=3, min_train_nodes=3),
        observers=[witness],
        options=replace(RecorderOptions(), **options),  # type: ignore[arg-type]
    )
    run_federation(Engine(), strategy, Federation(toy_app(**app_options), 3, initial_weights(), 1))
    return witness.views[0]


def test_the_mod_turns_the_update_of_the_bad_client_around_and_leaves_the_others() -> None:
    honest, attacked = first_round({}), first_round({"mods": [AttackMod(sign_flipped, n_bad=1)]})
    start = initial_weights()
    for one, other in zip(honest.clients, attacked.clients, strict=True):
        for name, values in one.weights.items():
            if one.client == "0" and values.dtype == np.float32:
                values = start[name] - (values - start[name])
            np.testing.assert_allclose(other.weights[name], values, rtol=1e-6, atol=1e-7)
        assert one.num_examples == other.num_examples
    assert [one.client for one in attacked.clients] == ["0", "1", "2"]


def test_a_client_that_sends_nan_is_set_aside_and_without_checks_the_average_is_nan() -> None:
    mods = {"mods": [AttackMod(one_nan, n_bad=1)]}
    checked = first_round(mods)
    assert [client.client for client in checked.clients] == ["1", "2"]
    assert all(np.isfinite(values).all() for values in checked.after.values())
    unchecked = first_round(mods, check_replies=False)
    assert np.isnan(unchecked.after["0.weight"]).sum() == 1


def test_evaluation_is_not_attacked() -> None:
    def evaluated(**options: object) -> dict[str, object]:
        strategy = FedAvg(min_available_nodes=3, min_train_nodes=3, min_evaluate_nodes=3)
        federation = Federation(toy_app(**options), 3, initial_weights(), 1)
        result = run_federation(Engine(), strategy, federation)
        return dict(result.evaluate_metrics_clientapp[1])

    as_trained = AttackMod(lambda start, trained: dict(trained), n_bad=3)
    assert evaluated(mods=[as_trained]) == evaluated()


def test_every_attack_by_name_is_one_thing_alone() -> None:
    for name, attack in ATTACKS.items():
        changes = (attack.update is not None) + (attack.labels is not None)
        assert changes == (name != "none")
