from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_sweeps import study_file

from fedcircuit.app.config import ConfigError
from fedcircuit.app.sweeps.arms import parse_arms, parse_seeds, split_changes


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("9, 0-1,3", (0, 1, 3, 9)), ("5-5", (5,))],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "4-0", "-1", "1,,2", "0-", "1.5", "0-99999", "１", "0;1", "1" * 30]
)
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--seeds expects numbers and ranges such as 0-4"):
        parse_seeds(text)


def test_a_seed_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="names seed 3 twice"):
        parse_seeds("0-4,3")


@given(st.sets(st.integers(0, 200), min_size=1))
def test_a_list_of_seeds_comes_back_sorted(seeds: set[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == tuple(sorted(seeds))


def test_changes_are_cut_at_keys_and_not_inside_values() -> None:
    text = "a.b=1, partition.classes=[[0, 1], [2]],lips={d0: 0.5, e=f: 1},name='x,y=z',u=1,2"

    assert split_changes(text) == [
        "a.b=1",
        "partition.classes=[[0, 1], [2]]",
        "lips={d0: 0.5, e=f: 1}",
        "name='x,y=z'",
        "u=1,2",
    ]


def test_an_arm_is_the_study_a_file_or_changes(tmp_path: Path) -> None:
    study = study_file(tmp_path)
    other = tmp_path / "a=b.yaml"
    other.write_text("name: other\ntraining: {rounds: 7}\n", encoding="utf-8")

    arms = parse_arms(
        study,
        ["plain=", f"file={other}", "set=training.lr=0.5,strategy.lips={d0: 0.3, period: 2}"],
        ["training.batch_size=8", "training.lr=0.4"],
    )

    assert list(arms) == ["plain", "file", "set"]
    assert (arms["plain"].training.rounds, arms["plain"].training.lr) == (3, 0.4)
    assert (arms["file"].training.rounds, arms["file"].training.batch_size) == (7, 8)
    lips = arms["set"].strategy.lips
    assert lips is not None
    assert (lips.d0, lips.period, arms["set"].training.lr) == (0.3, 2, 0.5)  # its own come last


def test_without_arms_the_study_is_the_only_one(tmp_path: Path) -> None:
    assert list(parse_arms(study_file(tmp_path))) == ["tiny"]


@pytest.mark.parametrize("arm", ["noequals", "=training.lr=1", "a/b=", "..=", ".x=", "sweep=", ""])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, arm: str) -> None:
    with pytest.raises(ConfigError, match=r"--arm expects NAME=FILE.yaml or NAME=key=value"):
        parse_arms(study_file(tmp_path), [arm])


def test_two_arms_of_one_name_are_refused_whatever_their_case(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"two arms are called 'a' and 'A'"):
        parse_arms(study_file(tmp_path), ["a=", "A="])


def test_an_unknown_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)arm 'x':.*training.momentun.*'momentum'"):
        parse_arms(study_file(tmp_path), ["x=training.momentun=0.9"])


def test_a_missing_file_and_what_is_neither_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"arm 'x': cannot read the study .*gone.yaml"):
        parse_arms(study_file(tmp_path), [f"x={tmp_path / 'gone.yaml'}"])
    with pytest.raises(ConfigError, match=r"arm 'x' is neither a study's file .*: 'fedprox'"):
        parse_arms(study_file(tmp_path), ["x=fedprox"])


def test_an_arm_cannot_set_the_seed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"arm 'x' sets seed.*--seeds 0-4"):
        parse_arms(study_file(tmp_path), ["x=training.lr=1,seed=3"])
