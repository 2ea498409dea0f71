"""The four questions of the paper (RQ1 to RQ4) for the newest observed round, as rows."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from fedcircuit.analysis.questions import research_questions
from fedcircuit.circuits import CircuitStack
from fedcircuit.records.runs import CIRCUITS, Run
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables.plain import plain

MOST_PAIRS = 2000  # of a question in a round; of more, an evenly spaced choice

ASKED = {
    ("RQ1", "local"): "Two classes of the same client: does every class have its own circuit?",
    ("RQ1", "global"): "Two classes of the global model",
    ("RQ2", "local"): "Same client and class, this round and the one observed before: stable?",
    ("RQ2", "global"): "Same class of the global model, this round and the one before",
    ("RQ3", "local"): "Same class in two clients: do clients agree?",
    ("RQ3-swap", "local"): "Different classes in two clients: the null of RQ3",
    ("RQ4", "local"): "Same class, client and global model: does averaging preserve?",
    ("RQ4-swap", "local"): "Different classes, client and global model: the null of RQ4",
    ("distinctness", "local"): "All circuits of one client against all of another",
}


def question_rows(run: Run) -> list[dict[str, Any]]:
    """Answers in the order of :data:`ASKED`, by layer.

    Of the clients only circuits that passed every check enter. RQ2 compares with the observed
    round before, so its row names that one.
    """
    if not tables.has(run, "sites", "models"):
        return []
    observed = sorted({int(n) for n in tables.frame(run, "models")["round"]})[-2:]
    stacks = {n: stack for n in observed if (stack := run.masks(n)) is not None}
    if not stacks:
        return []
    stacks = {n: _checked(run, n, stack) for n, stack in stacks.items()}
    live = {
        n: stack.masks.new_tensor(run.observed(n, CIRCUITS)["live"]) for n, stack in stacks.items()
    }
    answers = research_questions(stacks, live, max_pairs=MOST_PAIRS)
    newest = [one for one in answers if one.question == "RQ2" or one.round == max(stacks)]
    order = list(ASKED)
    known = [one for one in newest if (one.question, one.scope) in ASKED]
    known.sort(key=lambda one: order.index((one.question, one.scope)))
    return [
        {
            "text": ASKED[one.question, one.scope],
            **{key: plain(value) for key, value in asdict(one).items()},
            "layer": run.layer_names.of(one.layer),
            "path": "" if one.layer == tables.ALL_LAYERS else one.layer,
        }
        for one in known
    ]


def _checked(run: Run, number: int, stack: CircuitStack) -> CircuitStack:
    """The circuits without clients' that failed a check."""
    if not tables.has(run, "validity"):
        return stack
    table = tables.client_validity(run)
    table = table[(table["round"] == number) & (table["status"] != "valid")]
    found = stack.found.clone()
    for client, index in table[["client", "class"]].itertuples(index=False):
        if str(client) in stack.models:
            found[stack.models.index(str(client)), int(index)] = False
    return replace(stack, found=found)
