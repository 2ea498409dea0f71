"""What a strategy remembers is saved and given back, whatever holds it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideAdaptiveClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
)

from fedcircuit.strategies.recording.memory_of_strategies import (
    as_returned,
    restore_state,
    returned_state,
    strategy_state,
)


def test_arrays_lists_and_dicts_of_arrays_are_saved_and_restored() -> None:
    one, two, three = np.arange(2), np.ones((1, 3), np.float32), np.array(5.0)
    strategy = SimpleNamespace(a=one, b=[two, one], c={"x:y": three}, d="text", e=[1, 2], f={})
    state = strategy_state(strategy)
    assert set(state) == {"array:a:", "list:b:0", "list:b:1", "dict:c:x:y"}
    other = SimpleNamespace(a=None, b=None, c=None, d="other")
    restore_state(other, state)
    assert other.a.tolist() == [0, 1]
    assert [array.dtype for array in other.b] == [np.float32, np.int64]
    assert other.c["x:y"] == 5.0
    assert other.d == "other"


def test_saved_state_is_a_copy() -> None:
    strategy = SimpleNamespace(a=np.zeros(2))
    state = strategy_state(strategy)
    strategy.a += 1
    assert state["array:a:"].tolist() == [0, 0]
    restore_state(strategy, state)
    strategy.a += 1
    assert state["array:a:"].tolist() == [0, 0]


def test_the_order_of_a_list_survives_ten_entries() -> None:
    strategy = SimpleNamespace(v=[np.array(i) for i in range(12)])
    restore_state(other := SimpleNamespace(v=None), strategy_state(strategy))
    assert [int(value) for value in other.v] == list(range(12))


def test_numpy_scalars_among_arrays_are_state_too() -> None:
    strategy = SimpleNamespace(m={"w": np.ones(2), "n": np.float64(3.0)})
    restore_state(other := SimpleNamespace(m=None), strategy_state(strategy))
    assert set(other.m) == {"w", "n"}
    assert (float(other.m["n"]), other.m["n"].shape) == (3.0, ())


def test_flowers_moments_and_momentum_are_found() -> None:
    adam, momentum = FedAdam(), FedAvgM()
    assert strategy_state(adam) == strategy_state(momentum) == {}
    adam.m_t, adam.v_t = {"w": np.ones(1)}, {"w": np.ones(2)}
    adam.current_arrays = {"w": np.ones(3)}  # set anew in every round
    momentum.momentum_vector = [np.ones(1)]
    assert set(strategy_state(adam)) == {"dict:m_t:w", "dict:v_t:w"}
    assert set(strategy_state(momentum)) == {"list:momentum_vector:0"}


def test_wrappers_give_their_own_number_and_the_state_of_what_they_wrap() -> None:
    def wrapped() -> DifferentialPrivacyServerSideAdaptiveClipping:
        return DifferentialPrivacyServerSideAdaptiveClipping(FedAdam(), 0.1, 3)

    strategy = wrapped()
    strategy.clipping_norm = 0.375
    strategy.strategy.m_t = {"w": np.array([3.0])}
    state = strategy_state(strategy)
    assert set(state) == {"number:clipping_norm:", "dict:strategy.m_t:w"}
    restore_state(other := wrapped(), state)
    assert other.clipping_norm == 0.375
    assert other.strategy.m_t["w"].tolist() == [3.0]


def test_the_state_of_another_strategy_does_not_pass_silently() -> None:
    adam = FedAdam()
    adam.m_t = {"w": np.ones(1)}
    with pytest.raises(AttributeError, match="m_t"):
        restore_state(FedAvg(), strategy_state(adam))


def test_weights_returned_in_another_dtype_are_kept_as_they_were() -> None:
    returned = {"w": np.array([0.1]), "n": np.array(2.5), "same": np.array([1.0], np.float32)}
    dtypes = {"w": np.dtype("float32"), "n": np.dtype("int64"), "same": np.dtype("float32")}
    state = returned_state(returned, dtypes)
    assert set(state) == {"returned::w", "returned::n"}
    recorded = {name: values.astype(dtypes[name]) for name, values in returned.items()}
    back = as_returned(recorded, {**state, "array:other:": np.zeros(1)})
    assert {n: (v.dtype, v.tobytes()) for n, v in back.items()} == {
        n: (v.dtype, v.tobytes()) for n, v in returned.items()
    }
    restore_state(FedAvg(), state)  # is no attribute of the strategy
