"""FedNova, FedDyn and SCAFFOLD by hand."""

from __future__ import annotations

import numpy as np
import pytest
from rule_helpers import fedavg, round_of_clients
from toy_federation import bits

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Said, Setting, Updates
from fedcircuit.aggregation.drift import FedDyn, FedNova, Scaffold
from fedcircuit.aggregation.tensors import packed_tensors

BEFORE = {"w": np.array([1.0, 2.0])}


def two_clients(said: list[dict[str, Said]]) -> Updates:
    """They moved by (2, 0) and (0, 6); shares 1/4 and 3/4."""
    return round_of_clients(
        BEFORE, [{"w": np.array([3.0, 2.0])}, {"w": np.array([1.0, 8.0])}], said, [1, 3]
    )


def test_fednova_divides_by_steps_and_goes_on_by_their_mean() -> None:
    updates = two_clients([{messages.LOCAL_STEPS: 2}, {messages.LOCAL_STEPS: 6}])
    got, _ = FedNova()(updates, fedavg(updates), Setting(), NO_STATE)
    # mean steps 1/4 * 2 + 3/4 * 6 = 5; directions (1, 0) and (0, 1) by shares: (1/4, 3/4)
    np.testing.assert_allclose(got["w"], [1 + 5 / 4, 2 + 15 / 4])


def test_fednova_counts_steps_with_momentum_as_the_paper_does() -> None:
    updates = two_clients([{messages.LOCAL_STEPS: 1}, {messages.LOCAL_STEPS: 2}])
    got, _ = FedNova(momentum=0.5)(updates, fedavg(updates), Setting(), NO_STATE)
    # one step weighs 1; of two the first weighs 1 + 1/2 and the second 1: together 5/2
    mean = 1 / 4 * 1 + 3 / 4 * 5 / 2
    np.testing.assert_allclose(got["w"], [1 + mean / 4 * 2, 2 + mean * 3 / 4 * 6 / 2.5])


def test_fednova_is_the_average_bit_for_bit_where_all_took_as_many_steps() -> None:
    updates = two_clients([{messages.LOCAL_STEPS: 7}, {messages.LOCAL_STEPS: 7}])
    average = fedavg(updates)
    assert bits(FedNova()(updates, average, Setting(), NO_STATE)[0]) == bits(average)


@pytest.mark.parametrize("steps", [None, 0, -1, float("nan"), "7", True])
def test_fednova_refuses_what_is_no_number_of_steps(steps: Said | None) -> None:
    said: dict[str, Said] = {} if steps is None else {messages.LOCAL_STEPS: steps}
    updates = two_clients([{messages.LOCAL_STEPS: 7}, said])
    with pytest.raises(RuleError, match="client b: needs the local steps, a number >= 1"):
        FedNova()(updates, fedavg(updates), Setting(), NO_STATE)


def test_running_statistics_are_not_extrapolated() -> None:
    before = {"n.running_var": np.array([1.0])}
    clients = [{"n.running_var": np.array([0.1])}, {"n.running_var": np.array([0.9])}]
    said: list[dict[str, Said]] = [{messages.LOCAL_STEPS: 1}, {messages.LOCAL_STEPS: 9}]
    updates = round_of_clients(before, clients, said)
    average = fedavg(updates)
    assert bits(FedNova()(updates, average, Setting(), NO_STATE)[0]) == bits(average)


def test_feddyn_remembers_the_drift_and_steps_against_it() -> None:
    said: dict[str, Said] = {messages.FEDDYN_ALPHA: 0.5}
    updates = two_clients([said, said])
    average = {"w": np.array([2.0, 5.0])}
    got, state = FedDyn(alpha=0.5)(updates, average, Setting(), NO_STATE)
    # h = -1/2 * (1/2) * (2, 6) = (-1/2, -3/2); w = average - 2 h
    np.testing.assert_allclose(state["w"], [-0.5, -1.5])
    np.testing.assert_allclose(got["w"], [3.0, 8.0])
    again, later = FedDyn(alpha=0.5)(updates, average, Setting(), state)
    np.testing.assert_allclose(later["w"], [-1.0, -3.0])
    np.testing.assert_allclose(again["w"], [4.0, 11.0])
    _, fewer = FedDyn(alpha=0.5, n_clients=4)(updates, average, Setting(), NO_STATE)
    np.testing.assert_allclose(fewer["w"], [-0.25, -0.75])


def test_feddyn_refuses_clients_with_another_alpha_and_too_many() -> None:
    said: dict[str, Said] = {messages.FEDDYN_ALPHA: 0.5}
    updates = two_clients([said, {messages.FEDDYN_ALPHA: 0.1}])
    with pytest.raises(RuleError, match=r"client b: alpha is 0\.1 there and 0\.5 here"):
        FedDyn(alpha=0.5)(updates, fedavg(updates), Setting(), NO_STATE)
    with pytest.raises(RuleError, match="n_clients is 1, but 2 took part"):
        FedDyn(alpha=0.5, n_clients=1)(
            two_clients([said, said]), fedavg(updates), Setting(), NO_STATE
        )


def changes(*values: float) -> dict[str, Said]:
    return {messages.SCAFFOLD_DELTA: packed_tensors({"w": np.array(values)})}


def test_scaffold_adds_up_changes_over_all_clients_and_steps_by_its_rate() -> None:
    updates = two_clients([changes(1.0, 0.0), changes(3.0, -2.0)])
    average = {"w": np.array([2.0, 5.0])}
    got, state = Scaffold(lr=0.5, n_clients=4)(updates, average, Setting(), NO_STATE)
    np.testing.assert_allclose(got["w"], [1.5, 3.5])
    np.testing.assert_allclose(state["w"], [1.0, -0.5])
    _, later = Scaffold(n_clients=4)(updates, average, Setting(), state)
    np.testing.assert_allclose(later["w"], [2.0, -1.0])


def test_scaffold_tells_its_control_variate_in_the_order_of_the_weights() -> None:
    state = {"b": np.array([3.0]), "a": np.array([1.0, 2.0])}
    (sent,) = Scaffold().told(state, ["a", "n.num_batches_tracked", "b"]).values()
    assert isinstance(sent, bytes)
    assert np.frombuffer(sent, "<f4").tolist() == [1.0, 2.0, 3.0]
    assert Scaffold().told({}, ["a"]) == {}


@pytest.mark.parametrize(
    ("sent", "words"),
    [(b"1234", "8 bytes of <f4 as 'scaffold-delta', got 4 bytes"), (None, "got nothing"),
     (np.array([np.nan, 1.0], "<f4").tobytes(), "holds NaN")],
)  # fmt: skip
def test_scaffold_refuses_what_does_not_fit(sent: bytes | None, words: str) -> None:
    odd: dict[str, Said] = {} if sent is None else {messages.SCAFFOLD_DELTA: sent}
    updates = two_clients([changes(1.0, 0.0), odd])
    with pytest.raises(RuleError, match=f"client b: .*{words}"):
        Scaffold()(updates, fedavg(updates), Setting(), NO_STATE)


@pytest.mark.parametrize(
    "make",
    [lambda: FedNova(momentum=1.0), lambda: FedDyn(alpha=0.0), lambda: FedDyn(n_clients=0),
     lambda: Scaffold(lr=0.0), lambda: Scaffold(n_clients=0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="must"):
        make()  # type: ignore[operator]
