"""The report: one HTML file that opens offline, drawn from a run on disk alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from fedcircuit.records.files import write_whole, writing
from fedcircuit.records.runs import Look, Run
from fedcircuit.report.page.sections import LETTERS, SECTIONS
from fedcircuit.report.tables import STATUSES, VERDICTS, sentences
from fedcircuit.report.tables import counts as tables

_SCRIPTS = ("draw.js", "charts.js", *(f"section-{s.key}.js" for s in SECTIONS), "page.js")


def write_report(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run, by default ``report.html`` in its folder.

    It can be written while the run goes on, and again at any time: the page is replaced whole.
    """
    target = run.path / "report.html" if path is None else path
    payload = page_data(run)
    # "</script>" inside a string would end the script; "<" never needs to stand as it is
    data = json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(asset), trim_blocks=True
    )
    html = environment.get_template("page.html.j2").render(
        run=payload,
        sections=[section for section in SECTIONS if _is_shown(section.key, payload)],
        data=data,
        style=asset("page.css"),
        script="\n".join(asset(name) for name in _SCRIPTS),
    )
    with writing(target):
        write_whole(target, html.encode())  # a browser that reloads never sees half a page
    return target


def page_data(run: Run) -> dict[str, Any]:
    """Everything the page draws, as plain values; undefined numbers are None."""
    seen = {str(client) for client in run.clients["client"]}
    return {
        "name": run.name,
        "sentences": sentences(run),
        "looks": links_to_looks(run),
        "seed": run.manifest.get("seed"),
        "created": run.manifest.get("created"),
        "classes": list(run.class_names),
        "rounds": list(run.rounds),
        "clients": tables.natural_order(list(seen)),
        "words": {LETTERS[w.name]: {**asdict(w), "text": w.text} for w in (*VERDICTS, *STATUSES)},
        **{section.key: section.data(run) for section in SECTIONS},
    }


def links_to_looks(run: Run) -> list[dict[str, str]]:
    """Pages of other looks at the same weights: title and address, from this page's folder.

    Only pages that are written already; of a look, that of its run and of its other looks.
    """
    look = run if isinstance(run, Look) else None
    whole, up = (run, "") if look is None else (look.run, "../../")
    pages = [] if look is None else [("as recorded", "report.html")]
    own = "" if look is None else look.path.resolve().name
    pages += [(name, f"looks/{name}/report.html") for name in whole.looks if name != own]
    return [
        {"title": title, "address": up + page}
        for title, page in pages
        if (whole.path / page).exists()
    ]


def _is_shown(key: str, payload: dict[str, Any]) -> bool:
    """A run without circuits needs no empty frames for them, but is told so at the top."""
    return key in ("verdicts", "accuracy", "trouble", "setting") or bool(_filled(payload[key]))


def _filled(data: Any) -> bool:
    return any(map(_filled, data.values())) if isinstance(data, dict) else bool(data)


def asset(name: str) -> str:
    """Text of a file of this package."""
    return files("fedcircuit.report.page").joinpath("html", name).read_text(encoding="utf-8")
