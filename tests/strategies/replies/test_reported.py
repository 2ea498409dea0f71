"""What clients report is kept as it came, whatever they call it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from observing_helpers import N, app_of, last_record, run
from toy_federation import SortedGrid

from fedcircuit.records.rounds.round_record import (
    GLOBAL,
    NOT_FINITE_LOGITS,
    Failure,
    Observation,
    Observer,
    RoundView,
)
from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.sections import trouble
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.replies.limits import MOST_METRICS, MOST_NAME, kept_extra, kept_metrics


def replies_with(metrics: MetricRecord, *beside: tuple[str, ConfigRecord]) -> SortedGrid:
    """Clients that send back what they got, and report this."""

    def train(message: Message, context: Context) -> Message:
        content = {"arrays": ArrayRecord(dict(message.content["arrays"])), "metrics": metrics}
        return Message(RecordDict(content | dict(beside)), reply_to=message)

    return SortedGrid(app_of(train), N)


def test_lists_are_recorded_of_clients_and_of_their_average(tmp_path: Path) -> None:
    said = MetricRecord({"num-examples": 4, "recall": [0.25, 0.5, 1.0]})
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    run(strategy, replies_with(said), rounds=1)
    recorded = Run.load(tmp_path / "run")
    assert recorded.clients["recall"].tolist() == [[0.25, 0.5, 1.0]] * N
    assert recorded.metrics["recall"].tolist() == [[0.25, 0.5, 1.0]]


def test_a_count_that_is_a_list_is_no_count(tmp_path: Path) -> None:
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    run(strategy, replies_with(MetricRecord({"num-examples": [4, 5]})), rounds=1)
    assert {failure.kind for failure in last_record(strategy).failures} == {"count"}


@pytest.mark.parametrize(("count", "shown"), [(10.5, 10.5), (10.0, 10), (7, 7), (0.25, 0.25)])
def test_a_number_of_examples_is_recorded_as_it_weighs(
    count: float, shown: float, tmp_path: Path
) -> None:
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    run(strategy, replies_with(MetricRecord({"num-examples": count})), rounds=1)
    recorded = Run.load(tmp_path / "run").clients["num_examples"].tolist()
    assert recorded == [shown] * N
    assert type(recorded[0]) is type(shown)
    assert [client.num_examples for client in last_record(strategy).clients] == [shown] * N


def test_side_records_keep_the_names_they_share(tmp_path: Path) -> None:
    beside = [(title, ConfigRecord({"note": title, "weights": 3})) for title in ("mine", "other")]
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    run(strategy, replies_with(MetricRecord({"num-examples": 4}), *beside), rounds=1)
    extra = last_record(strategy).clients[0].extra
    assert extra == {"note": "mine", "weights": 3, "other/note": "other", "other/weights": 3}


def test_what_is_left_out_is_said_without_taking_the_clients_own_entry() -> None:
    many = {str(index): float(index) for index in range(MOST_METRICS + 1)}
    metrics, extra = kept_metrics(many, {"metrics": "the client's"})
    assert list(metrics) == list(many)[:MOST_METRICS]
    assert extra["metrics"] == "the client's"
    assert "1,001 metrics were reported, the first 1,000 are kept" in str(extra.values())


def test_long_lists_count_as_many_numbers() -> None:
    metrics, extra = kept_metrics({"a": 1.0, "long": [0.0] * 100_000, "b": 2.0}, {})
    assert metrics == {"a": 1.0}
    assert "3 metrics were reported, the first 1 are kept" in str(extra["metrics"])


@pytest.mark.parametrize("length", [MOST_NAME + 1, 3 * MOST_NAME])
def test_names_that_are_cut_do_not_overwrite_each_other(length: int) -> None:
    kept = kept_extra({"n" * length + end: end for end in ("a", "b", "c")})
    assert list(kept.values()) == ["a", "b", "c"]
    assert all(len(name) <= MOST_NAME for name in kept)


def test_models_that_observers_cannot_measure_join_the_failures_once(tmp_path: Path) -> None:
    def seeing(observer: str, *failures: Failure) -> Observer:
        class Seeing:
            name = observer

            def __call__(self, view: RoundView) -> Observation:
                return Observation(failures=failures)

        return Seeing()

    nan, late = (Failure(GLOBAL, kind, "3 of 5 samples") for kind in (NOT_FINITE_LOGITS, "late"))
    strategy = observe(
        FedAvg(fraction_evaluate=0.0),
        run_dir=tmp_path / "run",
        observers=[seeing("one", nan), seeing("other", nan, late)],
    )
    run(strategy, replies_with(MetricRecord({"num-examples": 4})), rounds=1)
    failures = Run.load(tmp_path / "run").failures
    assert failures["kind"].tolist() == [NOT_FINITE_LOGITS, "late"]
    page = trouble(Run.load(tmp_path / "run"))
    assert [(row["who"], row["what"]) for row in page] == [
        ("global model", "not measured: its logits are not finite"),
        ("global model", "late"),
    ]
