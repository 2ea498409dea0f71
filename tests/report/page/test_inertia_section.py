"""Layer inertia on the page: the numbers that are drawn, and the picture in a browser."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, render, section_of
from made_up_inertia import WEIGHTS, Course, make_inertia_run
from made_up_runs import Story, make_run

from fedcircuit.records.runs.run import Run
from fedcircuit.report.page import inertia_section
from fedcircuit.report.page.inertia_section import inertia, snapshot_round
from fedcircuit.report.page.page import page_data, write_report
from fedcircuit.report.tables.inertia import inertia_of_run, thinned

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page")
MEASURES = ("r", "drift", "cosine", "kappa", "m")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_inertia_run(tmp_path_factory.mktemp("inertia") / "run", Course(masked=(2,)))


def number(cell: float | None) -> float:
    return math.nan if cell is None else cell


def test_the_cells_are_the_table_to_three_digits(run: Run) -> None:
    data, table = inertia(run), inertia_of_run(run).layers
    assert data["rounds"] == [1, 2, 3, 4, 5]
    assert [name for name, _, _ in data["layers"]] == ["first.bias", *WEIGHTS]
    assert [name for name, is_weight, _ in data["layers"] if is_weight] == list(WEIGHTS)
    assert tuple(data["cells"]) == MEASURES
    for measure, grid in data["cells"].items():
        wide = table.pivot(index="layer", columns="round", values=measure)
        expected = wide.loc[["first.bias", *WEIGHTS]].to_numpy()
        got = np.array([[number(cell) for cell in row] for row in grid])
        np.testing.assert_allclose(got, expected, rtol=0.005)
        assert "NaN" not in json.dumps(grid)
    assert data["cells"]["r"][1][0] == 0.2
    assert data["cells"]["drift"][1][:2] == [None, None]


def test_index_share_and_starts_are_those_of_the_rounds(run: Run) -> None:
    data, index = inertia(run), inertia_of_run(run).index
    np.testing.assert_allclose([v for _, v in data["index"]], index["index"], rtol=0.005)
    below = int((index["index"] < 0.5).sum())
    assert (data["below"], data["defined"], data["limit"]) == (below, 5, 0.5)
    assert below == 5
    assert data["received"] == [2]
    assert data["clients"] == 2
    assert data["snapshot"] == 3


def test_measures_nobody_knows_are_left_out(tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run", Course(rounds=2, updates="none"))
    assert tuple(inertia(run)["cells"]) == ("r",)


def test_a_run_without_weight_tensors_has_no_section(tmp_path: Path) -> None:
    assert inertia(make_run(tmp_path / "story", Story(rounds=1))) == {}
    assert inertia(make_inertia_run(tmp_path / "run", Course(weights=False))) == {}
    assert inertia(make_inertia_run(tmp_path / "begun", Course(rounds=0))) == {}


def test_rounds_are_thinned_evenly_and_the_newest_stays() -> None:
    assert thinned([1, 2, 3, 4, 5, 6, 7], 7) == [1, 2, 3, 4, 5, 6, 7]
    assert thinned([1, 2, 3, 4, 5, 6, 7], 6) == [1, 3, 5, 7]
    assert thinned([1, 2, 3, 4, 5, 6], 3) == [2, 4, 6]
    assert thinned([1, 2, 3], 1) == [3]


def test_a_page_of_many_layers_and_rounds_stays_small(tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run", Course(rounds=80, extra_layers=145, clients=1))
    data = inertia(run)
    shown = len(data["layers"]) * len(data["rounds"])
    assert len(data["layers"]) == 150
    assert inertia_section.MOST_CELLS / 2 <= shown <= inertia_section.MOST_CELLS
    assert data["rounds"][-1] == 80
    assert data["left_out"] == 80 - len(data["rounds"])
    assert len(data["index"]) == 80
    assert len(json.dumps(data)) < 300_000


def test_the_snapshot_is_where_drift_is_first_known_and_zero() -> None:
    def table(*drifts: float) -> pd.DataFrame:
        return pd.DataFrame({"round": range(1, len(drifts) + 1), "drift": drifts})

    assert snapshot_round(table(math.nan, 0.0, 0.1)) == 2
    assert snapshot_round(table(math.nan, 0.2, 0.1)) is None  # it went on without the third round
    assert snapshot_round(table(math.nan)) is None


def drawn(run: Run, folder: Path, **choices: str) -> str:
    """The section after its script has run, with other choices made."""
    path = write_report(run, folder / "page.html")
    made = "".join(f'$("inertia-{key}").value="{value}";' for key, value in choices.items())
    script = f"<script>{made}SECTIONS.find(([key]) => key === 'inertia')[1]()</script>"
    text = path.read_text(encoding="utf-8").replace("</body>", script + "</body>")
    path.write_text(text, encoding="utf-8")
    rendered = render(path, folder / "profile")
    assert rendered.console == ()
    return html.unescape(section_of(rendered.dom, "inertia"))


def cells_of(section: str) -> list[tuple[str, str]]:
    """Tip and fill of every cell of the map."""
    found = re.findall(
        r'<rect [^>]*class="cell" style="fill:(.*?);stroke[^>]*data-tip="([^"]*)"', section
    )
    return [(tip, fill) for fill, tip in found]


@needs_browser
def test_the_map_shows_weights_with_what_did_not_move_and_what_is_undefined(
    run: Run, tmp_path: Path
) -> None:
    section = drawn(run, tmp_path)
    cells = cells_of(section)
    assert len(cells) == 4 * 5
    assert cells[0][0].startswith("first.weight, round 1\nrelative movement 0.2\n")
    still = [fill for tip, fill in cells if tip.startswith("still")]
    assert still == ["var(--paper)"] * 5
    assert "did not move" in section
    assert "0.071 to 0.3, logarithmic" in section  # 0.1 / 1.4 and 0.3 / 1
    assert "was below 0.5 in 5 of 5 rounds (100\xa0%)" in section
    assert "Movement is not benefit" in section
    assert "In 1 round (2) clients started from other weights" in section
    assert 'data-tip="round 3\naccuracy 0.300"' in section
    stronger = {tip.split("\n")[0]: fill for tip, fill in cells}
    share = {
        key: int(re.findall(r"(\d+)%", fill)[0]) for key, fill in stronger.items() if "%" in fill
    }
    assert share["last.weight, round 1"] == 100
    assert share["mid.weight, round 5"] == 0
    expected = 100 * math.log(0.2 / (0.1 / 1.4)) / math.log(0.3 / (0.1 / 1.4))
    assert share["first.weight, round 1"] == pytest.approx(expected, abs=1)


@needs_browser
def test_another_measure_and_all_layers_can_be_chosen(run: Run, tmp_path: Path) -> None:
    section = drawn(run, tmp_path, measure="drift", layers="all")
    cells = cells_of(section)
    assert len(cells) == 5 * 5
    hatched = [tip for tip, fill in cells if fill == "url(#hatch)"]
    assert len(hatched) == 2 * 5  # rounds 1 and 2 of every layer
    assert all("drift not defined" in tip for tip in hatched)
    assert "Distance from the global weights after round 3" in section
    assert "not defined</span>" in section  # in the legend


@needs_browser
def test_a_tensor_that_began_at_zero_leaves_shades_for_the_others(run: Run, tmp_path: Path) -> None:
    section = drawn(run, tmp_path, layers="all")
    (first,) = [tip for tip, _ in cells_of(section) if tip.startswith("first.bias, round 1\n")]
    assert first.endswith("the tensor was almost zero before the round")
    assert "0.071 to 1 and more, logarithmic" in section  # the bias doubles in round 2


@needs_browser
@pytest.mark.parametrize(
    "course",
    [
        Course(frozen=True),
        Course(rounds=1, accuracy=False),
        Course(rounds=80, extra_layers=145, clients=1),
        Course(rounds=2, updates="none"),
    ],
)
def test_every_run_is_drawn_without_a_complaint(course: Course, tmp_path: Path) -> None:
    run = make_inertia_run(tmp_path / "run", course)
    section = drawn(run, tmp_path)
    assert "NaN" not in section
    assert "Infinity" not in section
    data = page_data(run)["inertia"]
    weights = [name for name, is_weight, _ in data["layers"] if is_weight]
    assert len(cells_of(section)) == len(weights) * len(data["rounds"])
    assert ("The inertia index is not defined" in section) == course.frozen
    assert ("not measured" in section) == (not course.accuracy)
    assert ("clients' weights are not known" in section) == (course.updates == "none")
    assert ("the run folder has all" in section) == (course.rounds == 80)


def test_the_section_is_on_the_page_only_where_there_is_something(run: Run, tmp_path: Path) -> None:
    text = write_report(run, tmp_path / "with.html").read_text(encoding="utf-8")
    assert '<section id="inertia">' in text
    other = make_run(tmp_path / "story", Story(rounds=1))
    text = write_report(other, tmp_path / "without.html").read_text(encoding="utf-8")
    assert '<section id="inertia">' not in text


def test_the_data_of_the_page_are_plain(run: Run) -> None:
    def check(value: Any) -> None:
        if isinstance(value, (dict, list)):
            for item in value.values() if isinstance(value, dict) else value:
                check(item)
        else:
            assert value is None or type(value) in (bool, int, float, str)

    check(inertia(run))
