"""A round in a line tells replies that are set aside from what failed of the round itself."""

from __future__ import annotations

import numpy as np

from fedcircuit.app.study import round_line
from fedcircuit.records.rounds import GLOBAL, Failure, RoundRecord


def test_the_global_model_is_not_said_to_be_set_aside() -> None:
    failures = (Failure("3", "lost", "no reply in time"), Failure(GLOBAL, "metrics", "no majority"))
    record = RoundRecord(2, {"w": np.zeros(1)}, failures=failures, seconds={"train": 1.5})
    assert round_line(record, 5) == "round 2/5  set aside: 3 (lost)  global model: metrics  1.5 s"
