"""The information plane on the page: the numbers that are drawn, and the picture in a browser."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, render, section_of
from made_up_information import Course, inputs_of, labels_of, make_information_run
from made_up_runs import Story, make_run

from fedcircuit.records.runs.run import Run
from fedcircuit.report.page import information_section
from fedcircuit.report.page.information_section import information
from fedcircuit.report.page.page import page_data, write_report
from fedcircuit.report.tables.information import ceiling, curves, evenly, is_logarithmic

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page")
COURSE = Course(undefined=(3,), null=0.0625)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_information_run(tmp_path_factory.mktemp("information") / "run", COURSE)


def array(cells: list[list[float | None]]) -> np.ndarray[Any, Any]:
    return np.array([[np.nan if cell is None else cell for cell in row] for row in cells])


def test_curves_are_those_of_the_average_and_the_mean_of_clients(run: Run) -> None:
    data = information(run)
    assert data["rounds"] == list(range(1, 9))
    assert data["layers"] == [[name, 6, name] for name in ("fc0", "fc1", "fc2")]
    kinds = [(e["axis"], e["estimator"]) for e in data["estimates"]]
    assert kinds == [
        ("x", "upper bound of Kolchinsky and Tracey"),
        ("x", "lower bound of Kolchinsky and Tracey"),
        ("y", "held-out linear probe"),
    ]
    upper, lower, probe = data["estimates"]
    for key, average in (("global", True), ("clients", False)):
        expected = [
            [inputs_of(COURSE, layer, n, average=average) for n in data["rounds"]]
            for layer in range(3)
        ]
        np.testing.assert_allclose(array(upper[key]["value"]), expected, rtol=0.005)
        np.testing.assert_allclose(array(lower[key]["value"]), np.array(expected) - 1, rtol=0.005)
        labels = [
            [labels_of(COURSE, layer, n, average=average) for n in data["rounds"]]
            for layer in range(3)
        ]
        np.testing.assert_allclose(array(probe[key]["value"]), labels, rtol=0.005)
    assert upper["global"]["saturated"] == [[1.0] * 8, [0.0] * 8, [0.0] * 8]
    assert upper["setting"] == "noise variance 0.01 to 0.08 = 0.1^2 x mean unit variance"
    assert upper["saturated_share"] == 0.333
    assert probe["global"]["null"][0][0] == 0.0625
    assert "null" not in upper["global"]
    assert upper["global"]["unique"][0][0] == 0.75


def test_gaps_are_those_of_the_table(run: Run) -> None:
    upper, _, probe = information(run)["estimates"]
    table = run.table("information_gap")
    for estimate, column in ((upper, "dIx"), (probe, "dIy")):
        expected = table.pivot(index="layer", columns="round", values=column).to_numpy()
        np.testing.assert_allclose(array(estimate["gap"]), expected, rtol=0.005, atol=1e-9)
    assert upper["gap"][1] == [0.5] * 8
    assert upper["gap"][2] == [0.5, 0.5, None, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert probe["gap"][0] == [0.25] * 8


def test_accuracy_ceiling_and_words_stand_beside_them(run: Run) -> None:
    data = information(run)
    assert data["accuracy"]["global"][0] == pytest.approx(0.25 + 0.5 / 8 + 0.125, rel=0.005)
    assert data["accuracy"]["clients"][7] == 0.75
    assert (data["unit"], data["n"], data["ceiling"], data["clients"]) == ("bits", 512, 9.0, 2)
    assert not data["log"]
    table = curves(run)
    assert table is not None
    assert ceiling(table.assign(unit="nats")) == pytest.approx(9 * np.log(2))


def test_without_clients_there_is_the_average_alone(tmp_path: Path) -> None:
    run = make_information_run(tmp_path / "run", Course(rounds=2, clients=0, bounds=False))
    data = information(run)
    assert data["clients"] == 0
    assert data["accuracy"]["clients"] == [None, None]
    assert len(data["estimates"]) == 2
    assert data["estimates"][0]["clients"] == {}
    assert not any(cell is not None for row in data["estimates"][0]["gap"] for cell in row)


def test_a_run_that_was_not_measured_has_no_section(tmp_path: Path) -> None:
    other = make_run(tmp_path / "story", Story(rounds=1))
    assert information(other) == {}
    text = write_report(other, tmp_path / "without.html").read_text(encoding="utf-8")
    assert '<section id="information">' not in text
    begun = make_information_run(tmp_path / "begun", Course(rounds=0))
    assert information(begun) == {}


def test_a_page_of_many_layers_and_rounds_stays_small(tmp_path: Path) -> None:
    run = make_information_run(tmp_path / "run", Course(rounds=120, layers=40, clients=1))
    data = information(run)
    assert [name for name, _, _ in data["layers"]][::23] == ["fc0", "fc39"]
    assert len(data["layers"]) == information_section.MOST_LAYERS
    assert data["other_layers"] == 16
    assert data["rounds"][-1] == 120
    assert data["left_out"] == 120 - len(data["rounds"])
    assert len(data["layers"]) * len(data["rounds"]) <= information_section.MOST_CELLS
    assert len(json.dumps(data)) < 300_000


def test_rounds_that_thin_out_have_a_logarithmic_axis() -> None:
    assert is_logarithmic([1, 2, 3, 4, 5, 6, 8, 10, 13, 16])
    assert is_logarithmic([1, 10, 100, 1000])
    assert not is_logarithmic([1, 2, 3, 4])
    assert not is_logarithmic([10, 20, 30, 40, 50])
    assert not is_logarithmic([1, 2, 50])


def test_layers_are_thinned_out_evenly_with_both_ends() -> None:
    assert evenly(["a", "b", "c"], 3) == ["a", "b", "c"]
    assert evenly(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"]


def drawn(run: Run, folder: Path, script: str = "") -> str:
    """The section after its script has run, with something done to it."""
    path = write_report(run, folder / "page.html")
    script += ";SECTIONS.find(([key]) => key === 'information')[1]()"
    text = path.read_text(encoding="utf-8")
    text = text.replace("</body>", f"<script>{script}</script></body>")
    path.write_text(text, encoding="utf-8")
    rendered = render(path, folder / "profile")
    assert rendered.console == ()
    return html.unescape(section_of(rendered.dom, "information"))


def spots(section: str) -> list[tuple[str, str, str]]:
    """Fill, stroke and tip of every point of a plane."""
    return re.findall(
        r'<circle [^>]*fill="([^"]*)" stroke="([^"]*)"[^>]*class="spot" data-tip="([^"]*)"', section
    )


@needs_browser
def test_the_planes_show_saturated_points_hollow_and_rounds_from_light_to_dark(
    run: Run, tmp_path: Path
) -> None:
    section = drawn(run, tmp_path)
    found = spots(section)
    assert len(found) == 2 * (8 + 8 + 7)  # the last layer is not defined in round 3
    tips = {tip.split("\n")[0]: (fill, stroke, tip) for fill, stroke, tip in found}
    fill, _, tip = tips["fc0, round 2: the average"]
    assert fill == "var(--paper)"
    assert tip == (
        "fc0, round 2: the average\nI(X;T) 9 bits, saturated\n   distinct rows: 75\xa0%\n"
        "I(T;Y) 1.5 bits\n   with shuffled labels 0.0625\naccuracy 0.5"
    )
    assert "fc2, round 3: the average" not in tips
    last, first = (
        tips["fc1, round 8: mean of clients"],
        tips["fc1, round 1: the average"],
    )
    assert last[0] == last[1] == "color-mix(in oklab, var(--accent-2) 100%, var(--paper))"
    assert first[0] == "color-mix(in oklab, var(--accent) 22%, var(--paper))"
    assert section.count("I(X;T), bits</text>") == 3
    assert "round 3: not defined" in section  # the gap
    assert "logarithm of the 512 samples: 9 bits" in section
    for words in (
        "no finite I(X;T)",
        "never to be read without the accuracy",
        "upper bound of Kolchinsky and Tracey (noise variance 0.01 to 0.08",
        "held-out linear probe (5 folds)",
        "In bits, from 512 samples",
        "the average labels 87.5\xa0% of the samples rightly, the clients 75.0\xa0% on average",
        "33\xa0% of the average's values of I(X;T) are saturated",
        "Up to 2 clients were measured",
    ):
        assert words in section, words


@needs_browser
def test_another_estimator_axes_and_round_can_be_chosen(run: Run, tmp_path: Path) -> None:
    script = '$("information-x").value = 1; $("information-axes").value = "own"; state.at = 1;'
    section = drawn(run, tmp_path, script)
    assert "fc1, round 8: the average\nI(X;T) 3.5 bits\n" in section
    assert "In round 2 the average labels 50.0\xa0%" in section
    assert "lower bound of Kolchinsky and Tracey (noise" in section
    assert section.count('r="6.5"') == 2 * 3  # rings around the chosen round


@needs_browser
def test_information_that_rises_while_accuracy_falls_is_named(tmp_path: Path) -> None:
    run = make_information_run(tmp_path / "run", Course(rounds=3, worse=True))
    section = drawn(run, tmp_path)
    assert "raised the measured I(T;Y) of every layer and lowered the accuracy" in section


@needs_browser
@pytest.mark.parametrize(
    "course",
    [
        Course(rounds=1),
        Course(rounds=2, clients=0, bounds=False),
        Course(rounds=70, layers=30, clients=1),
        Course(rounds=2, layers=2, undefined=(1, 2)),
        Course(rounds=200, looked_at=(1, 2, 5, 10, 20, 50, 100, 200)),
    ],
)
def test_every_run_is_drawn_without_a_complaint(course: Course, tmp_path: Path) -> None:
    run = make_information_run(tmp_path / "run", course)
    section = drawn(run, tmp_path)
    assert "NaN" not in section
    assert "Infinity" not in section
    data = page_data(run)["information"]
    assert section.count('aria-label="information plane of') == len(data["layers"])
    assert ("only the average is drawn" in section) == (course.clients == 0)
    assert ("the run folder has all" in section) == (course.rounds == 70)
    assert ("evenly spaced" in section) == (course.layers == 30)
    assert ("round, logarithmic" in section) == (course.rounds == 200)
    assert ("not defined" in section) == bool(course.undefined)


def test_the_data_of_the_page_are_plain(run: Run) -> None:
    def check(value: Any) -> None:
        if isinstance(value, (dict, list)):
            for item in value.values() if isinstance(value, dict) else value:
                check(item)
        else:
            assert value is None or type(value) in (bool, int, float, str)

    check(information(run))
