"""One bad reply: set aside with the client's name and the reason; the round goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_replies import BAD, HARMLESS, spoilt
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common import Code, FitRes, Parameters, Status
from flwr.server import strategy as legacy
from flwr.serverapp.strategy import FedAvg, FedMedian
from observing_helpers import app_of, recorder_of
from test_legacy import Proxy
from toy_federation import SortedGrid, arrays_of, initial_weights, toy_app, weights_of

from fedcircuit import CircuitFedAvg, Run, observe
from fedcircuit.records.runs.verification import verify_run

STRATEGIES: dict[str, Callable[..., Any]] = {
    "CircuitFedAvg": lambda **o: CircuitFedAvg(fraction_evaluate=0.0, **o),
    "FedAvg": lambda **o: observe(FedAvg(fraction_evaluate=0.0), **o),
}


def app_with(change: Callable[[dict], Any]) -> ClientApp:
    """Client 1 sends a spoilt reply in round 2; what it learned before is all the same."""
    honest = toy_app(steps=1)

    def train(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        number = message.content["config"]["server-round"]
        if number == 2 and context.node_config["partition-id"] == 1:
            reply.content = spoilt(reply.content, change)
        return reply

    return app_of(train)


def federate(make: Callable[..., Any], app: ClientApp, path: Path) -> tuple[Run, dict]:
    strategy = make(run_dir=path)
    result = strategy.start(SortedGrid(app, 4), arrays_of(initial_weights()), num_rounds=3)
    return Run.load(path), weights_of(result.arrays)


@pytest.mark.parametrize("make", STRATEGIES)
@pytest.mark.parametrize("name", BAD)
def test_it_is_set_aside_by_name_and_the_round_goes_on(
    name: str, make: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change, kind = BAD[name]

    run, weights = federate(STRATEGIES[make], app_with(change), tmp_path / "run")

    assert run.rounds == (1, 2, 3)
    ((number, client, found, reason),) = run.failures.itertuples(index=False)
    assert (number, client, found) == (2, "1", kind)
    assert 5 < len(reason) < 2_100
    assert [run.clients_of(n) for n in (1, 2, 3)] == [
        ("0", "1", "2", "3"), ("0", "2", "3"), ("0", "1", "2", "3"),
    ]  # fmt: skip
    assert all(np.isfinite(values).all() for values in weights.values())
    assert "Traceback" not in caplog.text
    assert verify_run(tmp_path / "run") == ()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_or_costs_only_a_part_stays_in(name: str, tmp_path: Path) -> None:
    run, _ = federate(STRATEGIES["FedAvg"], app_with(HARMLESS[name]), tmp_path / "run")

    assert run.failures.empty
    assert run.clients_of(2) == ("0", "1", "2", "3")
    assert (tmp_path / "run/rounds.jsonl").stat().st_size < 500_000


class Tampering(SortedGrid):
    """Duplicates, invents and mislabels replies of the second round."""

    how = ""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        asked = list(messages)
        replies = super().send_and_receive(asked, timeout=timeout)
        config = asked[0].content.config_records.get("config", {}) if asked else {}
        if config.get("server-round") == 2 and asked[0].metadata.message_type == "train":
            if self.how == "duplicate":
                replies.append(replies[1])
            else:
                replies[1].metadata.__dict__["_reply_to_message_id"] = "nobody"
        return replies


@pytest.mark.parametrize(
    ("how", "kinds"), [("duplicate", {"duplicate"}), ("stranger", {"stranger", "lost"})]
)
@pytest.mark.parametrize("make", STRATEGIES)
def test_second_and_strange_replies_are_set_aside(
    make: str, how: str, kinds: set[str], tmp_path: Path
) -> None:
    grid = Tampering(toy_app(), 4)
    grid.how = how
    strategy = STRATEGIES[make](run_dir=tmp_path / "run")
    strategy.start(grid, arrays_of(initial_weights()), num_rounds=3)

    run = Run.load(tmp_path / "run")
    assert run.rounds == (1, 2, 3)
    assert set(run.failures["kind"]) == kinds
    assert set(run.failures["client"]) == {"1"}


def test_a_long_error_text_is_cut_and_its_length_said(tmp_path: Path) -> None:
    def boom(content: dict) -> None:
        raise RuntimeError("x" * 5_000_000)

    run, _ = federate(STRATEGIES["FedAvg"], app_with(boom), tmp_path / "run")

    (reason,) = run.failures["reason"]
    assert len(reason) < 2_100
    assert reason.endswith("(5,000,014 characters)")


def test_nothing_unchecked_is_averaged_when_our_own_reading_fails(tmp_path: Path) -> None:
    strategy = observe(FedMedian(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    hooks = strategy.fedcircuit_hooks  # type: ignore[attr-defined]
    hooks.roster.name = lambda node: 1 / 0  # a defect of ours

    result = strategy.start(SortedGrid(toy_app(), 3), arrays_of(initial_weights()), num_rounds=1)

    assert len(result.arrays) == 0  # Flower's word for: no round gave weights
    assert any("ZeroDivisionError" in error for error in hooks.recorder.errors)


LEGACY = {
    name: case
    for name, case in BAD.items()
    if case[1] in ("non-finite", "magnitude", "shape", "dtype", "unreadable", "identity")
    and name not in ("a new name", "another serialisation")  # of the whole result there
}


def legacy_result(node: int, change: Callable[[dict], Any] | None) -> tuple[Proxy, FitRes]:
    """A client's result in the legacy API, spoilt or not."""
    content = RecordDict(
        {
            "arrays": arrays_of(initial_weights()),
            "metrics": MetricRecord({"num-examples": 5}),
            "fedcircuit": ConfigRecord({"partition-id": node}),
        }
    )
    if change is not None:
        content = spoilt(content, change)
    tensors = [array.data for array in content.array_records["arrays"].values()]
    said = content.config_records["fedcircuit"]["partition-id"]
    metrics: Any = {"partition-id": said}
    ok = Status(Code.OK, "")
    return Proxy(node), FitRes(ok, Parameters(tensors, "numpy.ndarray"), 5, metrics)


@pytest.mark.parametrize("name", LEGACY)
def test_the_same_holds_for_the_legacy_api(name: str, tmp_path: Path) -> None:
    change, kind = LEGACY[name]
    strategy: Any = observe(
        legacy.FedAvg(), run_dir=tmp_path / "run", param_names=list(initial_weights())
    )
    recorder = recorder_of(strategy)
    recorder.expect(1)
    recorder.begin(initial_weights(), {})
    results = [legacy_result(node, change if node == 1 else None) for node in range(4)]

    averaged, _ = strategy.aggregate_fit(1, results, [])

    assert averaged is not None
    run = Run.load(tmp_path / "run")
    assert run.rounds == (1,)
    ((_, client, found, _),) = run.failures.itertuples(index=False)
    assert found == kind
    assert client in ("1", "node-1")
    assert run.clients_of(1) == ("0", "2", "3")
