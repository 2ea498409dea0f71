"""Rules around strategies of the legacy API: the numbers of the message API, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import SimpleClientManager
from flwr.server import strategy as legacy
from flwr.serverapp.strategy import FedAvg
from legacy_helpers import NAMES, run, run_weights, sparse_client
from observing_helpers import last_record
from observing_helpers import run as run_messages
from plain_rules import Counting, Doubling
from toy_federation import SortedGrid, bits, build_net, initial_weights, samples_of, weights_of

from fedcircuit import messages
from fedcircuit.aggregation import Rule, RuleError, Setting
from fedcircuit.aggregation.drift import Scaffold
from fedcircuit.aggregation.heads import LivarHead, LogitOffsets
from fedcircuit.aggregation.layers import Fisher, Ties
from fedcircuit.aggregation.tensors import packed_tensors, trained
from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.learning.training import FeatureVariance, LocalTraining
from fedcircuit.strategies import Mended as MessageMended
from fedcircuit.strategies import RecorderOptions, observe
from fedcircuit.strategies.legacy_api import Mended

N = 4


def make(**options: Any) -> legacy.FedAvg:
    return legacy.FedAvg(
        initial_parameters=ndarrays_to_parameters(list(initial_weights().values())),
        on_fit_config_fn=lambda number: {"server-round": number},
        **options,
    )


def variances(context: Context) -> Client:
    training = LocalTraining(batch_size=8, feature_variance=FeatureVariance())
    return sparse_client(context, training)


def test_without_rules_a_mended_strategy_is_the_strategy() -> None:
    assert run(observe(Mended(make(), []))) == run(observe(make()))


RULES: list[list[Rule | str]] = [
    ["class-count-head"],
    [LivarHead()],
    [Ties(keep=0.5)],
    [LogitOffsets()],
    ["fednova"],
    [Counting(), Doubling()],
]


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: str(rules[0])[:12])
def test_the_numbers_are_those_of_the_message_api(rules: list[Rule | str]) -> None:
    given: dict[str, Any] = {"model": build_net(), "probe": samples_of(9, 60), "strict": True}
    got, _ = run_weights(Mended(make(), rules, **given), variances, n=N)
    app = ClientApp(client_fn=variances, mods=[numpyclient_mod])
    expected = run_messages(MessageMended(FedAvg(), rules, **given), SortedGrid(app, N), rounds=2)
    plain = run_messages(FedAvg(), SortedGrid(app, N), rounds=2)
    changed = 0.0
    for name, values in weights_of(expected.arrays).items():
        if initial_weights()[name].dtype.kind != "f":
            continue  # Flower's legacy FedAvg cuts each client's share of a count to an integer
        np.testing.assert_allclose(got[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
        changed += float(np.abs(values - weights_of(plain.arrays)[name]).sum())
    assert changed > 1e-3  # the rules do something


def test_a_run_that_goes_on_knows_what_rules_remember(tmp_path: Path) -> None:
    def strategy(folder: str) -> Mended:
        mended = Mended(make(), [Doubling(), Counting()], param_names=NAMES, every=2)
        return observe(mended, run_dir=tmp_path / folder, param_names=NAMES, resume=True)

    whole, first = strategy("whole"), strategy("parts")
    run(whole, rounds=4)
    run(first, rounds=3)
    second = strategy("parts")
    assert second.rule_state["1/times"] == 1
    run(second, rounds=1)
    assert (second.rule_state["1/times"], second.rule_state["1/round"]) == (2, 4)
    one, other = last_record(whole), last_record(second)
    assert bits(one.weights) == bits(other.weights)
    assert bits(one.state) == bits(other.state)


class Answering(NumPyClient):
    """Replies what it was sent, moved by a number, and says what it is told to say."""

    def __init__(self, said: Callable[[dict[str, Any]], dict[str, Any]], by: float = 1) -> None:
        self.said, self.by = said, by

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> Any:
        moved = [p + p.dtype.type(self.by) if p.dtype.kind == "f" else p for p in parameters]
        return moved, 5, self.said(config)

    def evaluate(self, parameters: list[Any], config: dict[str, Any]) -> Any:
        return 0.5, 5, {}


def test_clients_are_told_what_rules_tell_them() -> None:
    told: list[object] = []

    def said(config: dict[str, Any]) -> dict[str, Any]:
        told.append(config.get(messages.SCAFFOLD_CONTROL))
        start = initial_weights()
        ones = {name: np.ones(start[name].shape) for name in trained(start, Setting())}
        return {messages.SCAFFOLD_DELTA: packed_tensors(ones)}

    def client(context: Context) -> Client:
        return Answering(said, float(context.node_config["partition-id"])).to_client()

    strategy = Mended(make(), [Scaffold(n_clients=2 * N)], param_names=NAMES, strict=True)
    run(strategy, client, n=N)
    assert told[:N] == [None] * N
    for values in told[N:]:
        assert isinstance(values, bytes)
        np.testing.assert_allclose(np.frombuffer(values, "<f4"), 0.5)


def test_what_is_told_does_not_stay_in_the_strategy_s_own_instructions() -> None:
    config: dict[str, Any] = {"server-round": 1}
    parameters = ndarrays_to_parameters(list(initial_weights().values()))

    class Fixed(legacy.FedAvg):
        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
            return [(None, FitIns(parameters, config))]

    strategy = Mended(Fixed(), [Scaffold(n_clients=2)], param_names=NAMES)
    strategy.rule_state = {
        f"0/{name}": np.ones(initial_weights()[name].shape)
        for name in trained(initial_weights(), Setting())
    }
    ((_, instructions),) = strategy.configure_fit(1, parameters, SimpleClientManager())
    assert messages.SCAFFOLD_CONTROL in instructions.config
    assert config == {"server-round": 1}


def test_a_rule_that_cannot_be_used_is_recorded_and_the_average_goes_on(tmp_path: Path) -> None:
    strategy = observe(
        Mended(make(), [Counting(), "fisher"], param_names=NAMES),
        run_dir=tmp_path / "run",
        param_names=NAMES,
        options=RecorderOptions(strict=True),
    )
    assert run(strategy) == run(observe(make()))
    ((row),) = last_record(strategy).failures
    assert (row.client, row.kind) == ("0", "rule")
    assert messages.FISHER in row.reason
    with pytest.raises(RuleError, match="'fisher' cannot be used: client 0"):
        run(observe(Mended(make(), [Fisher()], param_names=NAMES, strict=True)))


def test_a_round_without_results_is_left_to_the_strategy() -> None:
    def failing(context: Context) -> Client:
        raise ValueError("my mistake")

    strategy = Mended(make(), [Counting()], param_names=NAMES, strict=True)
    weights, _ = run_weights(strategy, failing, n=N)
    assert bits(weights) == bits(initial_weights())
    assert strategy.rule_state == {}


def test_under_secure_aggregation_there_is_nothing_for_rules_to_read() -> None:
    def alike(context: Context) -> Client:
        return Answering(lambda config: {}).to_client()

    with pytest.raises(RuleError, match="every client's own weights, which are hidden"):
        run(Mended(make(), [Counting()], param_names=NAMES, strict=True), alike, n=N)


def test_weights_that_rules_leave_alone_keep_their_bytes() -> None:
    mended = Mended(make(), [Counting()], param_names=NAMES)
    before, _ = run_weights(observe(make()), rounds=1)
    after, _ = run_weights(observe(mended, param_names=NAMES), rounds=1)
    changed = {name for name in NAMES if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"3.bias"}
    np.testing.assert_array_equal(after["3.bias"], before["3.bias"] + np.float32(1))


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda: Mended(FedAvg(), []), TypeError, "message-based ones have fedcircuit.strategies"),  # type: ignore[arg-type]
        (lambda: MessageMended(make(), []), TypeError, "legacy_api.Mended"),  # type: ignore[arg-type]
        (lambda: Mended(make(), [], last_only=True), TypeError, "not told the number of rounds"),
        (lambda: Mended(make(), [], guard=None), TypeError, "clients cannot be asked"),
        (lambda: Mended(make(), [], evry=2), TypeError, "no option 'evry'"),
        (lambda: Mended(observe(make()), []), TypeError, r"observe\(Mended"),
        (lambda: Mended(make(), ["ccrv"]), ValueError, "did you mean 'ccvr'"),
        (lambda: Mended(make(), [], every=0), ValueError, "every must be >= 1"),
        (lambda: Mended(make(), [], probe=samples_of(0)), ValueError, "give model too"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    wrong: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        wrong()


def test_settings_of_the_wrapped_strategy_are_seen_through() -> None:
    strategy = Mended(make(min_available_clients=3), [], n_classes=7)
    assert strategy.min_available_clients == 3
    assert strategy.setting.n_classes == 7
    assert len(parameters_to_ndarrays(strategy.initialize_parameters(SimpleClientManager()))) == 9  # type: ignore[arg-type]
