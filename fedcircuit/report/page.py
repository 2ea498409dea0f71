"""The report: one HTML file that opens offline, drawn from a run on disk alone."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from fedcircuit.records.run import Run
from fedcircuit.report.payload import build_payload


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, by default ``report.html`` in its folder.

    It can be written while the run goes on, and again at any time.
    """
    target = run.path / "report.html" if path is None else path
    payload = build_payload(run)
    # "</script>" inside a string would end the script; "<" never needs to stand as it is
    data = json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(_asset("page.html.j2"))
    html = template.render(
        run=payload, data=data, style=_asset("page.css"), script=_asset("page.js")
    )
    target.write_text(html, encoding="utf-8")
    return target


def _asset(name: str) -> str:
    return files("fedcircuit.report").joinpath(name).read_text(encoding="utf-8")
