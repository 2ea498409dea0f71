"""What a notebook shows of runs, circuits and verdicts: well-formed, escaped, small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from made_up_runs import Story, make_run
from matplotlib.figure import Figure

import fedcircuit
from fedcircuit.circuits.circuit import Circuit, CircuitStack, Site
from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit
from fedcircuit.html import Html, bar, block, cell, counted, table
from fedcircuit.report.figures.writing import FIGURES
from fedcircuit.report.notebook.loaded_run import Run, VerdictTable

VOID = {"br", "meta", "hr", "img"}
SMALL = 20_000  # bytes


class Balanced(HTMLParser):
    """Every tag that is opened is closed in turn; text as it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(shown: str, most: int = SMALL) -> str:
    """The text of well-formed HTML that is small and has no tags but ours, one piece a word."""
    parser = Balanced()
    parser.feed(shown)
    parser.close()
    assert parser.open == []
    assert parser.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "span", "b"}
    assert len(shown.encode()) < most
    assert not re.search(r"(?<!-)color:(?!inherit)(?![^;]*;padding)", shown)  # but of the symbols
    return re.sub(r"\s+", " ", " ".join(parser.text))


def test_a_tag_that_is_not_closed_is_found() -> None:
    with pytest.raises(AssertionError):
        read("<div><b>x</div>")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.load(make_run(tmp_path_factory.mktemp("notebook") / "run", Story()).path)


def test_the_public_run_is_the_one_with_figures() -> None:
    assert fedcircuit.Run is Run


def test_a_run_shows_what_it_is_with_counts_accuracy_and_chance(run: Run) -> None:
    text = read(run._repr_html_())
    assert text.startswith("made-up Averaging preserved 7 of 10 valid circuits in round 4")
    assert "12 pairs of client and class in round 4" in text
    for word, count in (("preserved", 7), ("collapsed", 2), ("degraded", 1)):
        assert re.search(rf"{word} verdict {count} ", text)
    assert re.search(r"valid status of the circuit 10 ", text)
    assert re.search(r"not learned status of the circuit 1 ", text)
    assert "Accuracy of the global model: 0.240 in round 4 (held-out samples)." in text
    assert "layer module mean IoU by chance pairs conv1 conv1 0." in text
    assert "replies set aside 1 " in text
    assert "observers failed 1 time" in text


def test_the_verdicts_are_a_grid_with_escaped_class_names(run: Run) -> None:
    verdicts = run.table("verdicts")
    assert isinstance(verdicts, VerdictTable)
    shown = verdicts._repr_html_()
    text = read(shown)
    assert "zebra </script> öde <b> cat & dog client 0 ▲" not in text
    assert re.search(r"zebra </script> öde <b> cat & dog client 0 ● ✖ ● ● client 1 ▲ ✖ ● ●", text)
    assert "<b>öde" not in shown
    assert "öde &lt;b&gt;" in shown
    assert "Accuracy of the global model: 0.240" in text
    assert "mean IoU by chance" in text


def test_what_is_made_of_the_verdicts_is_an_ordinary_frame(run: Run) -> None:
    verdicts = run.table("verdicts")
    assert type(verdicts[verdicts["round"] == 4]) is pd.DataFrame
    assert type(run.table("overlap")) is pd.DataFrame
    assert "class" in pd.DataFrame(verdicts).to_html()
    assert "class" in read(VerdictTable(verdicts)._repr_html_().replace(' border="1"', ""), 10**6)


@pytest.mark.parametrize(
    "story",
    [Story(circuits=False), Story(probe=False), Story(none_valid=True), Story(accuracy=False),
     Story(rounds=1, clients=18, classes=22)],
)  # fmt: skip
def test_whatever_a_run_lacks_it_can_be_shown(story: Story, tmp_path: Path) -> None:
    run = Run.load(make_run(tmp_path / "run", story).path)
    text = read(run._repr_html_())
    if not story.accuracy:
        assert "Accuracy of the global model: not measured." in text
    if "verdicts" in run.table_names:
        grid = read(run.table("verdicts")._repr_html_(), 50_000)
        assert ("2 clients and 2 classes not shown" in grid) == (story.clients == 18)


def test_an_empty_run_can_be_shown(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", Story(rounds=0)).path
    assert "No round is recorded yet." in read(Run.load(path)._repr_html_())


def test_a_loaded_run_that_is_refreshed_keeps_its_figures(run: Run) -> None:
    assert type(run.refresh()) is Run


@pytest.mark.parametrize("name", [n for n in FIGURES if n not in ("inertia", "information")])
def test_every_figure_of_the_report_can_be_had(run: Run, name: str) -> None:
    others = plt.get_fignums()
    figure = run.plot(name)
    assert isinstance(figure, Figure)
    assert figure.axes
    assert figure._repr_png_()[:4] == b"\x89PNG"  # type: ignore[attr-defined]
    assert plt.get_fignums() == others


def test_an_unknown_figure_is_refused_with_the_list(run: Run) -> None:
    with pytest.raises(ValueError, match="did you mean 'verdicts'") as error:
        run.plot("verdict")
    assert all(name in str(error.value) for name in FIGURES)


def test_a_figure_without_data_is_refused_in_words(run: Run) -> None:
    with pytest.raises(ValueError, match="recorded nothing to draw in 'information'"):
        run.plot("information")


SITES = (Site("0", 4, 1, "0", "conv", "conv1"), Site("a.<b>", 2, -1, "a.<b>", "fc", "a.<b>"))
MASKS = torch.tensor([[[1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]]], dtype=torch.bool)
STACK = CircuitStack(SITES, ("global",), MASKS, torch.tensor([[True, False]]))


def test_a_circuit_shows_its_size_by_site_under_the_sites_names() -> None:
    circuit = STACK.circuit("global", 0)
    assert circuit is not None
    text = read(circuit._repr_html_())
    assert "Circuit of 3 units of 6 50 % layer module kept of share" in text.replace("\xa0", " ")
    assert "conv1 0 2 4 50 % a.<b> a.<b> 1 2 50 %" in text.replace("\xa0", " ")
    assert circuit.complement().called == circuit.called
    assert "0 0 2 4" in read(Circuit(circuit.masks)._repr_html_())  # nothing but the path is known


def test_circuits_of_edges_and_stacks_are_shown_too() -> None:
    edges = EdgeCircuit({"fc": torch.tensor([[True, False, False]])})
    assert read(edges._repr_html_()).startswith("Circuit of 1 edge of 3")
    text = read(STACK._repr_html_())
    assert "1 circuit of 1 model and 2 classes" in text
    assert "global 3 none" in text


def test_what_discovery_found_is_shown_with_what_it_did_not_find() -> None:
    probe, model = _digits()
    found = fedcircuit.discover(model, probe)
    text = read(found._repr_html_())
    n = int(found.found.sum())
    assert f"{n} circuits found for 10 classes" in text
    assert "fc1 (of 16)" in text
    checked = _checked(model, probe)
    counts = read(checked._repr_html_()).split(" class status")[0]
    assert sum(map(int, re.findall(r"(\d+) [a-z]", counts))) == 10


def _digits() -> tuple[fedcircuit.Probe, torch.nn.Module]:
    from fedcircuit.learning.data.datasets import load_dataset
    from fedcircuit.learning.sources.data_source import DataSource

    digits = load_dataset(DataSource("digits"), seed=0)
    torch.manual_seed(0)
    size = digits.test.inputs[0].numel()
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(size, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
    )
    return fedcircuit.Probe.split(digits.test, digits.class_names, seed=0), model


def _checked(model: torch.nn.Module, probe: fedcircuit.Probe):  # type: ignore[no-untyped-def]
    from fedcircuit.circuits.round.model_circuits import circuits_of_model

    return circuits_of_model(model, probe, fedcircuit.CircuitSettings(), seed=0)


def test_pieces_of_html_escape_and_say_what_is_undefined() -> None:
    assert cell("<b>&") == "&lt;b&gt;&amp;"
    assert (cell(None), cell(0.12345), cell(float("nan")), cell(Html("<b>"))) == (
        "", "0.123", "not defined", "<b>",
    )  # fmt: skip
    assert bar(float("nan")) == "not defined"
    assert "and 2 more" in table(("a",), [(i,) for i in range(42)])
    assert (counted(1, "class"), counted(2, "class"), counted(3, "unit")) == (
        "1 class", "2 classes", "3 units",
    )  # fmt: skip
    assert "&lt;i&gt;" in block("<i>", "<i>")


NOTEBOOK = Path(__file__).parents[3] / "docs" / "notebook.ipynb"


def test_the_outputs_of_the_notebook_are_not_committed() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = [one for one in cells if one["cell_type"] == "code"]
    assert len(code) >= 5
    assert [one for one in code if one["outputs"] or one["execution_count"] is not None] == []
