"""Rules of a study around its strategy: named in YAML, refused early, resumed bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcircuit.app.config.files import ConfigError, parse_study
from fedcircuit.app.study.federation import resume_run, run_study
from fedcircuit.records.runs.run import Run

Raw = dict[str, Any]


def study(rules: list[Any], rounds: int = 3, **training: Any) -> Raw:
    return {
        "data": {"train_limit": 300, "test_limit": 200},
        "partition": {"kind": "classes", "classes": [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]},
        "model": {"name": "mlp", "widths": [8]},
        "training": {"rounds": rounds, "epochs": 2, "batch_size": 20, "momentum": 0.5, **training},
        "strategy": {"rules": rules},
        "circuits": {"enabled": False, "probe_per_class": 6},
        "inertia": {"enabled": False},
    }


def run_of(path: Path, raw: Raw) -> Run:
    return Run.load(run_study(parse_study(raw), path))


def bits(run: Run, number: int) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in run.weights(number).items()}


def test_the_recorded_average_is_the_mended_one(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", study(["class-count-head"], rounds=1))
    record = run.record(1)
    names = sorted(client.client for client in record.clients)
    rows = {name: run.client_weights(1, name)["3.weight"] for name in names}
    counts = {client.client: client.extra["class-counts"] for client in record.clients}
    for label in range(10):
        held = np.array([counts[name][label] for name in names], dtype=np.float64)
        expected = sum(
            share * rows[name][label].astype(np.float64)
            for share, name in zip(held / held.sum(), names, strict=True)
        )
        assert run.weights(1)["3.weight"][label] == pytest.approx(expected, abs=1e-6)
    assert record.failures == ()


def test_without_rules_nothing_is_wrapped_and_nothing_changes(tmp_path: Path) -> None:
    plain, empty = study([]), study([])
    del plain["strategy"]
    one, other = run_of(tmp_path / "plain", plain), run_of(tmp_path / "empty", empty)
    assert bits(one, 3) == bits(other, 3)


def test_a_rule_of_the_last_round_leaves_all_others_as_they_were(tmp_path: Path) -> None:
    last = {"name": "ccvr", "last_only": True}
    plain, mended = run_of(tmp_path / "plain", study([])), run_of(tmp_path / "last", study([last]))
    assert bits(plain, 2) == bits(mended, 2)
    changed = {name for name, value in bits(mended, 3).items() if value != bits(plain, 3)[name]}
    assert changed == {"3.weight", "3.bias"}


def test_every_nth_round_is_mended_and_a_second_wrapper_follows_the_first(tmp_path: Path) -> None:
    rules = [{"name": "class-count-head", "every": 2}, {"name": "logit-offsets", "last_only": True}]
    plain, mended = run_of(tmp_path / "plain", study([])), run_of(tmp_path / "two", study(rules))
    once = run_of(tmp_path / "once", study(rules[:1]))
    assert bits(plain, 1) == bits(mended, 1)
    assert bits(plain, 2) != bits(mended, 2)
    assert bits(once, 2) == bits(mended, 2)
    changed = {name for name, value in bits(mended, 3).items() if value != bits(once, 3)[name]}
    assert changed == {"3.bias"}


@pytest.mark.parametrize(
    "rules",
    [
        [{"name": "ccvr", "last_only": True}],
        ["ties", {"name": "logit-offsets", "every": 2}],
        ["livar-head", {"name": "ccvr", "last_only": True}],
        ["scaffold", "logit-offsets"],
    ],
)
def test_a_resumed_study_is_mended_as_an_undisturbed_one(tmp_path: Path, rules: list[Any]) -> None:
    raw = study(rules, rounds=3, feature_variance={}, scaffold=True)
    whole = run_of(tmp_path / "whole", raw)

    def stop(record: Any) -> None:
        if record.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(parse_study(raw), tmp_path / "stopped", on_round=stop)
    resumed = Run.load(resume_run(tmp_path / "stopped"))
    assert resumed.rounds == whole.rounds
    assert [bits(resumed, number) for number in (2, 3)] == [bits(whole, n) for n in (2, 3)]


def test_a_rule_can_stand_as_its_own_control(tmp_path: Path) -> None:
    rule = {"name": "ccvr", "last_only": True}
    runs = [
        run_of(tmp_path / name, study([{**rule, "control": control}], rounds=1))
        for name, control in (("own", None), ("control", "permuted-labels"))
    ]
    assert bits(runs[0], 1)["3.weight"] != bits(runs[1], 1)["3.weight"]
    assert bits(runs[0], 1)["1.weight"] == bits(runs[1], 1)["1.weight"]


def test_rules_go_inside_masked_downloads(tmp_path: Path) -> None:
    raw = study(["class-count-head"])
    raw["model"]["widths"] = [8, 8]
    raw["strategy"]["lips"] = {"period": 2, "d0": 0.5}
    run = run_of(tmp_path / "run", raw)
    assert [run.record(number).failures for number in (1, 2, 3)] == [(), (), ()]
    alone = {**raw, "strategy": {"lips": raw["strategy"]["lips"]}}
    assert bits(run_of(tmp_path / "alone", alone), 1) != bits(run, 1)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["ccrv"], "strategy.rules.0: unknown rule 'ccrv'; did you mean 'ccvr'"),
        ([{"name": "ties", "options": {"keap": 0.5}}], "no option 'keap'"),
        ([{"name": "covered-average", "options": {"lam": "much"}}], "strategy.rules.0"),
        ([{"name": "ccvr", "every": 0}], "strategy.rules.0.every"),
        ([{"name": "ccvr", "control": "labels"}], "'permuted-labels'"),
        ([{"name": "ties", "control": "all-units"}], "belongs to rules that read circuits"),
        ([{"name": "ties", "control": "permuted-labels"}], "rules that read a probe, 'ties' does"),
        ([{"name": "ccvr", "every": 2, "last_only": True}], "exclude each other"),
        ([{"nam": "ccvr"}], "strategy.rules.0.nam: unknown key; did you mean 'name'?"),
        (["livar-head"], "livar-head needs what clients say with training.feature_variance: {}"),
        (["livar-layers"], "livar-layers needs what clients say with training.path_importance"),
        (["fisher"], "fisher needs what clients say with training.fisher: true"),
        (["feddyn"], "feddyn needs what clients say with training.feddyn_alpha: 0.01"),
        (["fedavg", "scaffold"], "unknown rule 'fedavg'"),
        (["ties", "scaffold"], "scaffold needs what clients say with training.scaffold: true"),
        (["conflict-projection"], "circuits.discover_on: clients"),
        (
            [{"name": "covered-average", "control": "permuted-circuits"}],
            "covered-average as permuted-circuits needs what clients say with circuits.discover_on",
        ),
        (
            [{"name": "conflict-projection", "control": "all-units"}],
            "conflict-projection as all-units needs what clients say",
        ),
        ("ccvr", "strategy.rules"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_before_anything_runs(rules: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_study(study(rules))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "said"), [([], True), (["ties"], True), (["ties", "scaffold"], False)]
)
def test_half_of_scaffold_is_said_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rules: list[str], said: bool
) -> None:
    run_study(parse_study(study(rules, rounds=1, scaffold=True)), tmp_path / "run")
    assert ("clients train for the rule scaffold" in caplog.text) is said
