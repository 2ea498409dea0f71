"""The laws of aggregation rules: every rule is one line in a list, every exemption has a reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from rule_rounds import alike, average_of, locked, setting, whole_round
from toy_federation import N_CLASSES, bits

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, Rule, RuleError, Setting, Update, Updates
from fedcircuit.aggregation.drift import FedDyn, FedNova, Scaffold
from fedcircuit.aggregation.heads import (
    CCVR,
    CircuitCalibration,
    ClassCountHead,
    LivarHead,
    LogitOffsets,
    Refit,
)
from fedcircuit.aggregation.layers import (
    ConflictProjection,
    CoveredAverage,
    Fisher,
    LivarLayers,
    Ties,
    WeightMatching,
)
from fedcircuit.aggregation.named import NEEDS, RULE_NAMES
from fedcircuit.learning import Weights

REFITS = "it fits the head anew, also to clients that agree"
FITS = "it fits the biases to the probe, also of clients that agree"
NOT_BETWEEN_FIT = "fitted numbers lie where the fit puts them"
EXTRAPOLATES = "it goes on in the direction of the clients"


@dataclass(frozen=True)
class Case:
    """A rule, and by law the reason why it does not hold for it."""

    rule: Rule
    exempt: dict[str, str] = field(default_factory=dict)


QUICK = Refit(per_class=20, epochs=3)
CASES = [
    Case(ClassCountHead()),
    Case(LivarHead(), {"identity": "a class that no client can score keeps the row of before"}),
    Case(LivarLayers()),
    Case(CCVR(refit=QUICK), {"identity": REFITS, "between": NOT_BETWEEN_FIT}),
    Case(LogitOffsets(), {"identity": FITS, "between": NOT_BETWEEN_FIT}),
    Case(
        CircuitCalibration(rho=0.5, refit=QUICK), {"identity": REFITS, "between": NOT_BETWEEN_FIT}
    ),
    Case(Fisher()),
    Case(Ties(keep=1.0), {"between": "an entry without a majority stays where it was before"}),
    Case(WeightMatching(), {"between": "units are matched before they are averaged"}),
    Case(CoveredAverage(lam=0.5)),
    Case(ConflictProjection(), {"between": "what is projected away was between the clients"}),
    Case(FedNova(), {"between": EXTRAPOLATES}),
    Case(FedDyn(alpha=0.5), {"identity": "it steps against the drift", "between": EXTRAPOLATES}),
    Case(Scaffold(), {}),
]
every_rule = pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule.name)


def holding(law: str) -> pytest.MarkDecorator:
    """The rules that promise a law."""
    kept = [case for case in CASES if law not in case.exempt]
    return pytest.mark.parametrize("case", kept, ids=lambda case: case.rule.name)


def apply(rule: Rule, updates: Updates, given: Setting | None = None) -> Weights:
    return rule(updates, average_of(updates), given or setting(), NO_STATE)[0]


def test_every_named_rule_is_in_the_list_and_says_what_it_needs() -> None:
    assert [case.rule.name for case in CASES] == list(RULE_NAMES) == list(NEEDS)


@every_rule
def test_the_example_is_one_that_the_rule_changes(case: Case) -> None:
    """Laws about a rule that does nothing would hold of themselves."""
    updates = whole_round()
    idle = case.rule.name == "scaffold"  # its state changes
    same = bits(apply(case.rule, updates)) == bits(average_of(updates))
    assert same is idle


@holding("identity")
@pytest.mark.parametrize("n", [1, 3])
def test_clients_that_agree_are_left_as_they_are(case: Case, n: int) -> None:
    updates = alike(whole_round(), n)
    masks = setting().masks
    assert masks is not None
    given = replace(setting(), masks=np.repeat(masks[:1], n, axis=0))
    got = apply(case.rule, updates, given)
    for name, values in updates.clients[0].weights.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6)


@every_rule
def test_the_order_of_clients_does_not_matter(case: Case) -> None:
    updates, given = whole_round(), setting()
    assert given.masks is not None
    order = [2, 0, 1]
    other = replace(updates, clients=tuple(updates.clients[k] for k in order))
    got = apply(case.rule, other, replace(given, masks=given.masks[order]))
    for name, values in apply(case.rule, updates, given).items():
        np.testing.assert_allclose(got[name], values, rtol=1e-4, atol=1e-5)


@holding("between")
def test_the_result_lies_between_the_clients(case: Case) -> None:
    updates = whole_round()
    for name, values in apply(case.rule, updates).items():
        theirs = np.stack([update.weights[name] for update in updates.clients])
        assert (values >= theirs.min(0) - 1e-6).all(), name
        assert (values <= theirs.max(0) + 1e-6).all(), name


@every_rule
def test_empty_circuits_and_an_absent_class_give_no_nan(case: Case) -> None:
    updates, given = whole_round(), setting()
    clients = []
    for update in updates.clients:
        said = dict(update.said)
        said[messages.CLASS_COUNTS] = [5, 5, 0]
        n_sums = np.zeros((N_CLASSES, 5))
        said[messages.MOMENTS_COUNT] = [1, 1, 0]
        said[messages.MOMENTS_SUM] = n_sums.tobytes()
        said[messages.MOMENTS_OUTER] = np.zeros((N_CLASSES, 5, 5)).tobytes()
        said[messages.FISHER] = bytes(len(said[messages.FISHER]))  # type: ignore[arg-type]
        clients.append(replace(update, said=said))
    assert given.masks is not None
    assert given.probe is not None
    probe = given.probe.take(given.probe.labels != 2)
    odd = replace(given, masks=np.zeros_like(given.masks), probe=probe)
    got = apply(case.rule, replace(updates, clients=tuple(clients)), odd)
    assert all(np.isfinite(values).all() for values in got.values())


@every_rule
def test_names_dtypes_and_integers_are_those_of_the_average(case: Case) -> None:
    updates = whole_round()
    average = average_of(updates)
    got = case.rule(updates, average, setting(), NO_STATE)[0]
    assert list(got) == list(average)
    for name, values in average.items():
        assert got[name].dtype == values.dtype
        assert got[name].shape == values.shape
        if values.dtype.kind != "f":
            assert got[name].tobytes() == values.tobytes()


@every_rule
def test_integers_that_were_averaged_as_floats_are_not_taken_for_weights(case: Case) -> None:
    """From the second round on Flower sends the count of batches as float64."""
    updates = whole_round()
    name = "1.num_batches_tracked"
    sent = {**updates.before, name: np.array(7.25)}
    average = {**average_of(updates), name: np.array(8.5)}
    got = case.rule(replace(updates, before=sent), average, setting(), NO_STATE)[0]
    assert got[name] == 8.5
    without_model = replace(setting(), model=None)
    if not {"model", "probe"} & set(NEEDS[case.rule.name]):
        again = case.rule(replace(updates, before=sent), average, without_model, NO_STATE)[0]
        assert again[name] == 8.5


@every_rule
def test_nothing_given_is_changed_and_a_second_call_gives_the_same_bits(case: Case) -> None:
    updates, given = whole_round(), setting()  # its arrays refuse to be written to
    assert given.model is not None
    model = {name: value.clone() for name, value in given.model.state_dict().items()}
    first, state = case.rule(updates, average_of(updates), given, NO_STATE)
    again, same = case.rule(updates, average_of(updates), given, NO_STATE)
    assert bits(first) == bits(again)
    assert bits(state) == bits(same)
    assert all(value.equal(model[name]) for name, value in given.model.state_dict().items())
    assert given.model.training
    assert all(module._forward_hooks == {} for module in given.model.modules())


@every_rule
def test_the_state_is_arrays_and_is_taken_back(case: Case) -> None:
    updates = whole_round()
    average = average_of(updates)
    _, state = case.rule(updates, average, setting(), NO_STATE)
    assert all(isinstance(values, np.ndarray) for values in state.values())
    stored = {name: np.array(values) for name, values in sorted(state.items())}
    later = replace(updates, round=2)
    one, ones = case.rule(later, average, setting(), state)
    other, others = case.rule(later, average, setting(), stored)
    assert bits(one) == bits(other)
    assert bits(ones) == {name: bits(others)[name] for name in ones}


@pytest.mark.parametrize(
    ("case", "need"),
    [
        pytest.param(case, need, id=f"{case.rule.name}-{need}")
        for case in CASES
        for need in NEEDS[case.rule.name]
    ],
)
def test_a_need_that_is_not_met_is_named_with_rule_and_client(case: Case, need: str) -> None:
    updates, given = whole_round(), setting()
    clients = list(updates.clients)
    said_by = ""
    for one in need.split("|"):
        if hasattr(given, one):
            given = replace(given, **{one: None})
            continue
        who = range(3) if "|" in need else [1]
        said_by = "" if "|" in need else clients[1].client
        for k in who:
            said = {key: value for key, value in clients[k].said.items() if key != one}
            clients[k] = replace(clients[k], said=said)
    with pytest.raises(RuleError, match=f"rule '{case.rule.name}' cannot be used") as caught:
        apply(case.rule, replace(updates, clients=tuple(clients)), given)
    assert caught.value.rule == case.rule.name
    assert caught.value.client == said_by


def test_replies_with_other_names_are_refused_and_the_name_is_said() -> None:
    first = whole_round().clients[0]
    odd = Update("z", 3, {**first.weights, "4.weight": np.zeros(2)})
    with pytest.raises(ValueError, match=r"client z .*'4\.weight'"):
        Updates(1, whole_round().before, (first, odd))


OF_THE_HEAD = [case for case in CASES if ".heads." in type(case.rule).__module__]


@pytest.mark.parametrize("case", OF_THE_HEAD, ids=lambda case: case.rule.name)
def test_rules_of_the_head_leave_the_body_alone(case: Case) -> None:
    updates = whole_round()
    average, got = bits(average_of(updates)), bits(apply(case.rule, updates))
    changed = {name for name in average if average[name] != got[name]}
    assert changed
    assert changed <= {"3.weight", "3.bias"}


@pytest.mark.parametrize(
    "rule", [CoveredAverage(), CoveredAverage(lam=0.0, eps=3.0), ConflictProjection()]
)
def test_rules_of_ours_are_the_average_bit_for_bit_where_they_are_off(rule: Rule) -> None:
    updates = whole_round()
    if rule.name == "conflict-projection":  # clients that move alike, but unequally far
        before, first = updates.before, updates.clients[0].weights
        clients = tuple(
            replace(update, weights={
                name: (before[name] + (k + 1) * (first[name] - before[name])).astype(values.dtype)
                for name, values in before.items()
            })
            for k, update in enumerate(updates.clients)
        )  # fmt: skip
        updates = locked(replace(updates, clients=clients))
    assert bits(apply(rule, updates)) == bits(average_of(updates))
