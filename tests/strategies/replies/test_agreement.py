"""What clients agree on is averaged as it is without observation; who differs is set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flwr.server.strategy as legacy
import numpy as np
import pytest
from flwr.app import Array, Context, Message
from flwr.server.client_manager import SimpleClientManager
from flwr.serverapp.strategy import FedAvg
from observing_helpers import N, app_of, last_record, outcome, run
from toy_federation import SortedGrid, build_net, initial_weights, samples_of, toy_app

from fedcircuit.learning.weights import Weights
from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.sections import trouble
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.preflight.checks import PreflightError
from fedcircuit.strategies.preflight.numbered_weights import WeightNames
from fedcircuit.strategies.replies.agreement import agreed
from fedcircuit.strategies.replies.reply import Reply

SENT: Weights = {"body": np.zeros((2, 3), np.float32), "head": np.zeros(2, np.float32)}
BODY: Weights = {"body": SENT["body"]}
PROBE = samples_of(9, 60)


def grid_of(change: Callable[[Message, int], None]) -> SortedGrid:
    """Our clients, with a change to every reply."""

    def train(message: Message, context: Context) -> Message:
        arrays = dict(message.content["arrays"])  # clients that keep tensors have their own
        for name, values in initial_weights().items():
            message.content["arrays"].setdefault(name, Array(np.asarray(values)))
        for name in list(message.content["arrays"]):
            if name not in arrays and name not in initial_weights():
                del message.content["arrays"][name]
        reply = toy_app()(message, context)
        change(reply, int(context.node_config["partition-id"]))
        return reply

    return SortedGrid(app_of(train), N)


def without(*names: str) -> Callable[[Message, int], None]:
    def change(reply: Message, client: int) -> None:
        for name in names:
            del reply.content["arrays"][name]

    return change


CHANGES: dict[str, Callable[[Message, int], None]] = {
    "FedPer": without("3.weight", "3.bias"),
    "FedBN": without("1.weight", "1.bias", "1.running_mean", "1.running_var",
                     "1.num_batches_tracked"),
    "more": lambda reply, client: reply.content["arrays"].update(
        control=Array(np.full(3, client, np.float32))
    ),
    "another shape": lambda reply, client: reply.content["arrays"].update(
        {"0.bias": Array(np.full((2, 2), client, np.float32))}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_all_replies_agree_on_is_averaged_as_without_observation(
    tmp_path: Path, name: str
) -> None:
    bare = run(FedAvg(fraction_evaluate=0.0), grid_of(CHANGES[name]), rounds=1)
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    seen = run(strategy, grid_of(CHANGES[name]), rounds=1)
    assert outcome(seen) == outcome(bare)
    assert not last_record(strategy).failures
    recorded = Run.load(tmp_path / "run")
    assert list(recorded.weights(1)) == list(seen.arrays)
    assert list(recorded.client_weights(1, "0")) == list(seen.arrays)


def test_a_body_that_is_averaged_goes_on_round_after_round(tmp_path: Path) -> None:
    """Round 2 starts from the body alone, which clients complete by what they kept."""
    strategy = observe(FedAvg(fraction_evaluate=0.0), run_dir=tmp_path / "run")
    seen = run(strategy, grid_of(CHANGES["FedPer"]), rounds=3)
    bare = run(FedAvg(fraction_evaluate=0.0), grid_of(CHANGES["FedPer"]), rounds=3)
    assert outcome(seen) == outcome(bare)
    recorded = Run.load(tmp_path / "run")
    assert [len(recorded.weights(number)) for number in range(4)] == [9, 7, 7, 7]
    assert recorded.failures.empty


def test_a_model_says_which_tensors_the_average_lacks(tmp_path: Path) -> None:
    strategy = observe(
        FedAvg(fraction_evaluate=0.0),
        model=build_net(),
        probe=(PROBE.inputs, PROBE.labels),
        run_dir=tmp_path / "run",
    )
    run(strategy, grid_of(CHANGES["FedPer"]), rounds=1)
    errors = Run.load(tmp_path / "run").observer_errors
    assert errors["observer"].tolist() == ["circuits", "evaluation"]
    assert all("lack ['3.weight', '3.bias']" in error for error in errors["error"])


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([BODY, BODY, SENT], BODY),
        ([BODY, SENT], SENT),  # a draw: what was sent
        ([SENT, SENT, BODY], SENT),
        ([BODY], BODY),
        ([{**SENT, "more": SENT["head"]}], SENT),  # one client alone may not add
        ([{**SENT, "more": SENT["head"]}] * 2, {**SENT, "more": SENT["head"]}),
        ([{**SENT, "head": np.zeros(5, np.float32)}], SENT),
        ([], SENT),
    ],
)
def test_the_form_of_most_counts(replies: list[Weights], expected: Weights) -> None:
    template, _ = agreed([Reply(str(i), 1, weights) for i, weights in enumerate(replies)], SENT)
    assert {n: v.shape for n, v in template.items()} == {n: v.shape for n, v in expected.items()}


def test_replies_with_errors_have_no_say() -> None:
    broken = [Reply(str(i), error=("lost", "no reply in time")) for i in range(3)]
    assert agreed([*broken, Reply("9", 1, SENT)], SENT)[0] is SENT


def test_integers_that_all_send_for_floats_are_an_agreement() -> None:
    signs = {name: np.sign(values).astype(np.int8) for name, values in SENT.items()}
    template, dtypes = agreed([Reply(str(i), 1, signs) for i in range(2)], SENT)
    assert {values.dtype for values in template.values()} == {np.dtype(np.int8)}
    assert dtypes == {}


def test_numbered_parameters_alone_get_the_names_of_parameters() -> None:
    names = [name for name, _ in build_net().named_parameters()]
    arrays = [value.detach().numpy() for value in build_net().parameters()]
    numbered = {str(index): values for index, values in enumerate(arrays)}
    assert list(WeightNames(None, build_net()).of(numbered)) == names


def test_numbered_arrays_that_are_not_the_models_are_refused() -> None:
    numbered = {str(i): values for i, values in enumerate(initial_weights().values())}
    swapped = {**numbered, "0": numbered["1"], "1": numbered["0"]}
    with pytest.raises(PreflightError, match="9 arrays without names came, .* give param_names"):
        WeightNames(None, build_net()).of(swapped)
    with pytest.raises(PreflightError, match="2 names of parameters for 9 arrays"):
        WeightNames(["a", "b"], None).of(numbered)


def test_names_are_decided_by_the_first_weights() -> None:
    names = WeightNames(["a", "b"], None)
    two: dict[str, Any] = {"0": np.zeros(1), "1": np.ones(1)}
    assert list(names.of(two)) == ["a", "b"]
    assert list(names.of({"0": np.zeros(1)})) == ["0"]


def test_a_legacy_strategy_may_exchange_parameters_alone(tmp_path: Path) -> None:
    from flwr.common import ndarrays_to_parameters

    arrays = [value.detach().numpy() for value in build_net().parameters()]
    strategy: Any = observe(
        legacy.FedAvg(),
        model=build_net(),
        probe=(PROBE.inputs, PROBE.labels),
        run_dir=tmp_path / "run",
    )
    strategy.min_available_clients = strategy.min_fit_clients = 0
    strategy.configure_fit(1, ndarrays_to_parameters(arrays), SimpleClientManager())
    names = [name for name, _ in build_net().named_parameters()]
    assert list(Run.load(tmp_path / "run").weights(0)) == names


def prefixed(reply: Message, client: int) -> None:
    arrays = reply.content["arrays"]
    for name in list(arrays):
        arrays[f"module.{name}"] = arrays.pop(name)


BUFFERS = ("1.running_mean", "1.running_var", "1.num_batches_tracked")


@pytest.mark.parametrize(
    ("change", "rule"), [(prefixed, "other name"), (without(*BUFFERS), "value of the model")]
)
def test_replies_under_other_names_than_were_sent_are_read_too(
    tmp_path: Path, change: Callable[[Message, int], None], rule: str
) -> None:
    strategy = observe(
        FedAvg(fraction_evaluate=0.0),
        model=build_net(),
        probe=(PROBE.inputs, PROBE.labels),
        run_dir=tmp_path / "run",
    )
    run(strategy, grid_of(change), rounds=1)
    recorded = Run.load(tmp_path / "run")
    assert recorded.observer_errors.empty
    exchange = recorded.table("exchange")
    assert exchange["round"].tolist() == [1] * len(exchange)
    assert exchange["rule"].str.startswith(rule).all()
    assert len(recorded.table("accuracy")) == 4  # all classes, and three
    reasons = [row["what"] for row in trouble(recorded)]
    assert reasons == [f"{exchange['rule'][0]}: {len(exchange)} tensors"]


def test_bodies_of_the_legacy_api_are_averaged_as_without_observation(tmp_path: Path) -> None:
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays

    class Proxy:
        def __init__(self, number: int) -> None:
            self.cid, self.node_id = str(number), number

    def averaged(strategy: Any) -> list[bytes]:
        whole = [np.asarray(values) for values in initial_weights().values()]
        manager = SimpleClientManager()
        strategy.min_available_clients = strategy.min_fit_clients = 0
        strategy.configure_fit(1, ndarrays_to_parameters(whole), manager)
        results = []
        for i in range(3):
            body = ndarrays_to_parameters([values + i for values in whole[:7]])
            results.append((Proxy(i), FitRes(Status(Code.OK, ""), body, 5, {})))
        parameters, _ = strategy.aggregate_fit(1, results, [])
        return [values.tobytes() for values in parameters_to_ndarrays(parameters)]

    names = list(initial_weights())
    observed = observe(legacy.FedAvg(), run_dir=tmp_path / "run", param_names=names)
    assert averaged(observed) == averaged(legacy.FedAvg())
    assert list(Run.load(tmp_path / "run").weights(1)) == [str(index) for index in range(7)]
