"""One option decides what runs the clients."""

from __future__ import annotations

import logging
import os

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from toy_federation import Witness, bits, initial_weights, toy_app, weights_of

from fedcircuit.app.engines.engine import Engine, Federation
from fedcircuit.app.engines.running import (
    QUIET_ENVIRONMENT,
    quiet_environment,
    quiet_flower,
    run_federation,
)
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.replies.failures import AllClientsFailedError


def failing() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise ValueError("my mistake")

    return app


def test_a_federation_runs_in_this_process_by_default() -> None:
    witness = Witness()
    strategy = CircuitFedAvg(observers=[witness], options=RecorderOptions(strict=True))
    result = run_federation(Engine(), strategy, Federation(toy_app(), 3, initial_weights(), 2))
    assert [view.round for view in witness.views] == [1, 2]
    assert bits(weights_of(result.arrays)) == bits(witness.views[-1].after)
    assert set(result.evaluate_metrics_clientapp) == {1, 2}


def test_a_strategy_nobody_observed_gives_the_same_every_time() -> None:
    outcomes = []
    for _ in range(2):
        federation = Federation(toy_app(), 5, initial_weights(), 2)
        result = run_federation(Engine(), FedAvg(fraction_train=0.6), federation)
        outcomes.append(bits(weights_of(result.arrays)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("make", [FedAvg, CircuitFedAvg, lambda: observe(FedAvg())])
def test_all_clients_failing_is_an_error_whatever_the_strategy(make: type[FedAvg]) -> None:
    federation = Federation(failing(), 2, initial_weights(), 2)
    with pytest.raises(AllClientsFailedError, match="ValueError: my mistake") as caught:
        run_federation(Engine(), make(), federation)
    assert caught.value.where is not None
    assert caught.value.where.startswith(__file__)


def test_a_strategy_may_ask_to_go_on_when_all_fail() -> None:
    strategy = observe(FedAvg(), options=RecorderOptions(fail_when_all_fail=False))
    result = run_federation(Engine(), strategy, Federation(failing(), 2, initial_weights(), 1))
    assert len(result.arrays) == 0


@pytest.mark.parametrize(
    "strategy",
    [
        FedAvg(min_available_nodes=4),
        DifferentialPrivacyServerSideFixedClipping(FedAvg(min_train_nodes=4), 0.1, 1.0, 4),
    ],
)
def test_waiting_for_ever_is_refused(strategy: FedAvg) -> None:
    federation = Federation(toy_app(), 3, initial_weights(), 1)
    with pytest.raises(ValueError, match=r"min_\w+ is 4, but there are 3 clients"):
        run_federation(Engine(), strategy, federation)


def test_flowers_log_is_silent_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    flower = logging.getLogger("flwr")
    level = flower.level
    monkeypatch.delenv("FLWR_LOG_LEVEL", raising=False)
    with quiet_flower():
        assert not flower.isEnabledFor(logging.ERROR)
    monkeypatch.setenv("FLWR_LOG_LEVEL", "INFO")
    with quiet_flower():
        assert flower.isEnabledFor(logging.INFO)
    assert flower.level == level


def test_the_environment_of_rays_processes_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")  # the user's own choice
    before = dict(os.environ)
    with quiet_environment():
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["FLWR_TELEMETRY_ENABLED"] == "1"
        os.environ["PYTHONPATH"] = "as Flower does"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "options",
    [
        {"name": "cloud"},
        {"cpus_per_client": 0},
        {"gpus_per_client": -1},
        {"name": "ray", "workers": 0},
        {"name": "in-process", "workers": 2},
    ],
)
def test_impossible_engines_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Engine(**options)  # type: ignore[arg-type]
