"""LIVAR's layer rule: the tables, ties, one client, LoRA pairs, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rule_helpers import fedavg, round_of_clients

from fedcircuit.aggregation import RuleError, Setting, Update, Updates
from fedcircuit.aggregation.layers import LivarLayers
from fedcircuit.aggregation.layers.importance_table import (
    PUBLISHED,
    cells,
    one_factor,
    shares_of,
    two_factors,
)
from fedcircuit.aggregation.layers.livar_layers import layer_shares

LAYERS = ("0.weight", "2.weight")


def weights_of(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "0.weight": rng.normal(size=(4, 3)).astype(np.float32),
        "0.bias": rng.normal(size=4).astype(np.float32),
        "norm.weight": rng.normal(size=4).astype(np.float32),
        "2.weight": rng.normal(size=(4, 4)).astype(np.float32),
        "head.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "head.bias": rng.normal(size=3).astype(np.float32),
        "count": np.array(seed, np.int64),
    }


BEFORE = weights_of(0)
SETTING = Setting(n_classes=3)


def said(values: list[float], layers: tuple[str, ...] = LAYERS) -> dict:
    return {"path-layers": list(layers), "path-importance": values}


def ties(n: int) -> Updates:
    return round_of_clients(
        BEFORE,
        [weights_of(k + 1) for k in range(n)],
        [said([0.5, 0.5])] * n,
        [3 * k + 5 for k in range(n)],
    )


def test_importances_below_inside_and_above_the_quantiles_have_the_published_ratios() -> None:
    # 0..20: the 60th percentile is 12, the 80th is 16
    raw = one_factor(np.arange(21.0))
    assert raw.tolist() == pytest.approx([0.433] * 12 + [1.0] * 5 + [1.340] * 4, abs=5e-4)


def test_the_table_of_two_factors_is_the_published_one() -> None:
    assert PUBLISHED.round(5).tolist() == [
        [0.03814, 0.03814, 0.03814],
        [0.09814, 0.08814, 0.07814],
        [0.19314, 0.11814, 0.09314],
    ]
    # A: quantiles .25 and .5 of 0..8 are 2 and 4; B: .6 and .8 are 4.8 and 6.4
    a = np.arange(9.0).reshape(3, 3)
    b = np.array([[8.0, 0, 1], [7, 5, 2], [3, 6, 4]])
    raw = two_factors(a, b)
    assert raw[0, 0] == pytest.approx(0.19314, abs=1e-5)  # high B, low A
    assert raw[0, 2] == pytest.approx(0.03814, abs=1e-5)  # low B
    assert raw[1, 0] == pytest.approx(0.11814, abs=1e-5)  # high B, middle A
    assert raw[1, 1] == pytest.approx(0.08814, abs=1e-5)  # middle of both
    assert raw[2, 1] == pytest.approx(0.07814, abs=1e-5)  # middle B, high A


def test_equal_importances_are_all_in_the_middle() -> None:
    assert cells(np.full((3, 4), 0.1), (0.6, 0.8)).tolist() == [[1] * 4] * 3


IMPORTANCE = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(0, 1e6)
)


@given(IMPORTANCE, st.booleans(), st.booleans())
def test_the_weights_of_each_layer_sum_to_one(s: np.ndarray, lora: bool, based: bool) -> None:
    names = [f"{i}.lora_A" for i in range(s.shape[1])] if lora else []
    names += [f"{i}.lora_B" if lora else f"{i}.weight" for i in range(s.shape[1])]
    columns = np.concatenate([s, s[::-1]], axis=1) if lora else s
    base = np.arange(1.0, len(s) + 1) if based else None
    shares = layer_shares(dict(zip(names, columns.T, strict=True)), base)
    assert set(shares) == set(names)
    for own in shares.values():
        assert own.sum() == pytest.approx(1.0)
        assert (own > 0).all()


@given(st.integers(1, 4))
def test_ties_give_fedavg_exactly_by_samples_and_plain_means_by_the_uniform_base(n: int) -> None:
    updates = ties(n)
    average = fedavg(updates)
    made, _ = LivarLayers()(updates, average, SETTING, {})
    assert {k: v.tobytes() for k, v in made.items()} == {k: v.tobytes() for k, v in average.items()}
    made, _ = LivarLayers(base="uniform")(updates, average, SETTING, {})
    for name in ("0.weight", "0.bias", "2.weight"):
        mean = np.mean([u.weights[name].astype(np.float64) for u in updates.clients], axis=0)
        np.testing.assert_allclose(made[name], mean, rtol=1e-6)


@pytest.mark.parametrize("base", ["samples", "uniform"])
def test_one_client_gives_that_clients_model(base: str) -> None:
    updates = round_of_clients(BEFORE, [weights_of(4)], [said([3.0, 0.1])])
    made, _ = LivarLayers(base=base, with_head=True)(updates, fedavg(updates), Setting(), {})
    assert {k: v.tobytes() for k, v in made.items()} == {
        k: v.tobytes() for k, v in weights_of(4).items()
    }


def test_layers_and_their_biases_are_merged_by_hand_and_the_rest_is_the_averages() -> None:
    # S: six values 1, 2, 3, 4, 5, 6: the 60th percentile is 4, the 80th is 5
    clients = [weights_of(1), weights_of(2), weights_of(3)]
    words = [said([1.0, 4.0]), said([2.0, 5.0]), said([6.0, 3.0])]
    updates = round_of_clients(BEFORE, clients, words, [10, 10, 20])
    average = fedavg(updates)
    made, state = LivarLayers()(updates, average, SETTING, {})
    low, high = PUBLISHED[0, 1] / PUBLISHED[1, 1], PUBLISHED[2, 1] / PUBLISHED[1, 1]
    first = np.array([low, low, 2 * high])
    second = np.array([1.0, 1.0, 2 * low])
    for names, raw in ((("0.weight", "0.bias"), first), (("2.weight",), second)):
        shares = raw / raw.sum()
        for name in names:
            expected = sum(w * c[name].astype(float) for w, c in zip(shares, clients, strict=True))
            np.testing.assert_allclose(made[name], expected, rtol=1e-6)
            assert made[name].dtype == np.float32
    for name in ("norm.weight", "head.weight", "head.bias", "count"):
        assert made[name] is average[name]
    assert dict(state) == {}


def test_the_head_is_left_to_its_own_rule_unless_asked_for() -> None:
    layers = (*LAYERS, "head.weight")
    clients = [weights_of(1), weights_of(2)]
    words = [said([1.0, 1.0, 9.0], layers), said([1.0, 1.0, 0.0], layers)]
    updates = round_of_clients(BEFORE, clients, words)
    average = fedavg(updates)
    made, _ = LivarLayers()(updates, average, SETTING, {})
    assert made["head.weight"] is average["head.weight"]
    np.testing.assert_array_equal(made["0.weight"], average["0.weight"])  # ties without the head
    made, _ = LivarLayers(with_head=True)(updates, average, SETTING, {})
    assert not np.array_equal(made["head.bias"], average["head.bias"])
    with pytest.raises(RuleError, match="needs the number of classes"):
        LivarLayers()(updates, average, Setting(), {})


def test_the_importance_of_the_head_alone_is_refused_unless_the_head_is_merged() -> None:
    words = [said([1.0], ("head.weight",)), said([2.0], ("head.weight",))]
    updates = round_of_clients(BEFORE, [weights_of(1), weights_of(2)], words)
    with pytest.raises(RuleError, match="needs the path importance of a layer before the head"):
        LivarLayers()(updates, fedavg(updates), SETTING, {})
    made, _ = LivarLayers(with_head=True)(updates, fedavg(updates), SETTING, {})
    assert not np.array_equal(made["head.weight"], fedavg(updates)["head.weight"])


def test_what_is_merged_are_changes_from_where_each_client_started() -> None:
    start = weights_of(9)
    moved = {k: (v + 1 if v.dtype.kind == "f" else v) for k, v in start.items()}
    clients = (
        Update("a", 5, {k: (v + 1 if v.dtype.kind == "f" else v) for k, v in BEFORE.items()},
               said([1.0, 1.0])),
        Update("b", 5, moved, said([1.0, 1.0]), {"0.weight": start["0.weight"]}),
    )  # fmt: skip
    updates = Updates(1, BEFORE, clients)
    made, _ = LivarLayers()(updates, fedavg(updates), SETTING, {})
    np.testing.assert_allclose(made["0.weight"], BEFORE["0.weight"] + 1, rtol=1e-5)


def lora_round(seed: int, *, same_a: bool = False, train_a: bool = True) -> Updates:
    rng = np.random.default_rng(seed)
    frozen = rng.normal(size=(2, 5)).astype(np.float32)

    def weights() -> dict[str, np.ndarray]:
        a = frozen if same_a else rng.normal(size=(2, 5)).astype(np.float32)
        b = rng.normal(size=(6, 2)).astype(np.float32)
        return {"q.lora_A.weight": a, "q.lora_B.weight": b, "norm": np.ones(3, np.float32)}

    layers = ("q.lora_A.weight", "q.lora_B.weight") if train_a else ("q.lora_B.weight",)
    words = [said([float(k + 1)] * len(layers), layers) for k in range(3)]
    return round_of_clients(weights(), [weights() for _ in range(3)], words, [1, 2, 3])


def expected_shares(train_a: bool = True) -> np.ndarray:
    s = np.array([[1.0], [2.0], [3.0]])
    raw = two_factors(s, s) if train_a else one_factor(s)
    return shares_of(raw, np.array([1, 2, 3]) / 6)[:, 0]


def test_lora_factors_are_merged_by_the_table_of_both() -> None:
    updates = lora_round(1)
    made, state = LivarLayers(with_head=True)(updates, fedavg(updates), Setting(), {})
    # S of both: 1, 2, 3; A between 1.5 and 2, above 2; B below 2.2, between, above 2.6
    raw = np.array([PUBLISHED[0, 0], PUBLISHED[0, 1], PUBLISHED[2, 2]]) * [1, 2, 3]
    for name in ("q.lora_A.weight", "q.lora_B.weight"):
        own = zip(raw / raw.sum(), updates.clients, strict=True)
        np.testing.assert_allclose(made[name], sum(w * u.weights[name] for w, u in own), rtol=1e-5)
    assert dict(state) == {}


def test_the_product_mode_is_nearest_to_the_mean_of_products_and_says_what_it_lost() -> None:
    updates = lora_round(2)
    rule = LivarLayers(mode="product", with_head=True)
    made, state = rule(updates, fedavg(updates), Setting(), {})
    a, b = made["q.lora_A.weight"], made["q.lora_B.weight"]
    assert (a.shape, b.shape, a.dtype) == ((2, 5), (6, 2), np.float32)
    wanted = sum(
        w * u.weights["q.lora_B.weight"].astype(float) @ u.weights["q.lora_A.weight"]
        for w, u in zip(expected_shares(), updates.clients, strict=True)
    )
    lost = ((wanted - b.astype(float) @ a) ** 2).sum() / (wanted**2).sum()
    assert lost > 0.01
    assert float(state["lost-energy/q.lora_A.weight"]) == pytest.approx(lost, rel=1e-4)


@pytest.mark.parametrize("train_a", [True, False])
def test_a_frozen_a_is_kept_and_b_averaged(train_a: bool) -> None:
    updates = lora_round(3, same_a=True, train_a=train_a)
    rule = LivarLayers(mode="freeze_A", with_head=True)
    made, state = rule(updates, fedavg(updates), Setting(), {})
    frozen = updates.clients[0].weights["q.lora_A.weight"]
    np.testing.assert_array_equal(made["q.lora_A.weight"], frozen)
    own = zip(expected_shares(train_a), updates.clients, strict=True)
    expected = sum(w * u.weights["q.lora_B.weight"] for w, u in own)
    np.testing.assert_allclose(made["q.lora_B.weight"], expected, rtol=1e-5)
    assert float(state["lost-energy/q.lora_A.weight"]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("train_a", [True, False])
def test_clients_that_changed_a_cannot_be_merged_with_a_frozen_one(train_a: bool) -> None:
    updates = lora_round(4, train_a=train_a)
    with pytest.raises(RuleError, match=r"'q.lora_A.weight': mode 'freeze_A' needs the same A"):
        LivarLayers(mode="freeze_A", with_head=True)(updates, fedavg(updates), Setting(), {})


def test_products_of_clients_that_started_elsewhere_are_refused() -> None:
    updates = lora_round(5)
    first = updates.clients[0]
    moved = Update("a", 1, first.weights, first.said, first.weights)
    odd = Updates(1, updates.before, (moved, *updates.clients[1:]))
    with pytest.raises(RuleError, match="client a: mode 'product' needs clients that started"):
        LivarLayers(mode="product", with_head=True)(odd, fedavg(odd), Setting(), {})


def test_shuffled_clients_give_the_same_layers() -> None:
    words = [said([1.0, 4.0]), said([2.0, 5.0]), said([6.0, 3.0])]
    clients = [weights_of(k) for k in (1, 2, 3)]
    one = round_of_clients(BEFORE, clients, words, [4, 5, 6])
    other = round_of_clients(BEFORE, clients[::-1], words[::-1], [6, 5, 4])
    for name, values in LivarLayers()(one, fedavg(one), SETTING, {})[0].items():
        again = LivarLayers()(other, fedavg(other), SETTING, {})[0][name]
        np.testing.assert_allclose(values, again, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "client b: it needs 'path-layers' and 'path-importance'"),
        ({"path-layers": 3, "path-importance": 4}, "client b: it needs a list of layers"),
        (said([1.0]), "client b: it needs one number a layer.*2 layers and 1 numbers"),
        (said([], ()), "client b: it needs one number a layer"),
        (said([1.0, -1.0]), "client b: it needs finite importances >= 0"),
        (said([1.0, np.nan]), "client b: it needs finite importances >= 0"),
        (said([1.0, 1.0], ("0.weight", "0.weight")), "client b: .*each once"),
        (said([1.0, 1.0], ("0.weight", "x")), "client b: .*of weights that were sent.*'x'"),
        (said([1.0], ("0.weight",)), "client b: .*the same layers from all.*differ in '2.weight'"),
    ],
)
def test_what_a_client_does_not_say_or_says_wrong_is_named(words: dict, message: str) -> None:
    updates = round_of_clients(BEFORE, [weights_of(1)] * 2, [said([1.0, 1.0]), words])
    with pytest.raises(RuleError, match=message):
        LivarLayers()(updates, fedavg(updates), SETTING, {})


def test_choices_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="base must be one of"):
        LivarLayers(base="equal")
    with pytest.raises(ValueError, match="mode must be one of"):
        LivarLayers(mode="sum")
