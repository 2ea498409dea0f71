"""The information observer: what it looks at and when, and the same tables later from the disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from toy_federation import N_CLASSES, arrays_of, build_net, samples_of, toy_app

from fedcircuit.analysis.estimators.layer import layer_information
from fedcircuit.analysis.estimators.settings import InformationSettings
from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.weights import Weights, get_weights, set_weights
from fedcircuit.observers.information import InformationObserver, information_of_run
from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import ClientRecord, Observation, RoundView
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions

POOL = samples_of(9, 60)  # 96 of them; no client has number 9
COLUMNS = (
    "model", "layer", "quantity", "value", "unit", "estimator", "setting", "n", "d", "unique",
    "saturated", "null", "accuracy", "reason",
)  # fmt: skip
BINNED = InformationSettings(inputs="binned-count", labels="binned-count", bins=3, permutations=2)


def weights(seed: int) -> Weights:
    """Weights of the toy network, drawn anew."""
    model, generator = build_net(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return get_weights(model)


VIEW = RoundView(
    4, weights(0), weights(1), tuple(ClientRecord(str(k), 10, weights(2 + k)) for k in range(5))
)


def rows(observation: Observation) -> pd.DataFrame:
    table = observation.tables["information"]
    assert table.columns == COLUMNS
    return pd.DataFrame(list(table.rows), columns=list(COLUMNS))


def gaps(observation: Observation) -> dict[str, object]:
    table = observation.tables["information_gap"]
    assert table.columns == ("layer", "dIx", "dIy", "accuracy_gap", "saturated")
    (row,) = table.rows
    return dict(zip(table.columns, row, strict=True))


def by_hand(values: Weights, settings: InformationSettings, seed: int) -> tuple[list[float], float]:
    """Estimates of the one hidden layer, and the accuracy, without the observer."""
    model = build_net().eval()
    set_weights(model, values)
    with torch.no_grad():
        hidden, logits = model[:3](POOL.inputs), model(POOL.inputs)
    found = layer_information(
        hidden.double().numpy(), POOL.labels.numpy(), settings,
        seed=derived_seed(seed, "information"),
    )  # fmt: skip
    return [e.value for e in found], float((logits.argmax(1) == POOL.labels).float().mean())


def test_every_model_is_measured_on_the_same_pool() -> None:
    observation = InformationObserver(build_net(), POOL, BINNED, seed=3)(VIEW)
    found = rows(observation)
    names = ["global", "0", "1", "2", "3", "4"]
    assert list(dict.fromkeys(found["model"])) == [*names, "mean of clients"]
    assert found["quantity"].tolist() == ["I(X;T)", "I(T;Y)"] * 7
    assert set(found["layer"]) == {"0"}
    assert set(found["n"]) == {96}
    assert set(found["d"]) == {5}
    everything = [VIEW.after, *(record.weights for record in VIEW.clients)]
    for name, values in zip(names, everything, strict=True):
        expected, accuracy = by_hand(values, BINNED, 3)
        mine = found[found["model"] == name]
        np.testing.assert_allclose(mine["value"], expected, rtol=1e-6)
        np.testing.assert_allclose(mine["accuracy"], accuracy, rtol=1e-6)


def test_gaps_are_the_average_minus_the_mean_of_the_clients() -> None:
    observation = InformationObserver(build_net(), POOL, BINNED, seed=3)(VIEW)
    found, gap = rows(observation), gaps(observation)
    for quantity, name in (("I(X;T)", "dIx"), ("I(T;Y)", "dIy")):
        mine = found[found["quantity"] == quantity].set_index("model")["value"]
        expected = mine["global"] - mine[["0", "1", "2", "3", "4"]].mean()
        assert gap[name] == pytest.approx(expected, abs=1e-12)
        assert mine["mean of clients"] == pytest.approx(mine[["0", "1", "2", "3", "4"]].mean())
    accuracy = found.drop_duplicates("model").set_index("model")["accuracy"]
    expected = accuracy["global"] - accuracy[["0", "1", "2", "3", "4"]].mean()
    assert gap["accuracy_gap"] == pytest.approx(expected)


def test_settings_are_the_default_ones_unless_given() -> None:
    found = rows(InformationObserver(build_net(), POOL)(VIEW))
    kinds = found.loc[found["model"] == "global", "estimator"].tolist()
    assert kinds == ["kolchinsky-tracey-lower", "kolchinsky-tracey-upper", "probe"]
    assert set(found["unit"]) == {"bits"}


def test_a_sample_of_clients_is_drawn_from_seed_and_round_alone() -> None:
    observer = InformationObserver(build_net(), POOL, BINNED, max_clients=2, seed=1)

    def chosen(number: int, clients: tuple[ClientRecord, ...]) -> set[str]:
        found = rows(observer(RoundView(number, VIEW.before, VIEW.after, clients)))
        return set(found["model"]) - {"global", "mean of clients"}

    samples = [chosen(number, VIEW.clients) for number in range(1, 9)]
    assert all(len(sample) == 2 for sample in samples)
    assert len({frozenset(sample) for sample in samples}) > 1
    assert samples == [chosen(number, VIEW.clients[::-1]) for number in range(1, 9)]
    assert len(gaps(observer(VIEW))) == 5


def test_clients_nobody_sees_leave_the_average_alone() -> None:
    observer = InformationObserver(build_net(), POOL, BINNED)
    for clients in ((), (ClientRecord("0", 10, {}),)):
        observation = observer(RoundView(1, VIEW.before, VIEW.after, clients))
        assert set(rows(observation)["model"]) == {"global"}
        gap = gaps(observation)
        assert all(math.isnan(gap[name]) for name in ("dIx", "dIy", "accuracy_gap"))  # type: ignore[arg-type]


def test_weights_that_are_not_finite_leave_reasons() -> None:
    broken = {**VIEW.after, "0.bias": np.full(5, np.nan, dtype=np.float32)}
    found = rows(InformationObserver(build_net(), POOL)(RoundView(1, VIEW.before, broken, ())))
    assert found["value"].isna().all()
    assert found["accuracy"].isna().all()
    assert set(found["reason"]) == {"activations are not finite"}


def test_rounds_are_every_nth_or_those_of_a_list() -> None:
    every = InformationObserver(build_net(), POOL, BINNED, every=2)
    assert every(VIEW).tables
    assert every(RoundView(5, VIEW.before, VIEW.after, VIEW.clients)) == Observation()
    some = InformationObserver(build_net(), POOL, BINNED, rounds=[1, 5])
    assert not some(VIEW).tables
    assert [number for number in range(1, 9) if some.looks_at(number)] == [1, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be >= 1, got 0"),
        ({"max_clients": 0}, "max_clients must be >= 1, got 0"),
        ({"rounds": []}, "one or more numbers >= 1"),
        ({"rounds": [0, 3]}, "one or more numbers >= 1"),
        ({"rounds": [3], "every": 2}, "stand without every"),
        ({"spatial": "max"}, "spatial must be"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InformationObserver(build_net(), POOL, **options)


def test_a_pool_without_samples_and_a_model_without_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a pool of samples, got none"):
        InformationObserver(build_net(), samples_of(0, 0))
    with pytest.raises(ValueError, match="has no sites"):
        InformationObserver(torch.nn.Linear(6, N_CLASSES), POOL)


def federation(
    path: Path, observer: InformationObserver, *, updates: Any = "full", rounds: int = 4
) -> Run:
    """A run of the toy federation, observed."""
    manifest = build_manifest("toy", None, seed=0, class_names=("a",), thresholds={})
    store = RunStore.create(path, manifest, Storage(updates=updates))
    options = RecorderOptions(seed=1, strict=True)
    strategy = observe(FedAvg(), store=store, observers=[observer], options=options)
    start = arrays_of(get_weights(build_net()))
    strategy.start(InProcessGrid(toy_app(), 4), start, num_rounds=rounds)
    store.close()
    return Run.load(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"settings": BINNED, "every": 2, "max_clients": 2, "seed": 7, "output": True},
        {"rounds": [1, 3]},
    ],
)
def test_what_is_computed_later_is_exactly_what_was_recorded(
    options: dict[str, Any], tmp_path: Path
) -> None:
    run = federation(tmp_path / "run", InformationObserver(build_net(), POOL, **options))
    found = information_of_run(run, build_net(), POOL, **options)
    pd.testing.assert_frame_equal(found.plane, run.table("information"), check_exact=True)
    pd.testing.assert_frame_equal(found.gaps, run.table("information_gap"), check_exact=True)
    assert found.plane["value"].notna().all()
    looked = options.get("rounds", list(range(options.get("every", 1), 5, options.get("every", 1))))
    assert sorted(found.gaps["round"].unique()) == looked


def test_a_run_without_client_weights_gives_the_average_alone(tmp_path: Path) -> None:
    observer = InformationObserver(build_net(), POOL, BINNED)
    run = federation(tmp_path / "run", observer, updates="none", rounds=2)
    found, recorded = information_of_run(run, build_net(), POOL, BINNED), run.table("information")
    assert set(found.plane["model"]) == {"global"}
    own = recorded[recorded["model"] == "global"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.plane, own, check_exact=True)
    assert found.gaps[["dIx", "dIy", "accuracy_gap"]].isna().all(axis=None)
    assert run.table("information_gap")["dIx"].notna().all()  # the observer did see the clients


def test_rounds_nobody_recorded_are_refused(tmp_path: Path) -> None:
    run = federation(tmp_path / "run", InformationObserver(build_net(), POOL, BINNED), rounds=1)
    with pytest.raises(ValueError, match="has 1 rounds, none of which is looked at"):
        information_of_run(run, build_net(), POOL, rounds=[7])
