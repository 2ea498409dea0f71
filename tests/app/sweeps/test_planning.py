import copy
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_sweeps import ARMS, tiny_sweep

from fedcircuit.app.config import ConfigError
from fedcircuit.app.sweeps.planning import changes
from fedcircuit.records.files import RunError
from fedcircuit.records.sweeps import read_sweep, write_sweep


def on_disk(folder: Path, *arms: str, seeds: tuple[int, ...] = (0, 1)) -> None:
    sweep = tiny_sweep(folder, *arms, seeds=seeds)
    sweep.path.mkdir()
    write_sweep(sweep)


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("partition", "partition.alpha=0.1", r"partition.alpha \(0.5, 0.1\).*who holds what"),
        ("data", "data.train_limit=200", r"data.train_limit \(240, 200\).*the data"),
        ("model", "model.widths=[8]", r"model.widths \(\[12\], \[8\]\).*the initial weights"),
        (
            "circuits.probe_per_class",
            "circuits.probe_per_class=6",
            r"probe_per_class \(8, 6\).*the test samples",
        ),
        (
            "strategy.fraction_train",
            "strategy.fraction_train=1.0",
            r"fraction_train \(0.5, 1.0\).*who trains in a round",
        ),
    ],
)
def test_arms_whose_runs_would_not_be_paired_are_refused_unless_said(
    tmp_path: Path, key: str, change: str, said: str
) -> None:
    arms = ("a=", "b=training.lr=0.3", f"c={change}")

    with pytest.raises(ConfigError, match=rf"arms 'a' and 'c' differ in .*{said}.*--unpaired"):
        tiny_sweep(tmp_path, *arms)
    allowed = tiny_sweep(tmp_path, *arms, unpaired=True)

    assert allowed.unpaired == (key,)
    assert tiny_sweep(tmp_path, *arms[:2], unpaired=True).unpaired == ()


def test_nothing_is_written_by_a_plan(tmp_path: Path) -> None:
    tiny_sweep(tmp_path)

    assert not (tmp_path / "sweep").exists()


def test_what_does_not_fit_its_data_is_refused_with_the_arm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"arm 'b': strategy.options: .*no option 'etta'.*'eta'"):
        tiny_sweep(tmp_path, "a=", "b=strategy.name=fedadam,strategy.options={etta: 1}")
    with pytest.raises(ConfigError, match="arm 'a': circuits.probe_per_class is 500"):
        tiny_sweep(tmp_path, "a=circuits.probe_per_class=500")


def test_seeds_and_arms_may_come_to_a_sweep_that_is_there(tmp_path: Path) -> None:
    on_disk(tmp_path, seeds=(1, 3))

    more = tiny_sweep(tmp_path, *ARMS, "third=training.lr=0.4", seeds=(0, 3))

    assert more.seeds == (0, 1, 3)
    assert list(more.arms) == ["fedavg", "momentum", "third"]


def test_the_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    on_disk(tmp_path)

    with pytest.raises(RunError, match=r"the arm 'momentum', which is not asked for"):
        tiny_sweep(tmp_path, "fedavg=")
    with pytest.raises(RunError, match=r"'momentum' differs.*training.momentum \(0.9, 0.8\)"):
        tiny_sweep(tmp_path, "fedavg=", "momentum=training.momentum=0.8")
    with pytest.raises(RunError, match=r"compares with 'fedavg', its first arm"):
        tiny_sweep(tmp_path, *reversed(ARMS))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "notes.txt").write_text("mine")

    with pytest.raises(RunError, match=r"is not empty and holds no sweep"):
        tiny_sweep(tmp_path)
    (tmp_path / "sweep" / "notes.txt").unlink()
    (tmp_path / "sweep").rmdir()
    (tmp_path / "sweep").write_text("a file")
    with pytest.raises(RunError, match="is a file"):
        tiny_sweep(tmp_path)


def test_a_damaged_sweep_is_named(tmp_path: Path) -> None:
    on_disk(tmp_path)
    file = tmp_path / "sweep" / "sweep.json"
    text = file.read_text()

    file.write_text(text.replace("0.9", "0.7"))
    with pytest.raises(RunError, match=r"sweep.json is damaged.*does not fit its digest"):
        tiny_sweep(tmp_path)
    file.write_text(text[:100])
    with pytest.raises(RunError, match=r"sweep.json is damaged"):
        read_sweep(tmp_path / "sweep")
    file.write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(RunError, match=r"has schema 2, this fedcircuit reads 1"):
        read_sweep(tmp_path / "sweep")


def test_changes_name_the_innermost_keys() -> None:
    assert changes({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}}) == [
        "a.c (2, 5)",
        "d (3, null)",
    ]


def test_a_sweep_of_an_earlier_version_lacks_keys_that_came_later(tmp_path: Path) -> None:
    sweep = tiny_sweep(tmp_path)
    sweep.path.mkdir()
    earlier = copy.deepcopy(dict(sweep.arms))
    for config in earlier.values():
        del config["strategy"]["rules"], config["inertia"]["snapshot"]
    write_sweep(replace(sweep, arms=earlier))

    assert tiny_sweep(tmp_path).seeds == (0, 1, 2)
    with pytest.raises(RunError, match=r"'momentum' differs.*inertia.snapshot \(3, 2\)"):
        tiny_sweep(tmp_path, ARMS[0], f"{ARMS[1]},inertia.snapshot=2")
