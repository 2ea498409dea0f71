"""LIVAR's head rule: weights by hand, their laws, kept rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rule_helpers import fedavg, round_of_clients

from fedcircuit.aggregation import RuleError, Setting
from fedcircuit.aggregation.heads import LivarHead

NAN = float("nan")
BEFORE = {
    "body": np.array([[1.0, 2.0]], np.float32),
    "count": np.array(3, np.int64),
    "head.weight": np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.7]], np.float32),
    "head.bias": np.array([0.11, 0.12, 0.13], np.float32),
}
SETTING = Setting(n_classes=3)


def client(number: float) -> dict[str, np.ndarray]:
    rows = {
        name: np.full(values.shape, number, values.dtype)
        for name, values in BEFORE.items()
        if values.ndim
    }
    return {**BEFORE, **rows}


def said(variances: list[float], counts: list[int] | None = None) -> dict:
    return {"class-variances": variances, "class-counts": counts or [10] * len(variances)}


def test_rows_are_weighted_by_variance_and_the_body_is_the_averages() -> None:
    # class 0: 1 and 3; class 1: one sample in b; class 2: nobody
    words = [said([1.0, 5.0, NAN], [4, 4, 0]), said([3.0, 7.0, NAN], [4, 1, 0])]
    updates = round_of_clients(BEFORE, [client(8.0), client(4.0)], words)
    average = fedavg(updates)
    made, state = LivarHead()(updates, average, SETTING, {})
    assert made["head.weight"][:2].tolist() == [[5.0, 5.0], [8.0, 8.0]]
    assert made["head.bias"][:2].tolist() == [5.0, 8.0]
    for name in ("head.weight", "head.bias"):  # a class nobody can score: the server's own row
        assert made[name][2:].tobytes() == BEFORE[name][2:].tobytes()
        assert made[name].dtype == np.float32
    assert made["body"] is average["body"]
    assert made["count"].dtype == np.int64
    assert dict(state) == {}


def test_a_class_of_two_clients_without_any_variance_keeps_the_servers_row() -> None:
    words = [said([0.0, 1, 1]), said([0.0, 1, 1])]
    updates = round_of_clients(BEFORE, [client(8.0), client(4.0)], words)
    made, _ = LivarHead()(updates, fedavg(updates), SETTING, {})
    assert made["head.weight"][0].tobytes() == BEFORE["head.weight"][0].tobytes()
    assert made["head.weight"][1].tolist() == [6.0, 6.0]


def test_shrinking_is_as_written_by_hand() -> None:
    # one class; m = (2 + 6) / 2 = 4; a: (3*2 + 5*4)/8 = 3.25; b: (15*6 + 5*4)/20 = 5.5
    shares = LivarHead(n0=5).shares(np.array([[2.0], [6.0], [9.0]]), np.array([[3.0], [15], [1]]))
    assert shares[:, 0].tolist() == pytest.approx([3.25 / 8.75, 5.5 / 8.75, 0.0])


def test_clipping_cuts_an_outlier_at_the_percentile_of_the_round() -> None:
    variances = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 101.0]])
    counts = np.full((3, 2), 9.0)
    cut = float(np.percentile(variances, 90))  # 51: halfway between the fifth and the sixth
    assert cut == 51.0
    shares = LivarHead(clip=90).shares(variances, counts)
    assert shares[:, 1].tolist() == pytest.approx([1 / 53, 1 / 53, 51 / 53])
    assert shares[:, 0].tolist() == pytest.approx([1 / 3] * 3)
    assert LivarHead(clip=50).shares(variances, counts)[:, 1].tolist() == pytest.approx([1 / 3] * 3)


def test_what_nobody_knows_does_not_lower_the_percentile() -> None:
    variances = np.array([[1.0, NAN], [2.0, NAN], [9.0, 7.0]])
    shares = LivarHead(clip=50).shares(variances, np.array([[9.0, 0], [9, 0], [9, 1]]))
    assert shares[:, 0].tolist() == [0.2, 0.4, 0.4]  # cut at 2, the median of 1, 2 and 9
    assert shares[:, 1].tolist() == [0.0, 0.0, 0.0]


VARIANCES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.one_of(st.just(NAN), st.just(0.0), st.floats(1e-300, 1e300)),
)
RULES = st.builds(
    LivarHead,
    n0=st.sampled_from([0.0, 5.0]),
    clip=st.sampled_from([None, 90.0]),
)


@given(VARIANCES, RULES, st.data())
def test_the_shares_of_a_class_that_can_be_scored_sum_to_one(
    variances: np.ndarray, rule: LivarHead, data: st.DataObject
) -> None:
    counts = data.draw(hnp.arrays(np.float64, variances.shape, elements=st.integers(0, 4)))
    assume(rule.n0 == 0 or np.nanmax(variances, initial=0.0) < 1e290)
    shares = rule.shares(variances, counts)
    known = (counts >= 2) & ~np.isnan(variances)
    scored = (known & (variances > 0)).any(axis=0)
    if rule.clip is None:
        np.testing.assert_allclose(shares.sum(axis=0), scored.astype(float), atol=1e-12)
    else:  # the percentile may be 0
        sums = shares.sum(axis=0)
        assert np.all((np.abs(sums - 1) < 1e-12) | (sums == 0))
    assert (shares[~known] == 0).all()  # absent, a single sample, or unknown
    assert (shares >= 0).all()


@given(VARIANCES, RULES, st.randoms(use_true_random=False))
def test_permuting_clients_permutes_shares_alike(
    variances: np.ndarray, rule: LivarHead, random: object
) -> None:
    counts = np.full(variances.shape, 3.0)
    order = list(range(len(variances)))
    random.shuffle(order)
    np.testing.assert_allclose(
        rule.shares(variances[order], counts[order]), rule.shares(variances, counts)[order]
    )


def test_identical_clients_and_one_client_give_the_clients_head() -> None:
    for n in (1, 3):
        updates = round_of_clients(BEFORE, [client(0.3)] * n, [said([0.7, 0.2, 1e-9])] * n)
        made, _ = LivarHead(n0=5, clip=90)(updates, fedavg(updates), SETTING, {})
        for name, values in client(0.3).items():
            assert made[name].tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"class-counts": [1, 1, 1]}, "client b: it needs 'class-variances'"),
        ({"class-variances": [1.0, 1, 1]}, "client b: it needs 'class-counts'"),
        (said([1.0, 1.0]), "client b: 'class-counts' must be a list of 3 numbers"),
        (said([1.0, 1.0], [1, 1, 1]), "client b: 'class-variances' must be a list of 3 numbers"),
        (said([1.0, -1.0, 1.0]), "client b: 'class-variances' must be finite numbers >= 0"),
        (said([1.0, np.inf, 1.0]), "client b: 'class-variances' must be finite numbers >= 0"),
    ],
)
def test_what_a_client_does_not_say_or_says_wrong_is_named(words: dict, message: str) -> None:
    updates = round_of_clients(BEFORE, [client(1), client(2)], [said([1.0, 1, 1]), words])
    with pytest.raises(RuleError, match=message):
        LivarHead()(updates, fedavg(updates), SETTING, {})


def test_bytes_of_a_numpy_client_are_read_as_numbers() -> None:
    words = said([1.0, 3.0, NAN])
    sent = {key: np.asarray(value, "<f8").tobytes() for key, value in words.items()}
    weights = [client(1), client(2)]
    made = [
        LivarHead()(u, fedavg(u), SETTING, {})[0]
        for u in (round_of_clients(BEFORE, weights, [own] * 2) for own in (words, sent))
    ]
    assert made[0]["head.weight"].tobytes() == made[1]["head.weight"].tobytes()


@pytest.mark.parametrize("options", [{"n0": -1.0}, {"n0": np.inf}, {"clip": 0.0}, {"clip": 101.0}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        LivarHead(**options)
