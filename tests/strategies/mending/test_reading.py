"""What rules are given of replies: circuits as they were said, and updates that can be used."""

from __future__ import annotations

import numpy as np
import pytest

from fedcircuit import messages
from fedcircuit.aggregation import RuleError, Said, Update, Updates
from fedcircuit.strategies.mending.reading import circuits_said, updates_of
from fedcircuit.strategies.replies import Reply

BEFORE = {"w": np.zeros((2, 3), np.float32)}
FIRST = np.array([[1, 0, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
SECOND = np.array([[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]], bool)


def said(masks: np.ndarray, found: object, units: int = 5) -> dict[str, Said]:
    packed = np.packbits(masks, axis=1).tobytes()
    return {messages.MASKS: packed, messages.MASKS_FOUND: found, messages.MASKS_UNITS: units}  # type: ignore[dict-item]


def round_of(*words: dict[str, Said]) -> Updates:
    clients = tuple(Update(str(k), 1, BEFORE, own) for k, own in enumerate(words))
    return Updates(1, BEFORE, clients)


def test_circuits_are_unpacked_and_those_not_found_are_empty() -> None:
    got = circuits_said(round_of(said(FIRST, [True, False]), said(SECOND, bytes([1, 1]))))
    assert got is not None
    assert got.dtype == np.bool_
    assert got.shape == (2, 2, 5)  # the three bits that fill the byte are no units
    assert got.astype(int).tolist() == [
        [[1, 0, 1, 0, 0], [0, 0, 0, 0, 0]],
        [[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]],
    ]


def without(key: str) -> dict[str, Said]:
    return {k: v for k, v in said(SECOND, [True, True]).items() if k != key}


WRONG = {
    "says none": {},
    "no masks": without(messages.MASKS),
    "no word of what was found": without(messages.MASKS_FOUND),
    "no number of units": without(messages.MASKS_UNITS),
    "masks are text": {**said(SECOND, [True, True]), messages.MASKS: "11"},
    "what was found is one number": said(SECOND, 3),
    "fewer than no units": said(SECOND[:, :0], [True, True], -5),
    "units are text": {**said(SECOND, [True, True]), messages.MASKS_UNITS: "5"},
    "more classes than masks": said(SECOND, [True, True, True]),
    "more units than bits": said(SECOND, [True, True], 9),
    "another number of units": said(SECOND, [True, True], 4),
    "another number of classes": said(SECOND[:1], [True]),
}


@pytest.mark.parametrize("other", list(WRONG))
def test_circuits_are_unknown_unless_all_clients_say_alike_ones(other: str) -> None:
    good = said(FIRST, [True, True])
    assert circuits_said(round_of(good, good)) is not None
    for words in ((good, WRONG[other]), (WRONG[other], good)):
        assert circuits_said(round_of(*words)) is None


def reply(client: str, n: float = 4, values: np.ndarray | None = None, **more: object) -> Reply:
    weights = {"w": np.ones((2, 3), np.float32) if values is None else values}
    return Reply(client, n, weights, extra={"a": 1}, **more)  # type: ignore[arg-type]


def test_updates_are_sorted_by_client_with_what_was_said() -> None:
    got = updates_of(3, BEFORE, [reply("10"), reply("9", 5), reply("2", 0)])
    assert got.round == 3
    assert [(u.client, u.num_examples) for u in got.clients] == [("2", 0), ("9", 5), ("10", 4)]
    assert got.clients[0].said == {"a": 1}


@pytest.mark.parametrize(
    ("replies", "words", "client"),
    [
        ([reply("1"), reply("2", float("nan"))], "client 2: needs a number of samples", "2"),
        ([reply("1"), reply("2", -1)], "client 2: needs a number of samples >= 0, got -1", "2"),
        ([reply("1", float("inf"))], "client 1: needs a number of samples", "1"),
        (
            [reply("1", values=np.ones(6))],
            r"client 1: needs 'w' of shape \(2, 3\), got \(6,\)",
            "1",
        ),
        ([Reply("1", error=("unreadable", "torn"))], "client 1: .* can be read: torn", "1"),
        (
            [reply("1", 0), reply("2", 0)],
            "needs samples behind the replies, all clients have 0",
            "",
        ),
        ([Reply("1", 3, {"v": np.ones(2)})], "client 1 replied other names", ""),
    ],
)
def test_replies_that_cannot_be_used_are_refused_by_client(
    replies: list[Reply], words: str, client: str
) -> None:
    with pytest.raises(RuleError, match=words) as caught:
        updates_of(1, BEFORE, replies)
    assert caught.value.client == client
