"""What a rule lacks in a record, in words, with the option that records it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from fedcircuit import messages
from fedcircuit.aggregation import Setting, Updates

_CIRCUITS = "circuits of every client: circuits.enabled: true, without circuits.max_clients"
WHAT = {  # a need of `fedcircuit.aggregation.named.NEEDS`: what it is, and the option that gives it
    "n_classes": ("the number of classes", "give probe"),
    "model": ("the model", "give model"),
    "probe": ("a probe", "give probe"),
    "masks": ("the clients' circuits", f"{_CIRCUITS}, in rounds that circuits.every divides"),
    messages.CLASS_COUNTS: ("class counts", "client_app(class_counts=True), the default"),
    messages.CLASS_VARIANCES: ("variances of features", "training.feature_variance: {}"),
    messages.PATH_LAYERS: ("path importance", "training.path_importance: true"),
    messages.PATH_IMPORTANCE: ("path importance", "training.path_importance: true"),
    messages.FISHER: ("Fisher information", "training.fisher: true"),
    messages.MOMENTS_SUM: ("class moments", "training.class_moments: true"),
    messages.LOCAL_STEPS: ("the local steps", "clients of this version send them"),
    messages.FEDDYN_ALPHA: ("training with FedDyn's penalty", "training.feddyn_alpha: 0.01"),
    messages.SCAFFOLD_DELTA: ("changes of control variates", "training.scaffold: true"),
}
_OF_THE_SERVER = {field.name for field in fields(Setting)}


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
    what, option = WHAT.get(part, (repr(part), "its clients must send it"))
    if part in _OF_THE_SERVER:
        return f"{what}: {option}"
    silent = [update.client for update in updates.clients if part not in update.said]
    partly = (
        f", which {', '.join(silent)} did not send" if len(silent) < len(updates.clients) else ""
    )
    return f"{what} of every client{partly}: {option}"
