"""Each client of a legacy round has its own reason, where Flower lets it be known."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Context
from flwr.client import Client
from flwr.common import Code, FitRes, Parameters, Status
from observing_helpers import last_record
from test_legacy import Proxy, make, run, sparse

from fedcircuit.strategies.legacy_api.failures import LOST, reasons_of
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.recording.options import RecorderOptions


def failing_in_turn(context: Context) -> Client:
    partition = int(context.node_config["partition-id"])
    if partition in (1, 2):
        raise RuntimeError(f"boom {partition}")
    return sparse(context)


def test_every_client_has_the_reason_that_is_its_own(tmp_path: Any) -> None:
    strategy = observe(
        make("FedAvg"), run_dir=tmp_path / "run", options=RecorderOptions(strict=True)
    )
    run(strategy, failing_in_turn)
    found = {failure.client: failure.reason for failure in last_record(strategy).failures}
    assert found == {"1": "RuntimeError: boom 1", "2": "RuntimeError: boom 2"}


def bad_status(node: int, words: str) -> tuple[Proxy, FitRes]:
    status = Status(Code.FIT_NOT_IMPLEMENTED, words)
    return Proxy(node), FitRes(status, Parameters([], ""), 0, {})


def test_a_result_with_a_bad_status_is_that_of_its_client() -> None:
    reasons = reasons_of([bad_status(3, "no fit"), bad_status(5, "no time")])
    assert [reasons.of(cid) for cid in ("3", "5", "7")] == [
        ("error", "no fit"), ("error", "no time"), LOST,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (["a"], "a"),
        (["a", "a"], "a"),
        (["a", "b"], "one of these, Flower does not say which: a | b"),
    ],
)
def test_errors_of_nobody_known_are_told_as_such(errors: list[str], expected: str) -> None:
    failures = [*map(RuntimeError, errors), bad_status(3, "no fit")]
    reasons = reasons_of(failures)
    assert reasons.of("7") == ("error", expected)
    assert reasons.of("3") == ("error", "no fit")
