import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from blob_models import N_CLASSES, N_UNITS, blobs, network

from fedcircuit.circuits.checks.validity import Validity
from fedcircuit.circuits.overlap.jaccard import Side, paired_overlaps
from fedcircuit.circuits.paths.connectivity import live_units
from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round import CircuitSettings, RoundTask, analyse_round
from fedcircuit.circuits.round import circuits_of_model as circuits_of
from fedcircuit.circuits.round import to_message as sent
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning import get_weights, set_weights
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.observers.circuits import CircuitObserver
from fedcircuit.records.rounds import ClientRecord, RoundView

SETTINGS = CircuitSettings(controls=2)


@pytest.fixture(scope="module")
def view() -> RoundView:
    """Round 2 of three clients from a common start, and their average."""
    trained = []
    for client in range(3):
        model = network()
        training = LocalTraining(epochs=20, batch_size=16)
        train_local(model, blobs(90, client), training, n_classes=N_CLASSES, seed=client)
        trained.append(get_weights(model))
    average = {name: np.mean([w[name] for w in trained], axis=0) for name in trained[0]}
    records = tuple(ClientRecord(str(c), 90, weights) for c, weights in enumerate(trained))
    return RoundView(2, get_weights(network()), average, records)


PROBE = Probe.split(blobs(120, 9), ("a", "b", "c"), seed=0)


def observer(**options) -> CircuitObserver:
    return CircuitObserver(network(), options.pop("probe", PROBE), SETTINGS, seed=5, **options)


def five_digits(cells) -> list:
    return [float(f"{cell:.4e}") if type(cell) is float else cell for cell in cells]


def column(observation, table: str, name: str) -> list:
    found = observation.tables[table]
    return [row[found.columns.index(name)] for row in found.rows]


def test_a_round_gives_all_tables_and_arrays(view) -> None:
    observation = observer()(view)
    shapes = {name: len(table.rows) for name, table in observation.tables.items()}
    assert shapes == {
        "sites": 2,
        "models": 4,
        "validity": 4 * N_CLASSES,
        "function": 3 * 2 * N_CLASSES,
        "overlap": 3 * N_CLASSES * 3,
        "class_swap": 3 * N_CLASSES * 3,
        "verdicts": 3 * N_CLASSES,
        "skipped": 0,
        "seconds": 4,
    }
    assert column(observation, "models", "model") == ["global", "0", "1", "2"]
    measures = [field.name for field in fields(Validity)]
    assert measures[:3] == ["status", "reason", "size"]
    assert observation.tables["validity"].columns == ("model", "class", *measures)
    assert observation.tables["function"].columns == (
        "client", "class", "direction", "recall", "fpr", "balanced_accuracy", "normalised",
    )  # fmt: skip
    assert observation.tables["overlap"].columns == (
        "client", "class", "layer", "iou", "chance", "adjusted", "p_value", "size_local",
        "size_global", "intersection", "pool", "q_value", "weighted", "weighted_chance",
    )  # fmt: skip
    assert observation.tables["verdicts"].columns == ("client", "class", "verdict", "reason")
    assert set(column(observation, "function", "direction")) == {
        "local_in_global",
        "global_in_local",
    }
    assert set(observation.arrays) == {"masks", "found", "live"}


def test_every_cell_is_a_plain_value(view) -> None:
    for table in observer()(view).tables.values():
        for row in table.rows:
            assert all(type(cell) in (str, int, float, bool, type(None)) for cell in row)


def test_packed_masks_agree_with_the_tables(view) -> None:
    observation = observer()(view)
    masks = np.unpackbits(observation.arrays["masks"], axis=-1, count=N_UNITS).astype(bool)
    assert observation.arrays["masks"].shape == (4, N_CLASSES, 4)
    assert observation.arrays["found"].shape == (4, N_CLASSES)
    assert column(observation, "validity", "size") == masks.sum(-1).flatten().tolist()
    model = network()
    set_weights(model, view.after)
    sites = find_sites(model, PROBE.checking.inputs)
    live = live_units(model, sites, PROBE.checking.inputs)
    assert observation.arrays["live"][0].tolist() == live.tolist()
    assert column(observation, "sites", "live") == [int(live[:16].sum()), int(live[16:].sum())]
    rows = paired_overlaps(
        Side(masks[2], live=observation.arrays["live"][2]), Side(masks[0], live=live), sites
    )
    there = [
        row[3] for row in observation.tables["overlap"].rows if row[0] == "1" and row[2] == "all"
    ]
    assert there == five_digits(rows.iou[:, -1].tolist())
    of_client = [row for row in observation.tables["overlap"].rows if row[0] == "1"]
    assert [row[7] for row in of_client if row[2] == "all"] == masks[2].sum(-1).tolist()
    assert [row[8] for row in of_client if row[2] == "all"] == masks[0].sum(-1).tolist()
    both = (masks[2] & masks[0]).sum(-1).tolist()
    assert [row[9] for row in of_client if row[2] == "all"] == both
    pool = (observation.arrays["live"][2] | observation.arrays["live"][0]).sum()
    assert [row[10] for row in of_client if row[2] == "all"] == [pool] * N_CLASSES


def test_the_tables_hold_what_the_analysis_found(view) -> None:
    observation = observer()(view)
    weights = {record.client: record.weights for record in view.clients}
    task = RoundTask(SETTINGS, seed=5, round=view.round)
    result = analyse_round(network(), view.after, weights, PROBE, task)
    pair = result.comparisons["2"]
    rows = [row for row in observation.tables["function"].rows if row[0] == "2"]
    for direction, functions in (
        ("local_in_global", pair.local_in_global),
        ("global_in_local", pair.global_in_local),
    ):
        here = [row[1:] for row in rows if row[2] == direction]
        assert [row[0] for row in here] == [0, 1, 2]
        measured = [
            tuple(five_digits([one.recall, one.fpr, one.balanced_accuracy, one.normalised]))
            for one in functions
        ]
        assert repr([row[2:] for row in here]) == repr(measured)
    assert pair.local_in_global != pair.global_in_local
    judged = [row[2:] for row in observation.tables["verdicts"].rows if row[0] == "2"]
    assert judged == [(v if v is None else str(v), reason) for v, reason in pair.verdicts]
    one = result.models[3].validity[1]
    checked = next(r for r in observation.tables["validity"].rows if r[:2] == ("2", 1))
    names = observation.tables["validity"].columns[2:]
    assert repr(list(checked[3:])) == repr(five_digits(getattr(one, name) for name in names[1:]))


def test_overlaps_of_scores_are_those_of_the_recorded_scores(view) -> None:
    observation = observer(scores=True)(view)
    scores = observation.arrays["scores"].astype(np.float64).clip(min=0)
    live = observation.arrays["live"]
    weights = np.where(live[:, None], scores, 0)
    weights /= weights.sum(-1, keepdims=True)
    least, most = np.minimum(weights[3], weights[0]), np.maximum(weights[3], weights[0])
    there = [row for row in observation.tables["overlap"].rows if row[::2][:2] == ("2", "all")]
    at = observation.tables["overlap"].columns.index("weighted")
    expected = least.sum(-1) / most.sum(-1)
    np.testing.assert_allclose([row[at] for row in there], expected, atol=2e-3)  # half precision


def test_the_same_round_gives_the_same_observation(view) -> None:
    first, second = observer(scores=True)(view), observer(scores=True)(view)
    for name, table in first.tables.items():
        if name != "seconds":
            assert repr(table) == repr(second.tables[name])
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])
    assert first.arrays["scores"].dtype == np.float16
    assert first.arrays["scores"].shape == (4, N_CLASSES, N_UNITS)


def test_rounds_in_between_give_nothing(view) -> None:
    assert observer(every=3)(view).tables == {}
    assert observer(every=3)(view).arrays == {}
    assert observer(every=2)(view).tables != {}


def test_a_sample_of_clients_is_drawn_from_seed_and_round(view) -> None:
    samples = {}
    for round_number in range(1, 9):
        one = RoundView(round_number, view.before, view.after, view.clients)
        samples[round_number] = column(observer(max_clients=2)(one), "models", "model")
        assert samples[round_number][0] == "global"
        assert len(samples[round_number]) == 3
        turned = RoundView(round_number, view.before, view.after, view.clients[::-1])
        again = column(observer(max_clients=2)(turned), "models", "model")
        assert sorted(again) == sorted(samples[round_number])
    assert len({tuple(names) for names in samples.values()}) > 1


def test_who_is_left_out_for_time_is_named(view) -> None:
    observation = observer(time_budget=1e-9)(view)
    assert column(observation, "models", "model") == ["global"]
    assert sorted(column(observation, "skipped", "client")) == ["0", "1", "2"]
    assert all("time budget" in reason for reason in column(observation, "skipped", "reason"))
    assert observation.tables["overlap"].rows == ()


def test_a_round_without_clients_has_its_global_circuits(view) -> None:
    observation = observer()(RoundView(2, view.before, view.after, ()))
    assert column(observation, "models", "model") == ["global"]
    assert len(observation.tables["validity"].rows) == N_CLASSES


def with_circuits(view: RoundView) -> RoundView:
    """The clients send circuits found on their own data; the last sends none, or garbage."""
    records = []
    for record in view.clients:
        model = network()
        set_weights(model, record.weights)
        own = Probe.split(blobs(60, 20 + int(record.client)), ("a", "b", "c"), seed=1)
        found = circuits_of(model, own, SETTINGS, seed=1)
        extra = sent(found.masks, found.found, found.validity)
        if record.client == "2":
            extra["masks-units"] = 5
        records.append(ClientRecord(record.client, 90, record.weights, {}, extra))
    records.append(ClientRecord("3", 90, view.clients[0].weights))
    return RoundView(view.round, view.before, view.after, tuple(records))


def test_circuits_found_by_clients_are_used_instead_of_a_search(view) -> None:
    sent = with_circuits(view)
    observation = observer(discover_on="clients")(sent)
    assert column(observation, "models", "model") == ["global", "0", "1", "3"]
    masks = observation.arrays["masks"]
    assert masks[1].tobytes() == sent.clients[0].extra["masks"]
    assert not observation.arrays["found"][3].any()
    assert column(observation, "skipped", "client") == ["2"]
    assert "sent for 5 units, the model has 28" in column(observation, "skipped", "reason")[0]
    reasons = [row[3] for row in observation.tables["validity"].rows if row[0] == "3"]
    assert set(reasons) == {"no circuit was found: the client sent none"}
    assert all(math.isnan(value) for value in column(observation, "overlap", "weighted"))
    assert not any(math.isnan(value) for value in column(observation, "overlap", "iou"))
    assert observer()(sent).arrays["masks"].shape == (5, N_CLASSES, 4)


def test_without_a_probe_only_what_clients_sent_is_recorded(view) -> None:
    sent = with_circuits(view)
    example = torch.zeros(1, 5)
    observation = observer(probe=None, discover_on="clients", example=example)(sent)
    assert column(observation, "models", "model") == ["0", "1"]
    assert "function" not in observation.tables
    assert "verdicts" not in observation.tables
    assert column(observation, "unavailable", "part") == [
        "global circuits",
        "function",
        "overlap",
        "verdicts",
    ]
    assert column(observation, "skipped", "client") == ["2", "3"]
    assert column(observation, "skipped", "reason")[1] == "the client sent no circuits"
    assert len(observation.tables["validity"].rows) == 2 * N_CLASSES
    assert column(observation, "validity", "status")[0] in ("valid", "undiscovered")
    overlaps = observation.tables["client_overlap"]
    assert {row[:2] for row in overlaps.rows} == {("0", "1")}
    assert len(overlaps.rows) == N_CLASSES * 3
    assert all(repr(list(row)) == repr(five_digits(row)) for row in overlaps.rows)
    masks = np.unpackbits(observation.arrays["masks"], axis=-1, count=N_UNITS).astype(bool)
    both = (masks[0, 1] & masks[1, 1]).sum() / (masks[0, 1] | masks[1, 1]).sum()
    assert [row[4] for row in overlaps.rows if row[2] == 1 and row[3] == "all"] == five_digits(
        [float(both)]
    )


def test_without_a_probe_and_without_any_circuit_nothing_is_invented(view) -> None:
    example = torch.zeros(1, 5)
    observation = observer(probe=None, discover_on="clients", example=example)(view)
    assert observation.tables["client_overlap"].rows == ()
    assert observation.arrays["masks"].shape == (0, N_CLASSES, 4)
    assert len(observation.tables["skipped"].rows) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be >= 1, got 0"),
        ({"max_clients": 0}, "max_clients must be >= 1"),
        ({"time_budget": 0.0}, "time_budget must be > 0"),
        ({"discover_on": "nowhere"}, "discover_on must be"),
        ({"ceiling": True, "discover_on": "clients"}, "a ceiling needs a search"),
        ({"probe": None}, "without a probe"),
        ({"probe": None, "discover_on": "clients"}, "without a probe"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        observer(**options)


def test_what_was_not_measured_is_nan_in_the_tables(view) -> None:
    only_two = PROBE.checking.take(PROBE.checking.labels < 2)
    observation = observer(probe=Probe(PROBE.discovery, only_two, PROBE.class_names))(view)
    absent = [row for row in observation.tables["validity"].rows if row[1] == 2]
    assert {row[2] for row in absent} == {"absent"}
    columns = observation.tables["validity"].columns
    recall, constant = columns.index("recall"), columns.index("constant")
    assert all(math.isnan(row[recall]) and row[constant] is None for row in absent)
    judged = [row for row in observation.tables["verdicts"].rows if row[1] == 2]
    assert all(row[2] is None and "absent" in row[3] for row in judged)
