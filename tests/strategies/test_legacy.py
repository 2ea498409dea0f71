"""Strategies of the legacy API are observed alike, and secure aggregation is recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context
from flwr.client import Client
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.server import SimpleClientManager
from flwr.server import strategy as legacy
from flwr.server.strategy import Strategy
from legacy_helpers import NAMES, run, sorting, sparse
from observing_helpers import last_record, recorder_of
from toy_federation import initial_weights

from fedcircuit.records.runs.run import Run
from fedcircuit.strategies.legacy_api.clients import hides_clients
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.replies.failures import AllClientsFailedError

STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "FedAvg": legacy.FedAvg,
    "FedAvg not in place": lambda **options: legacy.FedAvg(inplace=False, **options),
    "FedProx": lambda **options: legacy.FedProx(proximal_mu=0.1, **options),
    "FedAvgM": lambda **options: legacy.FedAvgM(server_momentum=0.5, **options),
    "FedAdam": legacy.FedAdam,
    "FedMedian": legacy.FedMedian,
    "FedTrimmedAvg": legacy.FedTrimmedAvg,
    "Krum": lambda **options: legacy.Krum(num_malicious_clients=1, **options),
}


def broken(context: Context) -> Client:
    if context.node_config["partition-id"] == 1:
        raise ValueError("my mistake")
    return sparse(context)


def make(name: str) -> Strategy:
    return STRATEGIES[name](
        initial_parameters=ndarrays_to_parameters(list(initial_weights().values())),
        on_fit_config_fn=lambda number: {"server-round": number},
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_observed_legacy_strategy_computes_what_the_bare_one_does(
    name: str, tmp_path: Path
) -> None:
    bare = make(name)
    bare.__class__ = sorting(type(bare))
    strategy = observe(
        make(name),
        run_dir=tmp_path / "run",
        param_names=NAMES,
        options=RecorderOptions(strict=True),
    )
    assert run(strategy) == run(bare)
    record = last_record(strategy)
    assert record.round == 2
    assert [client.client for client in record.clients] == ["0", "1", "2", "3"]
    assert list(record.weights) == NAMES
    assert len(Run.load(tmp_path / "run").evaluations) == 2


def test_a_failed_client_is_named_as_one_that_was_asked_and_did_not_answer(tmp_path: Path) -> None:
    strategy = observe(
        make("FedAvg"), run_dir=tmp_path / "run", options=RecorderOptions(strict=True)
    )
    run(strategy, broken)
    ((failure,),) = [last_record(strategy).failures]
    assert (failure.client, failure.kind) == ("1", "error")
    assert failure.reason == "ValueError: my mistake"
    assert [client.client for client in last_record(strategy).clients] == ["0", "2", "3"]


def test_where_all_fail_the_users_line_is_told() -> None:
    def failing(context: Context) -> Client:
        raise ValueError("my mistake")

    strategy = observe(make("FedAvg"), options=RecorderOptions(fail_when_all_fail=True))
    with pytest.raises(AllClientsFailedError, match="ValueError: my mistake") as caught:
        run(strategy, failing)
    assert caught.value.where is not None
    assert caught.value.where.endswith("in failing")


class Proxy:
    """As much of a client proxy as a strategy needs."""

    def __init__(self, node_id: int) -> None:
        self.node_id, self.cid = node_id, str(node_id)


def results(*arrays: np.ndarray) -> list[tuple[Any, FitRes]]:
    ok = Status(Code.OK, "")
    return [
        (Proxy(index), FitRes(ok, ndarrays_to_parameters([values]), 3 + index, {"loss": 0.5}))
        for index, values in enumerate(arrays)
    ]


def test_texts_and_bytes_among_metrics_are_kept_as_they_came(tmp_path: Path) -> None:
    strategy = observe(legacy.FedAvg(), run_dir=tmp_path / "run")
    replies = results(np.zeros(2, np.float32), np.ones(2, np.float32))
    for index, (_, reply) in enumerate(replies):
        reply.metrics = {"client": f"site {index}", "by": b"xx", "loss": 0.5, "version": "0.1"}
    hooks = strategy.fedcircuit_hooks  # type: ignore[attr-defined]
    parameters = ndarrays_to_parameters([np.zeros(2, np.float32)])
    asked = [(proxy, None) for proxy, _ in replies]
    hooks.configure_fit(lambda *to: asked, 1, parameters, SimpleClientManager())
    hooks.aggregate_fit(lambda *to: (parameters, {}), replies, [])
    found = Run.load(tmp_path / "run").clients
    assert found["metrics.client"].tolist() == ["site 0", "site 1"]
    assert found["by"].tolist() == [b"xx", b"xx"]
    assert "version" not in found  # what our own clients say beside their weights


def test_one_object_in_all_results_is_secure_aggregation() -> None:
    shared = results(np.ones(2), np.ones(2))
    shared[1][1].parameters = shared[0][1].parameters
    assert hides_clients(shared, None)
    assert hides_clients(results(np.ones(2), np.ones(2)), ndarrays_to_parameters([np.zeros(2)]))


def test_clients_that_differ_did_not_train_or_are_alone_hide_nothing() -> None:
    sent = ndarrays_to_parameters([np.ones(2)])
    assert not hides_clients(results(np.ones(2), np.zeros(2)), sent)
    assert not hides_clients(results(np.ones(2), np.ones(2)), sent)
    assert not hides_clients(results(np.zeros(2)), sent)


@pytest.mark.parametrize("told", [False, True])
def test_under_secure_aggregation_only_the_aggregate_is_recorded(
    told: bool, tmp_path: Path
) -> None:
    options = RecorderOptions(strict=True, hidden_updates=told)
    strategy = observe(legacy.FedAvg(), run_dir=tmp_path / "run", options=options)
    parameters = ndarrays_to_parameters([np.zeros(2, np.float32)])
    hooks = strategy.fedcircuit_hooks  # type: ignore[attr-defined]
    hooks.configure_fit(lambda *to: [], 1, parameters, SimpleClientManager())
    sent = results(np.full(2, 0.25), np.full(2, 0.75 if told else 0.25))
    if not told:
        sent[1][1].parameters = sent[0][1].parameters
    strategy.aggregate_fit(1, sent, [])
    record = last_record(strategy)
    assert [(c.num_examples, dict(c.weights)) for c in record.clients] == [(3, {}), (4, {})]
    assert {c.extra["weights"] for c in record.clients} == {"not available (secure aggregation)"}
    assert record.weights["0"].dtype == np.float32
    assert record.failures == ()


def test_observers_see_no_client_under_secure_aggregation() -> None:
    seen = []

    class Look:
        name = "look"

        def __call__(self, view: Any) -> Any:
            from fedcircuit.records.rounds.round_record import Observation

            seen.append(view.clients)
            return Observation()

    options = RecorderOptions(strict=True, hidden_updates=True)
    strategy = observe(make("FedAvg"), observers=[Look()], options=options)
    run(strategy)
    assert seen == [(), ()]
    assert recorder_of(strategy).errors == []
