"""Runs of the published procedure beside the published figures (arXiv 2512.23043).

Raw IoU by layer over all observed rounds, in the published convention (all channels are the pool,
two empty circuits agree), for classes that the client holds; mean over runs and, with several,
the standard deviation. What the same circuits are worth as classifiers stands below.

    python experiments/circuit_preservation/published_table.py RUN [RUN ...]
"""

from __future__ import annotations

import sys
from itertools import combinations
from statistics import mean, stdev

from fedcircuit import CircuitStack, Run
from fedcircuit.analysis.questions import over_rounds, research_questions

QUESTIONS = ("RQ1", "RQ3", "RQ4", "RQ4-swap")


def common_classes(
    stack: CircuitStack, models: tuple[str, ...], held: list[list[int]], asked: list[int]
) -> CircuitStack:
    """Some models' circuits of the classes that were asked for and that all of them hold."""
    rows = [stack.models.index(model) for model in models]
    clients = [int(model) for model in models if model != "global"]
    classes = [c for c in asked if all(held[client][c] for client in clients)]
    return CircuitStack(
        stack.sites, models, stack.masks[rows][:, classes], stack.found[rows][:, classes]
    )


def answers(run: Run) -> dict[tuple[str, str], tuple[float, float]]:
    """Mean IoU and chance level by question and layer, local scope."""
    if run.partition is None:
        raise SystemExit(f"{run.path} has no partition; use a run of 'fedcircuit run'")
    held = run.partition["counts"]
    asked = run.manifest["config"]["circuits"]["options"].get("classes", range(len(held[0])))
    found = []
    for number in run.rounds:
        stack = run.masks(number)
        if stack is None:
            continue
        single = [(model,) for model in stack.models]
        for models in (*single, *combinations(stack.models, 2)):
            part = {number: common_classes(stack, models, held, list(asked))}
            wanted = ("RQ1",) if len(models) == 1 else QUESTIONS[1:]
            everything = research_questions(part, convention="published")
            found += [one for one in everything if one.question in wanted]
    return {
        (one.question, one.layer): (one.mean_iou, one.chance)
        for one in over_rounds(found)
        if one.scope == "local" and one.layer != "all"
    }


def spread(values: list[float]) -> str:
    """Mean, and standard deviation where there are several."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    """Print one line a question and layer, then accuracy and quality."""
    runs = [Run.load(path) for path in sys.argv[1:]]
    if not runs:
        raise SystemExit(__doc__)
    tables = [answers(run) for run in runs]
    for key in tables[0]:
        iou, chance = zip(*(table[key] for table in tables if key in table), strict=True)
        print(f"{key[0]:9} layer {key[1]:3} IoU {spread(list(iou))}  chance {spread(list(chance))}")
    accuracy = [run.table("accuracy").query("`class` == -1")["recall"].iloc[-1] for run in runs]
    print(f"global accuracy, last round: {spread([float(value) for value in accuracy])}")
    for column in ("recall", "fpr", "balanced_accuracy"):
        checked = [run.table("validity")[column].dropna().mean() for run in runs]
        print(f"circuits of learned classes, {column}: {spread([float(v) for v in checked])}")


if __name__ == "__main__":
    main()
