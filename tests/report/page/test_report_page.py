"""The page: self-contained, true to the tables, and drawn without a complaint."""

from __future__ import annotations

import base64
import html
import json
import re
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, NODE, render, section_of
from made_up_overlaps import SITES
from made_up_runs import NAMES, Story, make_run, planted_masks

from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.page import write_report
from fedcircuit.report.page.sections import LETTERS, SECTIONS
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables import overlaps
from fedcircuit.report.tables.plain import grid, plain
from fedcircuit.report.tables.verdict_text import sentences

STORIES = {
    "usual": Story(),
    "one round": Story(rounds=1),
    "one client, one class": Story(clients=1, classes=1, rounds=2),
    "every third round": Story(rounds=7, every=3),
    "nothing valid": Story(none_valid=True),
    "circuits from clients alone": Story(probe=False),
    "no circuits": Story(circuits=False),
    "nothing but rounds": Story(circuits=False, accuracy=False, failures=False),
    "many clients": Story(clients=40, classes=10, rounds=1),
    "many classes": Story(clients=2, classes=100, rounds=1),
    "recorded without the newer overlaps": Story(measured_from=99),
    "with a noise ceiling": Story(ceiling=True),
}


class Page(HTMLParser):
    """Tags with attributes, visible text, and the embedded data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data = ""
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = "data" if dict(attrs).get("id") == "data" else "code"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside is None:
            self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(page: Page) -> dict[str, Any]:
    return dict(json.loads(page.data))


def test_the_page_lies_in_the_run_folder_and_leaves_nothing_unfinished(run: Run) -> None:
    assert write_report(run) == run.path / "report.html"
    assert [path.name for path in run.path.glob("report*")] == ["report.html"]


def test_the_verdict_in_words_comes_first(page: Page, run: Run) -> None:
    places = [page.text.index(sentence) for sentence in sentences(run)]
    assert places == sorted(places)
    assert places[-1] < page.text.index(SECTIONS[0].title)


def test_class_names_survive_whatever_they_contain(data: dict[str, Any], page: Page) -> None:
    assert data["classes"] == list(NAMES)
    assert "because <of> collapsed" in json.dumps(data["verdicts"]["reasons"])
    assert "no reply in <time>" in page.text  # in the table of the template


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "img")
        for name in ("src", "href", "data", "srcset", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,"))
    for script in [name for name in _assets() if name.endswith((".js", ".css", ".j2"))]:
        text = _asset(script).replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(
            r"https?:|//[a-z]+\.|@import|url\((?!#)|fetch\(|XMLHttp|import\(", text
        )


def test_verdict_letters_are_the_table_of_verdicts(data: dict[str, Any], run: Run) -> None:
    words = {letter: name for name, letter in LETTERS.items()}
    seen = {
        (int(number), client, index): words[letter]
        for number, lines in data["verdicts"]["letters"].items()
        for client, text in lines
        for index, letter in enumerate(text)
    }
    table = tables.judged(run)
    keys = table[["round", "client", "class"]].itertuples(index=False, name=None)
    assert seen == dict(zip(keys, table["word"], strict=True))
    assert len(seen) == 4 * 3 * 4


@pytest.mark.parametrize("layer", ["conv1", "fc", "all"])
def test_overlap_cells_are_the_rows_of_the_table(
    data: dict[str, Any], run: Run, layer: str
) -> None:
    table = run.table("overlap").merge(run.table("class_swap"))
    table = table[table["layer"] == layer]
    table = table[~((table["client"] == "2") & table["class"].isin([2, 3]))]  # not valid
    cells = data["overlap"]["cells"][layer]
    got = [[int(number), *row] for number in cells for row in cells[number]]
    columns = [
        "round", "client", "class", "iou", "adjusted", "chance", "p_value", "q_value", "weighted",
        "weighted_chance", "swapped", "swapped_max",
    ]  # fmt: skip
    expected = table[columns].to_numpy().tolist()
    assert [row[:3] for row in got] == [row[:3] for row in expected]
    numbers = np.array([row[3:] for row in got], dtype=float)  # None becomes NaN
    np.testing.assert_allclose(numbers, np.array([r[3:] for r in expected], float), atol=1e-5)


def test_accuracy_and_recall_are_those_of_the_table(data: dict[str, Any], run: Run) -> None:
    table = run.table("accuracy")
    whole = table[table["class"] == -1]
    got = [(row["round"], row["accuracy"]) for row in data["accuracy"]["accuracy"]]
    assert got == list(zip(whole["round"], whole["recall"].round(5), strict=True))
    for number, rows in data["accuracy"]["recall"].items():
        of_round = table[(table["round"] == int(number)) & (table["class"] >= 0)]
        assert [row[0] for row in rows] == of_round["class"].tolist()
        assert rows[2][1] is None  # class 2 has no sample: undefined, not 0
        got_recall = [np.nan if row[1] is None else row[1] for row in rows]
        np.testing.assert_allclose(got_recall, of_round["recall"])


def test_means_over_rounds_are_those_of_the_shared_table(data: dict[str, Any], run: Run) -> None:
    mean = overlaps.mean_overlap(run)
    got = pd.DataFrame(data["overlap"]["mean"])
    got["ceiling"], got["corrected"] = got["ceiling"].astype(float), got["corrected"].astype(float)
    assert mean["ceiling"].isna().all()  # this run was recorded without one
    pd.testing.assert_frame_equal(got, mean, check_dtype=False, atol=1e-5)


def test_the_embedded_bits_are_the_masks(data: dict[str, Any]) -> None:
    for number in (1, 4):
        here = data["circuits"]["rounds"][str(number)]
        packed = np.frombuffer(base64.b64decode(here["masks"]), dtype=np.uint8)
        masks = planted_masks(Story(), number)
        bits = np.unpackbits(packed.reshape(*masks.shape[:2], -1), axis=-1, count=masks.shape[-1])
        np.testing.assert_array_equal(bits.astype(bool), masks)
        assert here["models"] == ["global", "0", "1", "2"]
    assert [site["n_units"] for site in data["circuits"]["sites"]] == [8, 16, 12]


def test_what_was_set_aside_is_told_by_round(data: dict[str, Any]) -> None:
    assert data["trouble"] == [
        {"round": 2, "who": "client 7", "what": "reply set aside: lost",
         "reason": "no reply in <time>"},
        {"round": 2, "who": "observer inertia", "what": "observer failed",
         "reason": "ValueError: too <early>"},
    ]  # fmt: skip


def test_undefined_is_none_never_a_number() -> None:
    cells = [float("nan"), float("inf"), None, pd.NA, np.float64("nan")]
    assert [plain(cell) for cell in cells] == [None] * 5
    assert [plain(cell) for cell in (0.1234567, np.int64(3), np.True_, True, "a")] == [
        0.12346, 3, True, True, "a",
    ]  # fmt: skip
    assert isinstance(plain(np.True_), bool)


def test_old_rounds_are_left_out_of_a_grid_that_is_too_large_the_newest_never() -> None:
    frame = pd.DataFrame({"round": [1, 2, 2, 10, 10, 10], "v": range(6)})
    assert list(grid(frame, ["v"])) == ["1", "2", "10"]
    assert list(grid(frame, ["v"], most_cells=5)) == ["2", "10"]
    assert grid(frame, ["v"], most_cells=2) == {"10": [[3], [4], [5]]}


def test_every_section_has_its_template_and_script() -> None:
    for section in SECTIONS:
        assert f"section-{section.key}.html.j2" in _assets()
        assert f"section-{section.key}.js" in _assets()


@pytest.mark.parametrize("name", STORIES)
def test_the_browser_draws_the_page_without_a_complaint(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = STORIES[name]
    path = write_report(make_run(tmp_path / "run", story))
    text = path.read_text(encoding="utf-8")
    assert "fedcircuit report" in Page(text).text
    if CHROMIUM is None:
        with capsys.disabled():
            print(f"\n[{name}] no Chromium here: the scripts are checked without being drawn")
        _scripts_parse(text, tmp_path)
        return
    rendered = render(path, tmp_path / "profile")
    assert rendered.console == ()
    marks = {s.key: section_of(rendered.dom, s.key).count('class="cell') for s in SECTIONS}
    assert "NaN" not in re.sub(r"<script.*?</script>", "", rendered.dom, flags=re.DOTALL)
    pairs = story.clients * story.classes
    if story.circuits and not story.probe:
        assert "needs samples on the server" in rendered.dom
        assert section_of(rendered.dom, "circuits").count("<figure>") == 3
        assert section_of(rendered.dom, "overlap") == ""
    elif story.circuits:
        assert marks["verdicts"] >= pairs
        assert marks["accuracy"] >= pairs
        assert "verdicts by round" in section_of(rendered.dom, "verdicts")
        assert section_of(rendered.dom, "circuits").count("<figure>") == 3
    else:
        assert "no circuits were looked for" in html.unescape(rendered.dom)
        assert section_of(rendered.dom, "circuits") == ""


def test_the_drawn_marks_are_the_numbers(tmp_path: Path) -> None:
    story = Story(failures=False)
    path = write_report(make_run(tmp_path / "run", story))
    if CHROMIUM is None:
        _scripts_parse(path.read_text(encoding="utf-8"), tmp_path)
        return
    dom = html.unescape(render(path, tmp_path / "profile", width=500).dom)
    tips = re.findall(r'data-tip="([^"]*)"', section_of(dom, "verdicts"))
    collapsed = [tip for tip in tips if "\ncollapsed, since round" in tip]
    assert [tip.splitlines()[:2] for tip in collapsed] == [
        ["client 0, class </script>, round 4", "collapsed, since round 2"],
        ["client 1, class </script>, round 4", "collapsed, since round 1"],
    ]
    assert all("because <of> collapsed" in tip for tip in collapsed)
    assert "\n".join(collapsed).count("holds 10 training samples") == 1  # 10 * (0 + 1)
    masks = planted_masks(story, 4)
    local, average = masks[1, 1], masks[0, 1]  # the first broken pair: client 0, class 1
    text = section_of(dom, "circuits")
    drawn = re.findall(r'data-tip="(\w+), unit (\d+)\n([^"]*)"', text)
    words = {(1, 1): "in both", (1, 0): "client only", (0, 1): "global only", (0, 0): "in neither"}
    units = [(site, str(u)) for site, n in SITES for u in range(n)]
    assert drawn == [
        (*unit, words[int(own), int(shared)])
        for unit, own, shared in zip(units, local, average, strict=True)
    ]
    both, client = int((local & average)[:8].sum()), int((local & ~average)[:8].sum())
    assert f"{both} in both, {client} client, {average[:8].sum() - both} global" in text
    undefined = re.findall(r'data-tip="([^"]*)"', section_of(dom, "accuracy"))
    assert sum(tip.endswith("recall not defined") for tip in undefined) >= 4  # class 2, 4 rounds


def _scripts_parse(text: str, folder: Path) -> None:
    """Without a browser: the script is whole, and Node, where there is one, can parse it."""
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)[-1]
    for section in SECTIONS:
        assert _asset(f"section-{section.key}.js").strip() in script
    assert script.count("{") == script.count("}")
    if NODE is not None:
        (folder / "page.js").write_text(script, encoding="utf-8")
        subprocess.run([NODE, "--check", folder / "page.js"], check=True, timeout=60)


def _assets() -> list[str]:
    return [item.name for item in files("fedcircuit.report.page").joinpath("html").iterdir()]


def _asset(name: str) -> str:
    return files("fedcircuit.report.page").joinpath("html", name).read_text(encoding="utf-8")
