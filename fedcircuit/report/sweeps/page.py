"""The page of a sweep, one HTML file that opens offline, with its tables as CSV and its figure."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fedcircuit.records.files import write_whole, writing
from fedcircuit.records.sweeps import Sweep
from fedcircuit.report.figures import FORMATS, paper_style, save_picture
from fedcircuit.report.page import asset
from fedcircuit.report.sweeps.figure import draw
from fedcircuit.report.sweeps.measures import FIGURES
from fedcircuit.report.sweeps.tables import Compared, compared
from fedcircuit.report.sweeps.words import NOT_DEFINED, difference_text, mean_text, remarks


def write_sweep_report(sweep: Sweep, path: Path | None = None) -> tuple[Path, Compared]:
    """Write the page, by default ``sweep.html`` in the sweep's folder, and what is beside it.

    Beside ``NAME.html`` lie ``NAME-runs.csv``, ``NAME-arms.csv``, ``NAME-differences.csv`` and
    the figure as ``NAME.svg``, ``NAME.pdf`` and ``NAME.png``.

    Returns
    -------
    tuple[Path, Compared]
        The page, and what is on it.

    Raises
    ------
    RunError
        If a run is damaged or of other settings.
    ValueError
        If no run is finished, or the page is to have another ending than ``.html``.
    OSError
        If the disk does not take a file.
    """
    target = sweep.path / "sweep.html" if path is None else path
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the page must be called NAME.html, got {target.name}")
    found = compared(sweep)
    for name, table in (
        ("runs", found.runs),
        ("arms", found.arms),
        ("differences", found.differences),
    ):
        file = target.with_name(f"{target.stem}-{name}.csv")
        with writing(file):
            write_whole(file, table.to_csv(index=False).encode())
    with paper_style():
        picture = draw(found)
        for kind in FORMATS:
            save_picture(picture, target.with_suffix(f".{kind}"))
    with writing(target):
        write_whole(target, _html(found, target.with_suffix(".svg")).encode())
    return target, found


def _html(found: Compared, picture: Path) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = files("fedcircuit.report.sweeps").joinpath("html", "sweep.html.j2")
    arms = list(found.sweep.arms)
    runs = found.runs.round(4).astype(object).where(found.runs.notna(), NOT_DEFINED)
    svg = picture.read_text(encoding="utf-8")
    return environment.from_string(
        template.read_text(encoding="utf-8")
    ).render(
        style=Markup(asset("page.css")),  # our own file
        picture=Markup(svg[svg.index("<svg") :]),  # drawn here, names escaped
        arms=arms,
        first=found.first,
        n_seeds=len(found.sweep.seeds),
        figures=FIGURES,
        means={a: {f.name: mean_text(found, a, f) for f in FIGURES} for a in arms},
        differences={a: {f.name: difference_text(found, a, f) for f in FIGURES} for a in arms},
        remarks=remarks(found),
        runs=runs.to_dict("split"),
        configs={arm: json.dumps(found.sweep.arms[arm], indent=1) for arm in arms},
    )
