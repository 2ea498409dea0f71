"""Controls take the meaning out of what a rule reads, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from rule_rounds import average_of, setting, whole_round
from toy_federation import bits

from fedcircuit.aggregation import NO_STATE, Control, Rule, RuleError, Setting, State, Updates
from fedcircuit.aggregation.drift import Scaffold
from fedcircuit.aggregation.heads import CCVR, ClassCountHead, LogitOffsets, Refit
from fedcircuit.aggregation.layers import CoveredAverage
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class Reader:
    """Keeps what it was given."""

    name: ClassVar[str] = "reader"

    given: list[Setting]

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        self.given.append(setting)
        return average, {"seen": np.array([1 + int(state["seen"][0]) if state else 1])}


def given_by(kind: str, updates: Updates | None = None, known: Setting | None = None) -> Setting:
    reader = Reader([])
    one = updates or whole_round()
    Control(reader, kind)(one, average_of(one), known or setting(), NO_STATE)  # type: ignore[arg-type]
    return reader.given[0]


def without_moments(updates: Updates) -> Updates:
    """Clients that say nothing of their features, so that rules ask the probe."""
    said = [
        {key: value for key, value in update.said.items() if "moments" not in key}
        for update in updates.clients
    ]
    clients = (replace(u, said=own) for u, own in zip(updates.clients, said, strict=True))
    return replace(updates, clients=tuple(clients))


def test_permuted_circuits_keep_size_and_overlap_of_each_client_and_lose_their_units() -> None:
    own, changed = setting().masks, given_by("permuted-circuits").masks
    assert own is not None
    assert changed is not None
    assert not np.array_equal(own, changed)
    for one, other in zip(own.astype(int), changed.astype(int), strict=True):
        np.testing.assert_array_equal(one @ one.T, other @ other.T)


def test_permuted_circuits_differ_by_round_and_are_the_same_in_the_same_round() -> None:
    known = replace(setting(), masks=np.arange(15).reshape(3, 1, 5) % 5 < 2)
    rounds = [replace(whole_round(), round=number) for number in range(1, 9)]
    found = [given_by("permuted-circuits", one, known).masks for one in (*rounds, rounds[0])]
    assert np.array_equal(found[0], found[-1])  # type: ignore[arg-type]
    assert len({masks.tobytes() for masks in found if masks is not None}) > 1


def test_circuits_of_all_units_leave_the_shares_of_the_classes_alone() -> None:
    changed = given_by("all-units").masks
    assert changed is not None
    assert changed.all()


def test_permuted_labels_are_the_same_labels_on_other_samples() -> None:
    own, changed = setting().probe, given_by("permuted-labels").probe
    assert own is not None
    assert changed is not None
    assert torch.equal(own.inputs, changed.inputs)
    assert not torch.equal(own.labels, changed.labels)
    assert torch.equal(own.labels.sort().values, changed.labels.sort().values)


@pytest.mark.parametrize("kind", ["permuted-circuits", "all-units", "permuted-labels"])
def test_a_rule_that_reads_neither_is_its_own_control(kind: str) -> None:
    rule, updates = ClassCountHead(), whole_round()
    plain, _ = rule(updates, average_of(updates), setting(), NO_STATE)
    control, _ = Control(rule, kind)(updates, average_of(updates), setting(), NO_STATE)  # type: ignore[arg-type]
    assert bits(plain) == bits(control)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (CoveredAverage(lam=1.0), "permuted-circuits"),
        (CoveredAverage(lam=1.0), "all-units"),
        (CCVR(refit=Refit(per_class=20, epochs=3)), "permuted-labels"),
    ],
)
def test_a_rule_that_reads_them_gives_something_else(rule: Rule, kind: str) -> None:
    updates, given = without_moments(whole_round()), setting()
    plain, _ = rule(updates, average_of(updates), given, NO_STATE)
    control, _ = Control(rule, kind)(updates, average_of(updates), given, NO_STATE)  # type: ignore[arg-type]
    assert bits(plain) != bits(control)


def test_offsets_read_how_many_labels_there_are_and_not_whose_they_are() -> None:
    """Of cross-entropy, only ``sum_i b_{y_i}`` has both; it is one sum over the classes."""
    updates, rule = whole_round(), LogitOffsets()
    plain, _ = rule(updates, average_of(updates), setting(), NO_STATE)
    control, _ = Control(rule, "permuted-labels")(updates, average_of(updates), setting(), NO_STATE)
    for name, values in plain.items():
        np.testing.assert_allclose(values, control[name], atol=1e-5)


def test_memory_and_what_clients_are_told_pass_through() -> None:
    updates, control = whole_round(), Control(Reader([]), "permuted-labels")
    _, once = control(updates, average_of(updates), setting(), NO_STATE)
    _, twice = control(updates, average_of(updates), setting(), once)
    assert twice["seen"].tolist() == [2]
    assert control.told(NO_STATE, ["w"]) == {}
    state: Mapping[str, np.ndarray] = {"w": np.ones(2, np.float32)}
    told = Scaffold().told(state, ["w"])
    assert told
    assert Control(Scaffold(), "permuted-labels").told(state, ["w"]) == told


def test_what_has_nothing_to_permute_is_refused() -> None:
    updates, empty = whole_round(), Setting(3)
    for kind, words in (("permuted-circuits", "circuits"), ("permuted-labels", "a probe")):
        with pytest.raises(RuleError, match=words):
            Control(ClassCountHead(), kind)(updates, average_of(updates), empty, NO_STATE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="permuted-labels"):
        Control(ClassCountHead(), "labels")  # type: ignore[arg-type]
