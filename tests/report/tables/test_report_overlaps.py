"""Overlaps as page and figures read them: only valid circuits, what is undefined counted."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_overlaps import ceiling_of, layers
from made_up_runs import Story, make_run

from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import Observation, RoundRecord, Table
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.report.page.page import page_data
from fedcircuit.report.tables import overlaps

LAYERS = list(layers())
VALID = [(i, c) for i in range(3) for c in range(4) if (i, c) not in ((2, 2), (2, 3))]


def of_valid(run: Run, name: str, number: int, layer: str) -> pd.DataFrame:
    """Rows of a recorded table for valid client circuits, picked one by one."""
    table = run.table(name)
    rows = [
        table[
            (table["round"] == number) & (table["layer"] == layer)
            & (table["client"] == str(i)) & (table["class"] == c)
        ]
        for i, c in VALID
    ]  # fmt: skip
    return pd.concat(rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("overlaps") / "run", Story(ceiling=True))


def row_of(run: Run, number: int, layer: str) -> dict[str, float]:
    mean = overlaps.mean_overlap(run)
    chosen = mean[(mean["round"] == number) & (mean["layer"] == layer)]
    assert len(chosen) == 1
    return {str(name): value for name, value in chosen.iloc[0].items()}


@pytest.mark.parametrize("layer", LAYERS)
def test_discoveries_are_counted_among_valid_circuits(run: Run, layer: str) -> None:
    row = row_of(run, 3, layer)
    tested = of_valid(run, "overlap", 3, layer)
    assert (row["n_tested"], row["n_family"]) == (10, 12)  # the rate is held over all 12 pairs
    assert row["discovered"] == sum(q <= 0.05 for q in tested["q_value"])
    assert row["discovered"] <= sum(p <= 0.05 for p in tested["p_value"])


@pytest.mark.parametrize("layer", LAYERS)
def test_the_weighted_mean_leaves_out_circuits_without_scores(run: Run, layer: str) -> None:
    # client 1's class 0 is valid, but came without scores
    row = row_of(run, 2, layer)
    known = of_valid(run, "overlap", 2, layer)
    known = known[~((known["client"] == "1") & (known["class"] == 0))]
    assert (row["n"], row["n_weighted"]) == (10, 9)
    assert row["weighted"] == pytest.approx(sum(0.9 * known["iou"]) / 9)
    assert row["weighted_chance"] == pytest.approx(sum(0.5 * known["chance"]) / 9)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_own_class_is_compared_with_the_others(run: Run, layer: str) -> None:
    row = row_of(run, 4, layer)
    swap, own = of_valid(run, "class_swap", 4, layer), of_valid(run, "overlap", 4, layer)
    assert row["n_swapped"] == 10
    assert row["own"] == pytest.approx(own["adjusted"].mean())
    assert row["swapped"] == pytest.approx(swap["swapped"].mean())
    assert row["swapped_max"] == pytest.approx(swap["swapped_max"].mean())
    # by the formula the own class is closest where the adjusted IoU exceeds 0.2 c
    assert row["closest"] == sum(
        a > 0.2 * c for a, c in zip(own["adjusted"], own["class"], strict=True)
    )
    assert row["closest_chance"] == pytest.approx(10 / 4)  # one of four classes each


def test_the_ceiling_is_a_mean_and_the_corrected_overlap_a_median(run: Run) -> None:
    row = row_of(run, 1, "all")
    relative = of_valid(run, "corrected", 1, "all")
    assert row["ceiling"] == pytest.approx(sum(ceiling_of(c) for c in range(4)) / 4)
    expected = sorted(
        a / ceiling_of(c) for a, c in zip(relative["adjusted"], relative["class"], strict=True)
    )
    assert row["corrected"] == pytest.approx((expected[4] + expected[5]) / 2)
    assert row["n_corrected"] == 10


def test_a_run_recorded_without_the_newer_overlaps_still_has_its_means(tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", Story(measured_from=99))
    new = make_run(tmp_path / "new", Story())
    assert "q_value" not in old.table("overlap")
    assert "class_swap" not in old.table_names
    known = ["round", "layer", "iou", "chance", "adjusted", "significant", "n", "n_undefined"]
    first, second = overlaps.mean_overlap(old), overlaps.mean_overlap(new)
    pd.testing.assert_frame_equal(first[known], second[known])
    for name in ("n_tested", "discovered", "n_family", "n_weighted", "n_swapped", "n_corrected"):
        assert first[name].tolist() == [0] * len(first)
    for name in ("weighted", "own", "swapped", "swapped_max", "ceiling", "corrected"):
        assert first[name].isna().all()
    assert overlaps.by_class(old, 4).empty


def test_a_run_with_columns_that_are_no_longer_recorded_is_read_the_same(tmp_path: Path) -> None:
    new = make_run(tmp_path / "new", Story(rounds=2, ceiling=True))
    path = make_run(tmp_path / "old", Story(rounds=2, ceiling=True)).path
    lines = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        seen = line["observations"]["circuits"]
        n_rows = len(seen["overlap"]["cells"]["adjusted"])
        for name in ("ranked", "ranked_chance"):
            seen["overlap"]["types"][name] = "float"
            seen["overlap"]["cells"][name] = [None] * n_rows
        seen["class_swap"]["types"]["same"] = "float"
        seen["class_swap"]["cells"]["same"] = seen["overlap"]["cells"]["adjusted"]
    for line in lines:
        del line["line"], line["arrays"]  # a run of that time has no digests
    (path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "recorded").unlink()
    (path / "partition.json").unlink(missing_ok=True)
    old = Run.load(path)
    assert old.table("overlap")["ranked"].isna().all()
    assert old.table("class_swap")["same"].notna().all()
    pd.testing.assert_frame_equal(overlaps.mean_overlap(old), overlaps.mean_overlap(new))
    pd.testing.assert_frame_equal(overlaps.by_class(old, 2), overlaps.by_class(new, 2))
    assert page_data(old)["overlap"] == page_data(new)["overlap"]


def test_a_run_resumed_by_a_newer_version_has_them_from_there_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(measured_from=3))
    mean = overlaps.mean_overlap(run)
    mean = mean[mean["layer"] == "all"]
    assert mean["n_tested"].tolist() == [0, 0, 10, 10]
    assert mean["n_swapped"].tolist() == [0, 0, 10, 10]
    assert mean["weighted"].isna().tolist() == [True, True, False, False]
    assert mean["n"].tolist() == [10] * 4
    assert overlaps.by_class(run, 2).empty
    assert len(overlaps.by_class(run, 3)) == 4


def test_classes_are_means_over_their_valid_clients(run: Run) -> None:
    table = overlaps.by_class(run, 4)
    swap, own = of_valid(run, "class_swap", 4, "all"), of_valid(run, "overlap", 4, "all")
    assert table["class"].tolist() == [0, 1, 2, 3]
    assert table["class_name"].tolist() == list(run.class_names)
    assert table["n"].tolist() == [3, 3, 2, 2]
    for c in range(4):
        mine = swap[swap["class"] == c]
        got = table.loc[c, ["own", "swapped", "swapped_max"]].tolist()
        assert got == pytest.approx(
            [
                own.loc[own["class"] == c, "adjusted"].mean(),
                mine["swapped"].mean(),
                mine["swapped_max"].mean(),
            ]
        )


def test_a_class_without_a_valid_circuit_is_undefined_not_zero(tmp_path: Path) -> None:
    class Unfound(Story):
        def word(self, client: int, index: int, number: int) -> str:
            return "undiscovered" if index == 2 else super().word(client, index, number)

    run = make_run(tmp_path / "run", Unfound())
    table = overlaps.by_class(run, 4)
    assert table["n"].tolist() == [3, 3, 0, 2]
    assert table.loc[2, ["own", "swapped", "swapped_max"]].isna().all()


def test_valid_circuits_without_a_global_one_are_counted_as_undefined(tmp_path: Path) -> None:
    # client 0 has two valid circuits and one of class 2 that is not; the global model has one of
    # class 0 alone, so class 1 has no row in the table of overlaps
    validity = Table(
        ("model", "class", "status", "reason"),
        (("0", 0, "valid", ""), ("0", 1, "valid", ""), ("0", 2, "undiscovered", "why")),
    )
    columns = ("client", "class", "layer", "iou", "chance", "adjusted", "p_value")
    overlap = Table(columns, (("0", 0, "all", 0.5, 0.2, 0.375, 0.01),))
    with RunStore.create(
        tmp_path / "run", build_manifest("r", None, seed=0, class_names="abc")
    ) as store:
        store.append(RoundRecord(0, {"w": np.zeros(1, dtype=np.float32)}))
        seen = Observation({"validity": validity, "overlap": overlap})
        store.append(
            RoundRecord(1, {"w": np.zeros(1, dtype=np.float32)}, observations={"circuits": seen})
        )
    row = row_of(Run.load(tmp_path / "run"), 1, "all")
    assert (row["n"], row["n_undefined"], row["iou"]) == (1, 1, 0.5)
    assert isnan(row["swapped"])


def test_with_one_class_there_is_no_other_class(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(clients=1, classes=1, rounds=1))
    row = row_of(run, 1, "all")
    assert (row["n"], row["n_swapped"], row["closest"]) == (1, 0, 0)
    assert overlaps.by_class(run, 1).empty
