"""Flower's own secure aggregation and differential privacy, really run, under an observer."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.client import Client
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import LegacyContext, ServerConfig
from flwr.server import strategy as legacy
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from observing_helpers import run
from toy_federation import N_CLASSES, SortedGrid, build_net, initial_weights, samples_of, toy_app

from fedcircuit import CircuitFedAvg, Run, observe
from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.clients.app import client_app
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.clients.sparse_client import SparseClient
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.records.rounds.round_record import NOT_FINITE_LOGITS
from fedcircuit.report.page.page import write_report
from fedcircuit.report.tables.verdict_text import headline
from fedcircuit.samples import Samples
from fedcircuit.strategies.recording.options import RecorderOptions

SETTINGS = CircuitSettings(controls=2)
PROBE = samples_of(9, 30)
N = 3
HIDDEN = "not available (secure aggregation)"


def data(context: Context) -> Samples:
    return samples_of(int(context.node_config["partition-id"]), 20)


def secure(
    path: Path, *, told: bool = False, own: ClientCircuits | None = None, probe: bool = True
) -> tuple[Run, list[np.ndarray]]:
    """Two rounds of Flower's SecAgg+, observed; the run, and the weights it ended with."""

    def client_fn(context: Context) -> Client:
        mine = data(context)
        return SparseClient(
            build_net(), mine, LocalTraining(epochs=1), n_classes=N_CLASSES,
            client=int(context.node_config["partition-id"]), circuits=own,
        ).to_client()  # fmt: skip

    kept: list[list[np.ndarray]] = []

    class Keeping(legacy.FedAvg):
        def aggregate_fit(self, server_round, results, failures):  # type: ignore[no-untyped-def]
            result = super().aggregate_fit(server_round, results, failures)
            assert result[0] is not None
            kept.append(parameters_to_ndarrays(result[0]))
            return result

    known: dict[str, Any] = {"probe": (PROBE.inputs, PROBE.labels)}
    if not probe:
        known = {"example": PROBE.inputs[:1], "discover_on": "clients"}
    strategy = observe(
        Keeping(
            fraction_evaluate=0.0,
            min_available_clients=N,
            on_fit_config_fn=lambda number: {"server-round": number},
            fit_metrics_aggregation_fn=lambda _: {},
            initial_parameters=ndarrays_to_parameters(list(initial_weights().values())),
        ),
        model=build_net(),
        circuits=SETTINGS,
        run_dir=path,
        options=RecorderOptions(strict=True, hidden_updates=told),
        **known,
    )
    context = LegacyContext(
        context=Context(1, 1, {}, RecordDict(), {}),
        config=ServerConfig(num_rounds=2),
        strategy=strategy,
    )
    workflow = SecAggPlusWorkflow(num_shares=N, reconstruction_threshold=2)
    app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
    DefaultWorkflow(fit_workflow=workflow)(InProcessGrid(app, N), context)
    return Run.load(path), kept[-1]


@pytest.mark.parametrize("told", [False, True])
def test_under_secure_aggregation_the_global_side_is_recorded_and_the_rest_is_named(
    tmp_path: Path, told: bool
) -> None:
    recorded, last = secure(tmp_path / "run", told=told)

    assert recorded.rounds == (1, 2)
    for number in recorded.rounds:
        clients = recorded.record(number).clients
        assert len(clients) == N
        assert {client.extra["weights"] for client in clients} == {HIDDEN}
        assert all(not client.weights for client in clients)
    for kept, returned in zip(recorded.weights(2).values(), last, strict=True):
        assert np.array_equal(kept, returned.astype(kept.dtype))
    assert set(recorded.table("models")["model"]) == {"global"}
    assert recorded.failures.empty
    assert recorded.observer_errors.empty
    page = write_report(recorded).read_text()
    assert "secure aggregation" in page
    assert "secure aggregation" in headline(recorded)


@pytest.mark.parametrize("probe", [True, False])
def test_masks_that_clients_send_pass_secure_aggregation_and_are_recorded(
    tmp_path: Path, probe: bool
) -> None:
    own = ClientCircuits(SETTINGS)
    recorded, _ = secure(tmp_path / "run", own=own, probe=probe)

    plain = CircuitFedAvg(
        fraction_evaluate=0.0, model=build_net(), example=PROBE.inputs[:1], discover_on="clients",
        circuits=SETTINGS, run_dir=tmp_path / "plain",
    )  # fmt: skip
    training = LocalTraining(epochs=1)
    app = client_app(build_net, data, training, n_classes=N_CLASSES, circuits=own)
    run(plain, SortedGrid(app, N), rounds=1)
    expected, got = Run.load(tmp_path / "plain").masks(1), recorded.masks(1)
    assert expected is not None
    assert got is not None
    clients = ("node-0", "node-1", "node-2")  # a NumPyClient under a legacy strategy has no other
    here = [got.models.index(client) for client in clients]
    assert expected.models == ("0", "1", "2")
    assert torch.equal(got.masks[here], expected.masks)
    assert torch.equal(got.found[here], expected.found)
    assert bool(expected.found.any())
    models = set(recorded.table("models")["model"])
    assert models == set(clients) | ({"global"} if probe else set())
    assert len(recorded.table("client_overlap")) > 0
    assert set(recorded.table("unavailable")["part"]) >= {"verdicts", "function", "overlap"}
    assert recorded.observer_errors.empty
    assert "circuits that clients looked for on their own data" in headline(recorded)
    write_report(recorded)


def noisy(mod: Callable[..., Message]) -> ClientApp:
    return toy_app(mods=[mod], circuits=ClientCircuits(SETTINGS))


CLIENT_SIDE: dict[str, tuple[Callable[[], ClientApp], Callable[[Strategy], Strategy]]] = {
    "LocalDpMod": (lambda: noisy(LocalDpMod(1.0, 1.0, 10.0, 1e-5)), lambda strategy: strategy),
    "fixedclipping_mod": (
        lambda: noisy(fixedclipping_mod),
        lambda strategy: DifferentialPrivacyClientSideFixedClipping(strategy, 0.1, 0.5, N),
    ),
}


def takes_scalars() -> bool:
    """Whether Flower's arithmetic takes a batch norm's counter, which has no dimension."""
    return tuple(map(int, version("flwr").split(".")[:2])) >= (1, 30)


@pytest.mark.parametrize("name", CLIENT_SIDE)
def test_what_a_privacy_mod_changed_is_recorded_as_it_came(tmp_path: Path, name: str) -> None:
    if not takes_scalars():
        pytest.skip("the mods of this release fail at entries without dimensions")
    app, wrapped = CLIENT_SIDE[name]
    observer = CircuitFedAvg(
        fraction_evaluate=0.0,
        model=build_net(),
        probe=(PROBE.inputs, PROBE.labels),
        discover_on="clients",
        circuits=SETTINGS,
        run_dir=tmp_path / "run",
        options=RecorderOptions(strict=True),
    )
    torch.manual_seed(0)

    run(wrapped(observer), SortedGrid(app(), N), rounds=2)

    recorded = Run.load(tmp_path / "run")
    assert recorded.rounds == (1, 2)
    assert recorded.observer_errors.empty
    # noise may put a variance below zero, and then the logits are NaN
    assert set(recorded.failures["kind"]) <= {NOT_FINITE_LOGITS}
    assert set(recorded.table("models")["model"]) == {"global", "0", "1", "2"}


def test_under_server_side_noise_the_round_is_recorded_on_either_side(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, make in {
        "outside": lambda path: observe(
            DifferentialPrivacyServerSideFixedClipping(FedAvg(fraction_evaluate=0.0), 0.1, 0.5, N),
            model=build_net(), probe=(PROBE.inputs, PROBE.labels), circuits=SETTINGS, run_dir=path,
        ),
        "inside": lambda path: DifferentialPrivacyServerSideFixedClipping(
            observe(
                FedAvg(fraction_evaluate=0.0),
                model=build_net(), probe=(PROBE.inputs, PROBE.labels), circuits=SETTINGS,
                run_dir=path,
            ),
            0.1, 0.5, N,
        ),
    }.items():  # fmt: skip
        path = tmp_path / name
        run(make(path), SortedGrid(toy_app(), N), rounds=2)
        recorded = Run.load(path)
        assert recorded.rounds == (1, 2), name
        assert recorded.observer_errors.empty, name
        assert len(recorded.clients_of(2)) == N, name
        assert ("every client's own update without noise" in caplog.text) == (name == "outside")
        caplog.clear()
