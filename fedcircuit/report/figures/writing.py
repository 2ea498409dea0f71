"""Seaborn figures of a run for papers, each with the data behind it as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from fedcircuit.records.files import writing
from fedcircuit.records.runs import Run
from fedcircuit.report.figures import (
    grids as figure_grids,
)
from fedcircuit.report.figures import (
    inertia as figure_inertia,
)
from fedcircuit.report.figures import (
    information as figure_information,
)
from fedcircuit.report.figures import (
    overlaps as figure_overlaps,
)
from fedcircuit.report.figures import (
    plots as figure_plots,
)
from fedcircuit.report.figures.plots import Drawn

FORMATS = ("svg", "pdf", "png")
FIGURES: Mapping[str, Callable[[Run], Drawn | None]] = {
    "accuracy": figure_plots.accuracy,
    "class-recall": figure_grids.class_recall,
    "overlap": figure_overlaps.overlap,
    "class-swap": figure_overlaps.class_swap,
    "verdicts": figure_grids.verdicts,
    "function": figure_plots.function,
    "sizes": figure_plots.sizes,
    "inertia": figure_inertia.inertia,
    "information": figure_information.information,
}
_METADATA: Mapping[str, dict[str, Any]] = {
    "svg": {"Date": None},  # the same run gives the same file
    "pdf": {"CreationDate": None},
    "png": {},
}


def write_figures(
    run: Run, folder: Path | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write every figure the run has data for, by default into its folder ``figures``.

    Parameters
    ----------
    run, folder
        What is drawn, and where to.
    formats
        Some of ``svg``, ``pdf`` and ``png``. The CSV with the numbers is written in any case.

    Returns
    -------
    list[Path]
        The files, a figure's CSV before its pictures.

    Raises
    ------
    ValueError
        If a format is unknown or the run has nothing to draw.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown figure formats {unknown}; known: {', '.join(FORMATS)}")
    target = run.path / "figures" if folder is None else folder
    written: list[Path] = []
    with paper_style():
        for name, draw in FIGURES.items():
            drawn = draw(run)
            if drawn is None:
                continue
            figure, data = drawn
            written.append(target / f"{name}.csv")
            with writing(written[-1]):
                target.mkdir(parents=True, exist_ok=True)
                data.to_csv(written[-1], index=False)
            for kind in formats:
                written.append(target / f"{name}.{kind}")
                save_picture(figure, written[-1])
    if not written:
        raise ValueError(f"{run.path} has nothing to draw: no accuracy and no circuits recorded")
    return written


def save_picture(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the name's ending, one of `FORMATS`, the same bytes again.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    with writing(path):
        figure.savefig(path, dpi=200, metadata=_METADATA[path.suffix.removeprefix(".")])


@contextmanager
def paper_style() -> Iterator[None]:
    """Seaborn's look for these figures only; nobody else's settings change."""
    look: dict[Any, Any] = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper", font_scale=1.1),
        "svg.fonttype": "none",  # text stays text
        "pdf.fonttype": 42,  # fonts are embedded, as publishers ask
        "svg.hashsalt": "fedcircuit",
        "figure.constrained_layout.use": True,
        "savefig.bbox": "tight",
        "axes.titlelocation": "left",
        "axes.titlesize": "medium",
        "hatch.linewidth": 0.5,
        "axes.linewidth": 0.8,
    }
    with mpl.rc_context(look):
        yield
