"""What a rule lacks in a record, in words, with the option that records it."""

from __future__ import annotations

from collections.abc import Iterable

from fedcircuit import messages
from fedcircuit.aggregation import COMES_WITH, Updates

_CIRCUITS = "circuits of every client: circuits.enabled: true, without circuits.max_clients"
_GIVEN = {  # fields of `Setting`: what they are, and how the record or the caller gives them
    "n_classes": ("the number of classes", "give probe"),
    "model": ("the model", "give model"),
    "probe": ("a probe", "give probe"),
    "masks": ("the clients' circuits", f"{_CIRCUITS}, in rounds that circuits.every divides"),
}
_SAID = {  # keys that clients say, in words
    messages.CLASS_COUNTS: "class counts",
    messages.CLASS_VARIANCES: "variances of features",
    messages.PATH_LAYERS: "path importance",
    messages.PATH_IMPORTANCE: "path importance",
    messages.FISHER: "Fisher information",
    messages.MOMENTS_SUM: "class moments",
    messages.LOCAL_STEPS: "the local steps",
    messages.FEDDYN_ALPHA: "training with FedDyn's penalty",
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
    if part in _GIVEN:
        return ": ".join(_GIVEN[part])
    what = _SAID.get(part, repr(part))
    option = COMES_WITH.get(part, "its clients must send it")
    silent = [update.client for update in updates.clients if part not in update.said]
    partly = (
        f", which {', '.join(silent)} did not send" if len(silent) < len(updates.clients) else ""
    )
    return f"{what} of every client{partly}: {option}"
