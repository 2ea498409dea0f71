"""What a rule lacks in a record, in words, with the option that records it."""

from __future__ import annotations

from collections.abc import Iterable

from fedcircuit import messages
from fedcircuit.aggregation import COMES_WITH, Updates

_SERVER = {  # what the server needs: what it is, and how it comes
    "n_classes": ("the number of classes", "give probe"),
    "model": ("the model", "give model"),
    "probe": ("a probe", "give probe"),
    "masks": (
        "circuits of every client",
        "circuits.enabled: true, in rounds that circuits.every divides, without "
        "circuits.max_clients",
    ),
}
_CLIENTS = {  # what clients say
    messages.CLASS_COUNTS: "class counts",
    messages.CLASS_VARIANCES: "variances of features",
    messages.PATH_LAYERS: "path importance",
    messages.PATH_IMPORTANCE: "path importance",
    messages.FISHER: "Fisher information",
    messages.MOMENTS_SUM: "class moments",
    messages.LOCAL_STEPS: "local steps",
    messages.FEDDYN_ALPHA: "training under FedDyn's penalty",
    messages.SCAFFOLD_DELTA: "changes of control variates",
}


def in_words(missing: Iterable[str], updates: Updates) -> str:
    """What is missing, of whom, and how it comes to be recorded.

    Parameters
    ----------
    missing
        As `fedcircuit.aggregation.named.lacking` says it.
    updates
        The clients that may or may not have said it.
    """
    return "needs " + "; ".join(dict.fromkeys(_one(need, updates) for need in missing))


def _one(need: str, updates: Updates) -> str:
    return " or ".join(_option(part, updates) for part in need.split("|"))


def _option(part: str, updates: Updates) -> str:
    if part in _SERVER:
        return ": ".join(_SERVER[part])
    silent = [update.client for update in updates.clients if part not in update.said]
    some = len(silent) < len(updates.clients)
    partly = f", which {', '.join(silent)} did not send" if some else ""
    option = COMES_WITH.get(part)
    how = f"send it with {option}" if option else "of this version send it always"
    return f"{_CLIENTS.get(part, part)} of every client{partly}: our clients {how}"
