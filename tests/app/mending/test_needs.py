"""What a rule lacks is told with how it comes to be recorded."""

from __future__ import annotations

import numpy as np
import pytest

from fedcircuit.aggregation import Update, Updates
from fedcircuit.aggregation.named import NEEDS
from fedcircuit.app.mending.needs import in_words

WEIGHTS = {"w": np.zeros(1, np.float32)}
UPDATES = Updates(1, WEIGHTS, (Update("0", 1, WEIGHTS, {"fisher": b""}), Update("1", 1, WEIGHTS)))
EVERY = sorted({part for needs in NEEDS.values() for need in needs for part in need.split("|")})


@pytest.mark.parametrize("need", EVERY)
def test_every_need_of_every_rule_has_words_and_a_way_to_be_met(need: str) -> None:
    told = in_words([need], UPDATES)
    what, _, how = told.partition(": ")
    assert what.startswith("needs ")
    assert "-" not in what  # words, not the key
    assert any(word in how for word in ("give ", "circuits.enabled", "our clients"))


def test_either_of_two_is_told_as_such_and_nothing_twice() -> None:
    told = in_words(["model|moments-sum", "probe|moments-sum", "path-layers", "path-importance"],
                    UPDATES)  # fmt: skip
    moments = "class moments of every client: our clients send it with training.class_moments: true"
    assert told == (
        f"needs the model: give model or {moments}; a probe: give probe or {moments}; path "
        "importance of every client: our clients send it with training.path_importance: true"
    )


def test_who_alone_has_not_sent_it_is_named() -> None:
    assert in_words(["fisher"], UPDATES) == (
        "needs Fisher information of every client, which 1 did not send: our clients send it with "
        "training.fisher: true"
    )
