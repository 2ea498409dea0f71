"""A recorded round as rules are given it, and what a rule makes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedcircuit.aggregation import Rule, RuleError, Setting, Update, Updates
from fedcircuit.aggregation.named import NEEDS, lacking
from fedcircuit.app.mending.known import Known
from fedcircuit.app.mending.needs import in_words
from fedcircuit.learning import Weights
from fedcircuit.records.files import RunError
from fedcircuit.records.rounds import ClientRecord
from fedcircuit.records.runs import Run
from fedcircuit.strategies.mending import mend
from fedcircuit.strategies.recording import in_dtype

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replay:
    """A recorded round.

    Parameters
    ----------
    updates, setting
        What rules are given.
    recorded
        The weights that the run went on with.
    """

    updates: Updates
    setting: Setting
    recorded: Weights

    @property
    def clients(self) -> tuple[str, ...]:
        """Identities, in the order of the updates."""
        return tuple(update.client for update in self.updates.clients)


def replay_of(run: Run, number: int, known: Known) -> Replay:
    """The updates of a round and what rules may know beside them.

    Raises
    ------
    RunError
        If the run keeps no client weights of the round, or nobody took part in it.
    ValueError
        If the updates do not fit each other.
    """
    record = run.record(number)
    if not record.clients:
        raise RunError(f"{run.path}: no client took part in round {number}: nothing to aggregate")
    if hidden := [client.client for client in record.clients if not client.weights]:
        raise RunError(
            f"{run.path} keeps no client weights of round {number} ({len(hidden)} of "
            f"{len(record.clients)} clients): record with storage.updates full or delta-fp16, and "
            "without secure aggregation"
        )
    if not sum(client.num_examples for client in record.clients) > 0:
        raise RunError(f"{run.path}: the clients of round {number} count no samples to weigh by")
    updates = Updates(number, run.weights(number - 1), tuple(map(_update, record.clients)))
    setting = Setting(
        n_classes=len(known.class_names) or None,
        model=known.model,
        probe=None if known.probe is None else known.probe.discovery,
        masks=_masks(run, number, [client.client for client in record.clients]),
        seed=known.seed,
    )
    return Replay(updates, setting, record.weights)


def averaged(updates: Updates) -> dict[str, NDArray[np.generic]]:
    """FedAvg in Flower's own arithmetic, bit for bit, with the dtypes of the weights before."""
    total = sum(update.num_examples for update in updates.clients)
    mean: dict[str, Any] = {}
    for update in updates.clients:
        share = float(update.num_examples) / float(total)
        for name in updates.before:
            values: Any = update.weights[name]
            part = values * share
            mean[name] = part if name not in mean else mean[name] + part
    return {
        name: in_dtype(np.asarray(mean[name]), before.dtype)
        for name, before in updates.before.items()
    }


def mended(rule: Rule, replay: Replay, average: Weights) -> Weights:
    """What a rule makes of the round, from no memory of earlier ones.

    Raises
    ------
    RuleError
        If the round lacks what the rule needs, in words; or if the rule fails.
    """
    updates, setting = replay.updates, replay.setting
    missing = lacking(rule.name, updates, setting) if rule.name in NEEDS else ()
    if missing:
        raise RuleError(rule.name, in_words(missing, updates))
    with torch.enable_grad():
        return mend([rule], updates, average, setting, {}).weights


def tell_of_storage(run: Run) -> None:
    """Say where the clients' weights are not exactly what they sent."""
    if run.manifest.get("storage", {}).get("updates") == "delta-fp16":
        logger.warning(
            "%s keeps clients' weights as differences in half precision: what is aggregated is "
            "nearly what they sent, and FedAvg nearly what was recorded", run.path,
        )  # fmt: skip


def _update(client: ClientRecord) -> Update:
    said: dict[str, Any] = dict(client.extra)
    return Update(client.client, client.num_examples, client.weights, said, client.received)


def _masks(run: Run, number: int, clients: Sequence[str]) -> NDArray[np.bool_] | None:
    """``[clients, classes, units]`` of the circuits that the run found; None without them."""
    stack = run.masks(number)
    if stack is None or not set(clients) <= set(stack.models):
        return None
    places = [stack.models.index(client) for client in clients]
    masks: NDArray[np.bool_] = (stack.masks & stack.found.unsqueeze(-1))[places].numpy()
    return masks
