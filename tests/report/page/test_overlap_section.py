"""The section on overlap as a browser draws it: numbers, words, and what was not recorded."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, render, section_of
from made_up_runs import NAMES, Story, make_run

from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.page import page_data, write_report
from fedcircuit.report.tables import overlaps

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page")


def drawn(run: Run, folder: Path) -> str:
    """The section after its script has run."""
    rendered = render(write_report(run), folder / "profile")
    assert rendered.console == ()
    return section_of(rendered.dom, "overlap")


def words_of(section: str) -> str:
    """Text without tags, spaces as one."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", section)))


def mean_of(run: Run, number: int, layer: str) -> dict[str, float]:
    mean = overlaps.mean_overlap(run)
    row = mean[(mean["round"] == number) & (mean["layer"] == layer)].iloc[0]
    return {str(name): value for name, value in row.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("section") / "run", Story(ceiling=True))


@pytest.fixture(scope="module")
def section(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn(run, tmp_path_factory.mktemp("drawn"))


@needs_browser
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc", "all"])
def test_the_words_under_each_layer_are_its_numbers(run: Run, section: str, layer: str) -> None:
    row, text = mean_of(run, 4, layer), words_of(section)
    assert (
        f"Round 4: {row['discovered']:.0f} of 10 overlaps exceed chance at a false-discovery rate "
        f"of 5 %. Weighted IoU {row['weighted']:.2f}, by chance {row['weighted_chance']:.2f} "
        "(1 without scores)." in text
    )
    assert (
        f"Round 4: own class {row['own']:.2f}, other classes {row['swapped']:.2f}. "
        f"{row['closest']:.0f} of 10 circuits are closest to their own class; by luck 2.5 would be."
        in text
    )
    assert f"relative to it the overlap is {row['corrected']:.2f} (median of 10)" in text
    assert "held over all 12 pairs" in text


@needs_browser
def test_every_class_is_drawn_with_own_and_other_classes(run: Run, section: str) -> None:
    table = overlaps.by_class(run, 4)
    for index, name in enumerate(NAMES):
        row = table.loc[index]
        tip = (
            f"class {name}, round 4, {row['n']} clients\nown class {row['own']:.3f}\n"
            f"other classes {row['swapped']:.3f}\nclosest other class {row['swapped_max']:.3f}"
        )
        assert html.unescape(section).count(tip) >= 3  # the bar, the three marks


@needs_browser
def test_a_cell_tells_every_measure(run: Run, section: str) -> None:
    rows = run.table("overlap").merge(run.table("class_swap"))
    rows = rows[(rows["round"] == 4) & (rows["layer"] == "all") & (rows["client"] == "0")]
    row = rows.iloc[0]
    (tip,) = re.findall(
        r'data-tip="(client 0, class zebra, round 4\nIoU[^"]*)"', html.unescape(section)
    )
    assert f"IoU {row['iou']:.3f}, chance {row['chance']:.3f}" in tip
    assert ", q " in tip
    assert f"weighted {row['weighted']:.3f}, chance {row['weighted_chance']:.3f}" in tip
    assert f"other classes {row['swapped']:.3f}, closest {row['swapped_max']:.3f}" in tip


@needs_browser
def test_what_an_older_run_lacks_is_told_and_not_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", Story(measured_from=99))
    text = words_of(drawn(run, tmp_path))
    row = mean_of(run, 4, "all")
    above = round(row["significant"] * row["n"])
    assert f"{above} of 10 overlaps above chance (p < .05, not corrected for their number)" in text
    assert (
        "Not recorded in this run, so not shown: p-values corrected for their number (q-values); "
        "overlaps of scores (weighted IoU)." in text
    )
    assert "Overlaps with other classes were not recorded in this run" in text
    for absent in ("mean weighted IoU", "other classes (mean)", "closest other class", "5 %"):
        assert absent not in text


def test_the_embedded_data_say_what_was_recorded(tmp_path: Path) -> None:
    new = page_data(make_run(tmp_path / "new", Story(ceiling=True)))["overlap"]["recorded"]
    assert new == {"q_value": True, "weighted": True, "others": True, "ceiling": True}
    old = page_data(make_run(tmp_path / "old", Story(measured_from=99)))["overlap"]["recorded"]
    assert old == {"q_value": False, "weighted": False, "others": False, "ceiling": False}
