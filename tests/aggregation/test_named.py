"""Rules by name, and what a round lacks for each."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from rule_rounds import setting, whole_round

from fedcircuit import messages
from fedcircuit.aggregation import COMES_WITH, Setting
from fedcircuit.aggregation.heads import CCVR, Refit
from fedcircuit.aggregation.named import NEEDS, RULE_NAMES, lacking, rule
from fedcircuit.learning.training import LocalTraining


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_name_makes_the_rule_that_has_it(name: str) -> None:
    assert rule(name).name == name


def test_options_are_the_fields_and_those_of_the_fit_may_be_plain() -> None:
    assert rule("ccvr", every=5, refit={"lr": 0.1}) == CCVR(every=5, refit=Refit(lr=0.1))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ccrv", {}, "did you mean 'ccvr'"),
        ("xyz", {}, "known: class-count-head"),
        ("fisher", {"dampin": 1.0}, "has no option 'dampin'; did you mean 'damping'"),
        ("class-count-head", {"a": 1}, "known: none"),
        ("ccvr", {"refit": {"epoch": 3}}, "refit of rule 'ccvr' has no option 'epoch'"),
        ("ties", {"keep": "1e-1"}, "rule 'ties' expects a number for 'keep', got the text '1e-1'"),
        ("ccvr", {"refit": {"lr": "1e-1"}}, "refit of rule 'ccvr' expects a number for 'lr'"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_known(
    name: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        rule(name, **options)


def test_every_key_that_rules_need_is_said_with_the_option_that_sends_it() -> None:
    always = {messages.LOCAL_STEPS}
    keys = {
        one
        for needs in NEEDS.values()
        for need in needs
        for one in need.split("|")
        if not hasattr(Setting(), one)
    }
    assert keys - always <= set(COMES_WITH)
    options = {field.name for field in fields(LocalTraining)}
    for option in COMES_WITH.values():
        assert option.startswith("client_app(") or option[9:].partition(":")[0] in options


def test_what_a_round_lacks_is_said_for_each_rule() -> None:
    updates = whole_round()
    assert [name for name in RULE_NAMES if lacking(name, updates, setting())] == []
    silent = replace(updates, clients=tuple(replace(u, said={}) for u in updates.clients))
    found = {name: lacking(name, silent, Setting(n_classes=3)) for name in RULE_NAMES}
    assert found["ties"] == ()
    assert found["class-count-head"] == (messages.CLASS_COUNTS,)
    assert found["ccvr"] == ("model|moments-sum", "probe|moments-sum")
    assert found["covered-average"] == ("model", "masks", messages.CLASS_COUNTS)
    assert set(found) == set(NEEDS)
