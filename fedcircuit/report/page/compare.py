"""Runs side by side: studies that differ in their seed alone become mean and spread."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined

from fedcircuit.circuits.models import layer_title
from fedcircuit.records.files import write_whole, writing
from fedcircuit.records.runs import Look, Run
from fedcircuit.report.page.page import asset
from fedcircuit.report.tables import STATUS_NAMES, VERDICT_NAMES, overlaps
from fedcircuit.report.tables import counts as tables

FEW_SEEDS = 3  # below it a spread says little
IDENTITY = ["study", "seed", "run", "round"]


def summary_row(run: Run) -> dict[str, float]:
    """The last observed round of a run in figures; undefined ones are NaN.

    Accuracy; the share of client-class pairs with a valid circuit; the number of each verdict, and
    preserved ones as a share of the valid; by layer mean IoU, its chance level and adjusted IoU;
    over all layers the newer measures that the run recorded.
    """
    accuracy = tables.accuracy(run)
    row = {"accuracy": float(accuracy["accuracy"].iloc[-1]) if len(accuracy) else nan}
    counts = tables.verdict_counts(run)
    if len(counts):
        last = counts.iloc[-1]
        pairs, valid = int(last[list(STATUS_NAMES)].sum()), int(last["valid"])
        row["valid share"] = valid / pairs
        row["preserved share"] = int(last["preserved"]) / valid if valid else nan
        row |= {name: float(last[name]) for name in VERDICT_NAMES}
    overlap = overlaps.mean_overlap(run)
    for layer in overlap[overlap["round"] == overlap["round"].max()].to_dict(orient="records"):
        name = layer_title(str(layer["layer"]))
        for column, word in (("iou", "IoU"), ("chance", "chance"), ("adjusted", "adjusted IoU")):
            row[f"{word} {name}"] = float(layer[column])
        if layer["layer"] == tables.ALL_LAYERS:
            row |= _newer(run, layer)
    return row


def _newer(run: Run, layer: Mapping[Hashable, float]) -> dict[str, float]:
    """Figures over all layers that older runs lack: only those the run recorded."""
    recorded = overlaps.recorded(run)
    row: dict[str, float] = {}
    if recorded["q_value"]:
        tested = int(layer["n_tested"])
        row["above chance (q)"] = int(layer["discovered"]) / tested if tested else nan
    if recorded["weighted"]:
        row["weighted IoU all"] = float(layer["weighted"])
        row["weighted chance all"] = float(layer["weighted_chance"])
    if recorded["others"]:
        row["adjusted IoU other classes"] = float(layer["swapped"])
        pairs = int(layer["n_swapped"])
        row["closest to own class"] = int(layer["closest"]) / pairs if pairs else nan
    if recorded["ceiling"]:
        row["noise ceiling all"] = float(layer["ceiling"])
    return row


def comparison(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: study, seed, run, round, and the figures of :func:`summary_row`.

    Raises
    ------
    ValueError
        If there is no run, or two are the same study with the same seed: they are one experiment.
    """
    if not runs:
        raise ValueError("nothing to compare: name at least one run folder")
    studies = study_names(runs)
    rows: list[dict[str, object]] = []
    for run, study in zip(runs, studies, strict=True):
        seed = run.manifest.get("seed")
        for other in rows:
            if (other["study"], other["seed"]) == (study, seed):
                raise ValueError(
                    f"{other['run']} and {run.path} are the same study with the same seed {seed}, "
                    "so they are one experiment: name only one of them"
                )
        last = max(run.rounds, default=0)
        own = {"study": study, "seed": seed, "run": str(run.path), "round": last}
        rows.append({**own, **summary_row(run)})
    return pd.DataFrame(rows)


def study_names(runs: Sequence[Run]) -> list[str]:
    """Name of each run's study: equal where configurations differ in the seed alone.

    Studies of one name are told apart by the settings in which they differ. Runs without a
    configuration (of one's own script) are told apart by their name alone.
    """
    configs = [_flat(run.manifest.get("config") or {}) for run in runs]
    names = []
    for run, config in zip(runs, configs, strict=True):
        alike = [c for r, c in zip(runs, configs, strict=True) if _name(r) == _name(run)]
        keys = sorted({key for other in alike for key in other})
        differing = [k for k in keys if len({other.get(k, "unset") for other in alike}) > 1]
        told = ", ".join(f"{key}={config.get(key, 'unset')}" for key in differing)
        names.append(f"{_name(run)} ({told})" if told else _name(run))
    return names


def _name(run: Run) -> str:
    """Name of a run; a later look at it is told from the run."""
    return f"{run.name}, look {run.path.resolve().name}" if isinstance(run, Look) else run.name


def _flat(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif prefix + key != "seed":
            flat[prefix + key] = json.dumps(value)
    return flat


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Over seeds, one row a study and figure: study, figure, mean, sd, n.

    Parameters
    ----------
    rows
        From :func:`comparison`. ``n`` counts the seeds in which the figure is defined; ``sd`` is
        the sample standard deviation, NaN for fewer than two.
    """
    long = rows.melt(id_vars=IDENTITY, var_name="figure", value_name="value")
    groups = long.groupby(["study", "figure"], sort=False)["value"]
    return groups.agg(mean="mean", sd="std", n="count").reset_index()


def _side_by_side(rows: pd.DataFrame) -> pd.DataFrame:
    """Figures down, studies across, as text."""
    table = spread(rows)
    runs = rows["study"].value_counts()
    table["text"] = [
        mean_and_sd(mean, sd, n=n, of=runs[study])
        for study, _, mean, sd, n in table.itertuples(index=False)
    ]
    studies, figures = table["study"].unique(), table["figure"].unique()
    wide = table.pivot(index="figure", columns="study", values="text").loc[figures, studies]
    seeds = rows.groupby("study", sort=False)["seed"].apply(lambda s: ", ".join(map(str, s)))
    return pd.concat([seeds.rename("seeds").to_frame().T[list(studies)], wide])


def mean_and_sd(mean: float, sd: float, *, n: int, of: int) -> str:
    """``0.512 ± 0.030``; without spread where one seed has the figure, which is said."""
    if not n:
        return "not defined"
    text = f"{mean:.3f} ± {sd:.3f}" if isfinite(sd) else f"{mean:.3f}"
    return text if n == of else f"{text} ({n} of {of} seeds)"


def comparison_text(runs: Sequence[Run]) -> str:
    """Mean and standard deviation over seeds, one column a study, for a terminal."""
    rows = comparison(runs)
    text = str(_side_by_side(rows).to_string())
    few = _few_seeds(rows)
    if few:
        text += f"\nFewer than {FEW_SEEDS} seeds, so the spread says little: {', '.join(few)}"
    return text


def _few_seeds(rows: pd.DataFrame) -> list[str]:
    return [str(study) for study, n in rows["study"].value_counts().items() if n < FEW_SEEDS]


def write_comparison(runs: Sequence[Run], path: Path) -> Path:
    """A page of all figures; beside it CSV of single runs and of mean and spread over seeds."""
    rows = comparison(runs)
    with writing(path.with_suffix(".csv")):
        rows.to_csv(path.with_suffix(".csv"), index=False)
        spread(rows).to_csv(path.with_name(f"{path.stem}-studies.csv"), index=False)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    wide = _side_by_side(rows)
    figures = [name for name in wide.index if name != "seeds"]
    html = environment.from_string(asset("comparison.html.j2")).render(
        style=asset("page.css"),
        studies=list(wide.columns),
        wide={name: list(wide.loc[name]) for name in wide.index},
        figures=figures,
        values={name: _values(rows, name, list(wide.columns)) for name in figures},
        counted=VERDICT_NAMES,
        few=_few_seeds(rows),
        runs=rows.round(4).astype(object).where(rows.notna(), "not defined").to_dict("split"),
    )
    with writing(path):
        write_whole(path, html.encode())
    return path


def _values(rows: pd.DataFrame, figure: str, studies: Sequence[str]) -> list[list[float]]:
    """Of each study, the defined values of its seeds."""
    return [
        [float(v) for v in rows.loc[rows["study"] == study, figure].dropna()] for study in studies
    ]
