"""Runs side by side: studies that differ in their seed alone become mean and spread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from math import isnan
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from fedcircuit.records.run import Run
from fedcircuit.report import tables
from fedcircuit.report.words import VERDICTS


def summary_row(run: Run) -> dict[str, object]:
    """The last observed round of a run in figures; undefined ones are NaN."""
    nan = float("nan")
    accuracy = tables.accuracy(run)
    row: dict[str, object] = {
        "study": run.name,
        "seed": run.manifest["seed"],
        "run": str(run.path),
        "rounds": len(run.rounds),
        "accuracy": float(accuracy["accuracy"].iloc[-1]) if len(accuracy) else nan,
    }
    counts = tables.verdict_counts(run)
    if len(counts):
        last = counts.iloc[-1]
        looked_at = sum(int(last[s]) for s in ("valid", "undiscovered", "not_learned", "absent"))
        row["valid share"] = int(last["valid"]) / looked_at if looked_at else nan
        for word in VERDICTS:
            row[word.name] = int(last[word.name])
    overlap = tables.mean_overlap(run)
    if len(overlap):
        for _, layer in overlap[overlap["round"] == overlap["round"].max()].iterrows():
            name = "all" if layer["layer"] == tables.ALL_LAYERS else f"layer {layer['layer']}"
            row[f"IoU {name}"] = layer["iou"]
            row[f"chance {name}"] = layer["chance"]
            row[f"adjusted {name}"] = layer["adjusted"]
    return row


def comparison(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run.

    Raises
    ------
    ValueError
        If there is no run.
    """
    if not runs:
        raise ValueError("nothing to compare: name at least one run folder")
    return pd.DataFrame([summary_row(run) for run in runs])


def spread(runs: Sequence[Run]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every figure, one row a study."""
    frame = comparison(runs)
    frame["study"] = [_study(run) for run in runs]
    numbers = frame.drop(columns=["seed", "run", "rounds"])
    grouped = numbers.groupby("study", sort=False)
    mean, sd = grouped.mean(), grouped.std(ddof=1)
    result = pd.DataFrame(index=mean.index)
    result["seeds"] = grouped.size()
    for name in mean.columns:
        result[name] = [_mean_sd(m, s) for m, s in zip(mean[name], sd[name], strict=True)]
    return result.reset_index()


def _study(run: Run) -> str:
    """Runs of one name whose configurations differ elsewhere than in the seed are kept apart."""
    config = dict(run.manifest["config"] or {})
    config.pop("seed", None)
    key = json.dumps(config, sort_keys=True)
    return f"{run.name} [{sum(key.encode()) % 0xFFFF:04x}]"


def _mean_sd(mean: float, sd: float) -> str:
    if isnan(mean):
        return "not defined"
    return f"{mean:.3f}" if isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def comparison_text(runs: Sequence[Run]) -> str:
    """Mean and standard deviation over seeds, one column a study."""
    turned = spread(runs).set_index("study").T
    return str(turned.to_string())


def write_comparison(runs: Sequence[Run], path: Path) -> Path:
    """A page of both tables, and the rows of single runs as CSV beside it."""
    rows = comparison(runs)
    rows.to_csv(path.with_suffix(".csv"), index=False)
    package = files("fedcircuit.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(package.joinpath("comparison.html.j2").read_text("utf-8"))
    html = template.render(
        style=package.joinpath("page.css").read_text("utf-8"),
        studies=spread(runs).set_index("study").T.reset_index().to_dict(orient="split"),
        runs=rows.round(4).to_dict(orient="split"),
    )
    path.write_text(html, encoding="utf-8")
    return path
