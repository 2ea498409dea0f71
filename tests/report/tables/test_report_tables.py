"""The small tables that page, figures and comparison share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up_overlaps import layers, overlap_by_counting
from made_up_runs import Story, make_run, planted_masks

from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables import overlaps
from fedcircuit.report.tables.questions import question_rows
from fedcircuit.report.tables.words import STATUSES, VERDICTS


def test_counts_of_verdicts_and_statuses_by_round(tmp_path: Path) -> None:
    counts = tables.verdict_counts(make_run(tmp_path / "run")).set_index("round")
    # client 0's class 1 collapses in round 2; client 1's class 0 is degraded in round 4
    assert counts["preserved"].tolist() == [9, 8, 8, 7]
    assert counts["collapsed"].tolist() == [1, 2, 2, 2]
    assert counts["degraded"].tolist() == [0, 0, 0, 1]
    assert counts["relocated"].tolist() == [0, 0, 0, 0]
    assert counts["valid"].tolist() == [10] * 4
    assert counts["undiscovered"].tolist() == counts["not_learned"].tolist() == [1] * 4
    assert counts["absent"].tolist() == [0] * 4


def test_a_round_in_which_nothing_is_valid_is_counted_with_zeros(tmp_path: Path) -> None:
    counts = tables.verdict_counts(make_run(tmp_path / "run", Story(none_valid=True)))
    assert counts["not_learned"].tolist() == [12] * 4
    assert counts[[word.name for word in VERDICTS]].to_numpy().sum() == 0


def test_a_cell_without_verdict_has_the_word_and_the_reason_of_its_status(tmp_path: Path) -> None:
    judged = tables.judged(make_run(tmp_path / "run"))
    row = judged[(judged["round"] == 1) & (judged["client"] == "2") & (judged["class"] == 3)]
    assert row[["word", "reason"]].to_numpy().tolist() == [["not_learned", "why not_learned"]]
    row = judged[(judged["round"] == 1) & (judged["client"] == "1") & (judged["class"] == 1)]
    assert row[["word", "reason"]].to_numpy().tolist() == [["collapsed", "because <of> collapsed"]]


@pytest.mark.parametrize("number", [1, 4])
def test_mean_overlap_is_over_valid_client_circuits_alone(tmp_path: Path, number: int) -> None:
    story = Story()
    run = make_run(tmp_path / "run", story)
    masks = planted_masks(story, number)
    valid = [(i, c) for i in range(3) for c in range(4) if (i, c) not in ((2, 2), (2, 3))]
    mean = overlaps.mean_overlap(run)
    for layer, part in layers().items():
        row = mean[(mean["round"] == number) & (mean["layer"] == layer)].iloc[0]
        counted = [overlap_by_counting(masks[i + 1, c, part], masks[0, c, part]) for i, c in valid]
        iou, chance, adjusted, p_value = np.array(counted).T
        assert row["iou"] == pytest.approx(iou.mean())
        assert row["chance"] == pytest.approx(chance.mean())
        assert row["adjusted"] == pytest.approx(adjusted.mean())
        assert row["significant"] == pytest.approx((p_value < 0.05).mean())
        assert (row["n"], row["n_undefined"]) == (10, 0)


def test_mean_overlap_without_a_valid_circuit_is_undefined_not_zero(tmp_path: Path) -> None:
    mean = overlaps.mean_overlap(make_run(tmp_path / "run", Story(none_valid=True)))
    assert mean["n"].tolist() == [0] * 16
    assert mean[["iou", "chance", "adjusted", "significant"]].isna().all().all()


def test_the_fourth_question_agrees_with_the_recorded_overlaps(tmp_path: Path) -> None:
    # two routes: circuits.overlap on the stored masks, and counting when the run was made
    run = make_run(tmp_path / "run")
    mean = overlaps.mean_overlap(run)
    mean = mean[mean["round"] == 4].set_index("layer")
    answers = [row for row in question_rows(run) if row["question"] == "RQ4"]
    assert [row["layer"] for row in answers] == ["conv1", "conv2", "fc", "all"]
    for row in answers:
        assert row["mean_iou"] == pytest.approx(mean.loc[row["layer"], "iou"], abs=1e-5)
        assert row["chance"] == pytest.approx(mean.loc[row["layer"], "chance"], abs=1e-5)
        assert (row["n"], row["n_undefined"], row["round"]) == (10, 2, 4)


def test_questions_compare_the_newest_round_with_the_one_observed_before(tmp_path: Path) -> None:
    rows = question_rows(make_run(tmp_path / "run", Story(rounds=7, every=3)))
    assert {row["round"] for row in rows if row["question"] == "RQ2"} == {3}
    assert {row["round"] for row in rows if row["question"] != "RQ2"} == {6}


def test_function_pairs_valid_circuits_with_themselves_in_the_average(tmp_path: Path) -> None:
    functions = tables.functions(make_run(tmp_path / "run", Story(rounds=2)))
    assert len(functions) == 20
    row = functions[(functions["round"] == 2) & (functions["client"] == "1")].iloc[0]
    # at home 0.8 + (1 + client) / 100, in the average 0.5 + (client + class + round) / 50
    assert (row["class"], row["verdict"]) == (0, "degraded")
    assert row["own"] == pytest.approx(0.82)
    assert row["in_global"] == pytest.approx(0.56)


def test_recall_falls_back_on_the_probe(tmp_path: Path) -> None:
    recall = tables.class_recall(make_run(tmp_path / "run", Story(accuracy=False, rounds=1)))
    assert recall["recall"].tolist() == [0.5] * 4


def test_tables_of_a_bare_run_are_empty_with_their_columns(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(circuits=False, accuracy=False))
    for table in (
        tables.accuracy(run), tables.class_recall(run), tables.verdict_counts(run),
        overlaps.mean_overlap(run), tables.functions(run), tables.sizes(run), tables.judged(run),
    ):  # fmt: skip
        assert isinstance(table, pd.DataFrame)
        assert table.empty
        assert "round" in table.columns


def test_names_are_sorted_as_people_do() -> None:
    assert tables.natural_order(["10", "b", "2", "a", "1"]) == ["1", "2", "10", "a", "b"]


def test_words_can_be_told_apart_without_colour() -> None:
    symbols = [word.symbol for word in (*VERDICTS, *STATUSES)]
    assert len(set(symbols)) == len(symbols)
