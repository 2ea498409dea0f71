"""The experiment from end to end on a tiny federation: runs, tables and figures from folders."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import figure
import judged
import pandas as pd
import pytest
import run
import table
from suspicion import SIDES

from fedcircuit import Run

TINY = [
    "data={name: digits}", "partition={kind: iid, clients: 4}", "model={name: mlp, widths: [12]}",
    "training={rounds: 2, epochs: 1, lr: 0.1, batch_size: 32}", "circuits={controls: 3}",
]  # fmt: skip
ASKED = ["--strategies", "fedavg,fedmedian", "--attacks", "none,sign-flip,one-nan", "--bad", "0,1",
         "--seeds", "1", "--calibration", "1"]  # fmt: skip


def called(monkeypatch: pytest.MonkeyPatch, script: object, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    script.main()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs: clean, clean for the thresholds, sign flip and NaN, with two strategies."""
    out = tmp_path_factory.mktemp("attacks")
    with pytest.MonkeyPatch.context() as patch:
        settings = [part for one in TINY for part in ("--set", one)]
        called(patch, run, "--out", out, *ASKED, *settings)
    return out


def test_every_setting_has_a_run_of_its_own_that_says_what_it_is(folder: Path) -> None:
    runs = judged.complete_runs(folder)
    assert list(runs) == [
        (strategy, attack, n_bad, seed)
        for strategy in ("fedavg", "fedmedian")
        for attack, n_bad, seed in (
            ("none", 0, 0), ("none", 0, 100), ("one-nan", 1, 0), ("sign-flip", 1, 0),
        )
    ]  # fmt: skip
    for (strategy, attack, n_bad, seed), one in runs.items():
        said = {"strategy": strategy, "attack": attack, "n_bad": n_bad, "seed": seed}
        assert one.manifest["config"]["attack"] == said
        assert one.rounds == (1, 2)
        assert len(one.observer_errors) == 0


def test_what_is_there_is_left_and_what_is_half_done_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {path: path.read_bytes() for path in folder.rglob("rounds.jsonl")}
    weights = Run.load(folder / "fedavg/none-0/seed0").weights(2)
    half = folder / "fedavg/none-0/seed0.unfinished"
    (folder / "fedavg/none-0/seed0").rename(half)

    called(monkeypatch, run, "--out", folder, *ASKED, *[p for s in TINY for p in ("--set", s)])

    assert "7 runs are there, 1 to go" in capsys.readouterr().out
    assert not half.exists()
    again = Run.load(folder / "fedavg/none-0/seed0").weights(2)
    assert {name: v.tobytes() for name, v in again.items()} == {
        name: v.tobytes() for name, v in weights.items()
    }
    anew = folder / "fedavg/none-0/seed0/rounds.jsonl"
    assert all(path.read_bytes() == known for path, known in lines.items() if path != anew)


def test_the_tables_come_from_the_folders_and_count_the_clients_of_tested_seeds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, table, folder)

    text = capsys.readouterr().out
    assert re.search(r"\| none \| 0 \| 0\.\d{3} \| 0\.\d{3} \|\n\| sign-flip \| 1 \|", text)
    assert re.search(r"\| cosine \| 1\.00, \d+%, \d+% \|", text)
    assert "] of 16 |" in text  # clean clients: two strategies, two rounds
    last = pd.read_csv(folder / "last-round.csv").set_index(["strategy", "attack"])
    assert last.loc[("fedavg", "one-nan"), "set aside"] == 2  # one client, two rounds
    assert last.loc[("fedavg", "none"), "accuracy"] > last.loc[("fedavg", "sign-flip"), "accuracy"]
    seen = pd.read_csv(folder / "detection.csv").set_index(["attack", "n_bad", "statistic"])
    assert set(seen.index) == {
        (attack, n_bad, one) for attack, n_bad in (("none", 0), ("sign-flip", 1)) for one in SIDES
    }
    assert seen.loc[("sign-flip", 1, "cosine"), "n_bad_seen"] == 4  # two strategies, two rounds
    assert seen.loc[("sign-flip", 1, "cosine"), "n_good_seen"] == 12
    assert seen.loc[("sign-flip", 1, "cosine"), "auroc"] == 1.0  # the update points back


def test_good_clients_circuits_are_those_of_the_others(folder: Path) -> None:
    one = Run.load(folder / "fedavg/sign-flip-1/seed0")
    validity = one.table("validity")
    statuses = [
        row.status == "valid"
        for row in validity[validity["round"] == 2].itertuples()
        if row.model in {"1", "2", "3"}
    ]
    assert len(statuses) == 30
    assert table.last_round(one, n_bad=1)["valid, good clients"] == sum(statuses) / 30


def test_the_figures_are_drawn_with_the_data_behind_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(monkeypatch, figure, folder, "--out", tmp_path, "--strategy", "fedavg")

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "attacks-auroc.csv", "attacks-auroc.png", "attacks-clients.csv", "attacks-clients.png",
    ]  # fmt: skip
    drawn = pd.read_csv(tmp_path / "attacks-clients.csv")
    assert set(drawn["strategy"]) == {"fedavg"}
    assert set(drawn["round"]) == {2}


def clients(z: list[float], **setting: object) -> pd.DataFrame:
    """Rows of one statistic in one round."""
    known = {"strategy": "krum", "attack": "none", "n_bad": 0, "seed": 100, "round": 1}
    rows = pd.DataFrame({"z": z, "statistic": "norm", "bad": False})
    return rows.assign(**{**known, **setting})


def test_thresholds_come_from_clean_runs_of_other_seeds_of_the_same_strategy_and_round() -> None:
    ninety_nine = [float(value) for value in range(99)]  # the 95th of them is 94
    rows = pd.concat(
        [
            clients(ninety_nine),
            clients([1000.0 + value for value in ninety_nine], round=2),
            clients([-1000.0] * 99, strategy="fedavg"),
            clients([-1000.0] * 99, attack="scaled"),  # not clean
            clients([94.0, 94.5, 2000.0], seed=0),
            clients([0.0, 2000.0], seed=0, round=3),  # without a threshold
        ]
    )
    flagged = judged.with_flags(rows)
    assert flagged["seed"].tolist() == [0] * 5
    assert flagged["threshold"].tolist()[:3] == [94.0] * 3
    assert flagged["flagged"].tolist() == [False, True, True, False, False]


def test_the_difference_to_plain_statistics_is_taken_seed_by_seed() -> None:
    areas = {"overlap": (0.9, 0.7), "norm": (0.5, 0.5), "cosine": (1.0, 0.8), "zeros": (0.5, 0.5),
             "accuracy": (0.7, 0.9)}  # fmt: skip
    rows = [
        {"seed": seed, "attack": "scaled", "n_bad": 1, "statistic": name, "auroc": values[seed]}
        for name, values in areas.items()
        for seed in (0, 1)
    ]
    (line,) = table.difference_lines(pd.DataFrame(rows))[2:]
    # differences 0.4 and 0.2: mean 0.3, standard error 0.1; always 0.1 less; 0.2 and -0.2
    assert line == (
        "| scaled | 1 | 2 | +0.30 ± 0.10 | -0.10 ± 0.00 | +0.30 ± 0.10 | +0.00 ± 0.20 |"
    )


def test_false_alarms_stand_under_whether_there_was_an_attack() -> None:
    rows = clients([0.0, 9.0], attack="scaled", n_bad=1).assign(flagged=[False, True])
    every = [rows.assign(statistic=name) for name in SIDES]
    assert "| norm | - | 0.500 [" in "\n".join(table.alarm_lines(pd.concat(every)))


def test_detection_counts_bad_and_good_clients_apart() -> None:
    rows = pd.concat(
        [
            clients([5.0, 1.0], attack="scaled").assign(bad=True, flagged=[True, False]),
            clients([2.0, 0.0, 0.0, 6.0], attack="scaled").assign(
                flagged=[False, False, False, True]
            ),
        ]
    )
    (found,) = judged.detection(rows, ["attack"]).to_dict("records")
    assert (found["attack"], found["statistic"]) == ("scaled", "norm")
    assert (found["n_bad_seen"], found["detected"]) == (2, 0.5)
    assert (found["n_good_seen"], found["false_alarms"]) == (4, 0.25)
    assert found["auroc"] == (3 + 2) / 8  # 5 is above three of the good, 1 above two
    assert 0 < found["false_low"] < 0.25 < found["false_high"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attacks", "none,flip"], "unknown attacks \\['flip'\\]; known: none, sign-flip"),
        (["--strategies", "mean"], "unknown strategies \\['mean'\\]; known: fedavg"),
        (["--first-seed", "98"], "seeds must lie in 0 to 99"),
        (["--bad", "10"], "there are 10 clients, one must be good"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(SystemExit) as refused:
        called(monkeypatch, run, "--out", tmp_path / "out", *arguments)
    said = f"{refused.value} {capsys.readouterr().err}"
    assert re.search(message, said)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_runs_to_test_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no complete runs"):
        judged.complete_runs(tmp_path)
