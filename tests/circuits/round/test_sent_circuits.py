import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcircuit import messages
from fedcircuit.circuits.checks.validity import Status, Validity
from fedcircuit.circuits.round.sent_circuits import from_message, to_message

CHECKED = (
    Validity(Status.VALID, "", size=3, full_recall=0.9, recall=0.8, constant=False),
    Validity(Status.ABSENT, "no sample"),
)
MASKS = torch.tensor([[1, 0, 1, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0]]) > 0
FOUND = torch.tensor([True, False])


def entries(**changes: object) -> dict[str, object]:
    return {**to_message(MASKS, FOUND, CHECKED), **changes}


def read(message: dict[str, object]):
    return from_message(message, n_classes=2, n_units=9)


def test_a_message_is_made_of_packed_bits_and_plain_values() -> None:
    message = to_message(MASKS, FOUND)
    assert message == {
        messages.MASKS: bytes([0b10110000, 0b10000000, 0, 0]),
        messages.MASKS_FOUND: [True, False],
        messages.MASKS_UNITS: 9,
    }
    assert read(message).validity is None


@given(st.integers(1, 5), st.integers(1, 20), st.integers(0, 10**6))
def test_circuits_come_back_as_they_were_sent(n_classes, n_units, seed) -> None:
    random = torch.Generator().manual_seed(seed)
    found = torch.rand(n_classes, generator=random) < 0.7
    masks = (torch.rand(n_classes, n_units, generator=random) < 0.5) & found[:, None]
    sent = from_message(to_message(masks, found), n_classes=n_classes, n_units=n_units)
    assert torch.equal(sent.masks, masks)
    assert torch.equal(sent.found, found)


def test_checks_come_back_with_what_is_undefined() -> None:
    first, second = read(entries()).validity
    assert (first.status, first.size, first.full_recall, first.recall) == ("valid", 3, 0.9, 0.8)
    assert isinstance(first.status, Status)
    assert first.constant is False
    assert math.isnan(first.fpr)
    assert replace(second, reason="") == replace(second, reason="", size=None)
    assert (second.status, second.reason, second.size, second.constant) == (
        "absent",
        "no sample",
        None,
        None,
    )
    assert math.isnan(second.recall)
    assert "NaN" not in entries()[messages.VALIDITY]


def test_a_mask_of_a_circuit_that_was_not_found_means_nothing() -> None:
    sent = read(to_message(torch.ones_like(MASKS), FOUND))
    assert sent.masks.sum(1).tolist() == [9, 0]


def test_a_client_without_circuits_sent_none() -> None:
    assert read({messages.PARTITION_ID: 3}) is None


def changed(**fields: object) -> str:
    row = json.loads(entries()[messages.VALIDITY])[0]
    return json.dumps([{**row, **fields}, {**row}])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (messages.MASKS_UNITS, 8, "sent for 8 units, the model has 9"),
        (messages.MASKS_FOUND, [True], "must list 2 classes"),
        (messages.MASKS_FOUND, 1, "must list 2 classes"),
        (messages.MASKS, b"123", "must hold 4 bytes, got 3"),
        (messages.MASKS, "1234", "must hold 4 bytes, got str"),
        (messages.VALIDITY, "[", "is not JSON"),
        (messages.VALIDITY, 5, "must be a JSON list of 2 objects"),
        (messages.VALIDITY, "[]", "must be a JSON list of 2 objects"),
        (messages.VALIDITY, "[1, 2]", "an object with fields of Validity"),
        (messages.VALIDITY, changed(wrong=1), "an object with fields of Validity"),
        (messages.VALIDITY, changed(status="great"), "status must be one of"),
        (messages.VALIDITY, changed(status=["valid"]), "status must be one of"),
        (messages.VALIDITY, changed(recall="high"), "recall .* must be int or float, got 'high'"),
        (messages.VALIDITY, changed(size=1.5), "size .* must be int, got 1.5"),
        (messages.VALIDITY, changed(constant=1), "constant .* must be bool, got 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(key, value, message) -> None:
    with pytest.raises(ValueError, match=message):
        read(entries(**{key: value}))
