"""Spoilt studies and options: one short error before any data are read, never a traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedcircuit.app.config.files import ConfigError, load_study, parse_study
from fedcircuit.app.config.strategy import StrategyConfig
from fedcircuit.app.config.strategy_options import check_options

sys.path.insert(0, str(Path(__file__).parents[3] / "experiments" / "reliability"))
from config_fuzz import fuzz

TEXTS = {
    "deep": ("[" * 20_000 + "]" * 20_000, "nested too deeply"),
    "a key twice": ("seed: 1\nname: x\nseed: 2\n", r"line 3: the key 'seed' stands there twice"),
    "a key that is a list": (
        "? [1]\n: 2\n",
        "line 1: a key must be a text",
    ),
    "a tab": ("a:\n\tb: 1\n", "line 2, column 1"),
    "a list": ("- 1\n", "must hold keys and values, it holds a list"),
    "a python object": ("a: !!python/object:os.system x\n", "could not determine a constructor"),
    "a very long value": ("name: " + "x" * 500_000, r"name: .*\.\.\."),
    "a very long key": ("k" * 100_000 + ": 1", "unknown key|line 1, column"),
    "far too long": ("#" * 2_000_000, "has 2,000,000 characters"),
    "ten thousand digits": ("seed: " + "9" * 10_000, "seed|digits"),
    "a wrong date": ("name: 2026-13-45\n", "month must be in"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_spoilt_file_is_refused_in_a_short_message(name: str, tmp_path: Path) -> None:
    text, words = TEXTS[name]
    (tmp_path / "s.yaml").write_text(text)

    with pytest.raises(ConfigError, match=words) as raised:
        load_study(tmp_path / "s.yaml")

    assert len(str(raised.value)) < 1000


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ConfigError, match="no text in UTF-8"):
        load_study(tmp_path / "s.yaml")


def test_many_problems_are_counted() -> None:
    with pytest.raises(ConfigError, match="and 7 more") as raised:
        parse_study({f"x{i}": i for i in range(10)})
    assert len(str(raised.value)) < 1000


OPTIONS = [
    ("fedadam", {"etta": 0.1}, "FedAdam has no option 'etta'; did you mean 'eta'"),
    ("fedadam", {"eta": "0.1"}, "eta must be of type float, got '0.1'"),
    ("fedadam", {"eta": True}, "eta must be of type float, got True"),
    ("fedadam", {"eta": float("nan")}, "eta must be a finite number, got nan"),
    ("fedadam", {"eta": 10**400}, "eta must be a finite number, got"),
    ("fedavg", {"min_train_nodes": 2.5}, "min_train_nodes must be of type int, got 2.5"),
    ("fedavg", {"min_train_nodes": -1}, r"min_train_nodes must lie in 0\.\."),
    ("fedavg", {"fraction_evaluate": 2}, r"fraction_evaluate must lie in 0\.\.1, got 2"),
    ("fedavg", {"fraction_train": 0.5}, "fraction_train is set by strategy.fraction_train"),
    ("fedavg", {"train_metrics_aggr_fn": "f"}, "takes a function, which a study cannot hold"),
    ("fedavg", {"zzz": 1}, "FedAvg has no option 'zzz'; it takes fraction_train"),
    ("qfedavg", {}, "QFedAvg needs client_learning_rate"),
    ("fedavg", {"x" * 9_000: 1}, "FedAvg has no option 'xxx"),
]


@pytest.mark.parametrize(("name", "options", "words"), OPTIONS)
def test_an_option_that_flowers_class_does_not_take_is_refused(
    name: str, options: dict[str, object], words: str
) -> None:
    config = StrategyConfig.model_validate({"name": name, "options": options})
    with pytest.raises(ConfigError, match=words) as raised:
        check_options(config)
    assert len(str(raised.value)) < 1000


def test_options_that_flowers_class_takes_pass() -> None:
    for name, options in (("fedadam", {"eta": 1}), ("krum", {"num_malicious_nodes": 1})):
        check_options(StrategyConfig.model_validate({"name": name, "options": options}))


def test_spoilt_studies_never_end_in_a_traceback() -> None:
    tally = fuzz(60, seed=7)

    assert sum(tally.values()) == 60
    assert set(tally) <= {"accepted", "refused in words"}
