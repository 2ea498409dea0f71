"""What rules are given: the replies of a round and the weights before it, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message
from numpy.typing import NDArray

from fedcircuit import messages
from fedcircuit.aggregation import RuleError, Update, Updates
from fedcircuit.learning import Weights
from fedcircuit.strategies.message_api import Downloads, ReplyReader, weight_key, with_start
from fedcircuit.strategies.nodes import Roster
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.replies import Reply, client_order
from fedcircuit.wire import decoded

READING = "reading the replies"  # stands for a rule in errors that concern all of them


@dataclass(frozen=True)
class SentRound:
    """The weights of a round as they were given, and the messages made of them."""

    arrays: ArrayRecord
    sent: Sequence[Message]

    def weights(self, names: WeightNames) -> Weights:
        """Copies by name."""
        return weights_of(self.arrays, names)

    def updates(
        self, number: int, replies: Iterable[Message], strategy: object, names: WeightNames,
        roster: Roster,
    ) -> Updates:  # fmt: skip
        """Copies of what came, sorted by client; replies that are errors are left out.

        Raises
        ------
        RuleError
            If a reply cannot be read, or does not fit the weights sent.
        """
        before = self.weights(names)
        reader = ReplyReader(
            roster, weight_key(strategy), lambda record: weights_of(record, names), len(before)
        )
        downloads = Downloads(self.arrays, list(before))
        asked = {message.metadata.message_id: message for message in self.sent}
        found = []
        for message in replies:
            if message.has_error():
                continue
            to = asked.get(message.metadata.reply_to_message_id)
            node = message.metadata.src_node_id if to is None else to.metadata.dst_node_id
            reply = reader.read(message, node)
            found.append(reply if to is None else with_start(reply, to, downloads))
        return updates_of(number, before, found)


def weights_of(arrays: ArrayRecord, names: WeightNames) -> dict[str, NDArray[np.generic]]:
    """Copies by name: deserialising an Array makes a new one."""
    return names.of({name: decoded(array) for name, array in arrays.items()})


def updates_of(number: int, before: Weights, replies: Iterable[Reply]) -> Updates:
    """The updates of a round, sorted by client, whatever API the replies came by.

    Raises
    ------
    RuleError
        If a reply could not be read, or does not fit the weights sent.
    """
    found = sorted(replies, key=lambda reply: client_order(reply.client))
    clients = tuple(_update(reply, before) for reply in found)
    if not sum(update.num_examples for update in clients):
        raise RuleError(READING, "needs samples behind the replies, all clients have 0")
    try:
        return Updates(number, before, clients)
    except ValueError as error:
        raise RuleError(READING, str(error)) from error


def _update(reply: Reply, before: Weights) -> Update:
    if reply.error is not None:
        raise RuleError(READING, f"needs replies that can be read: {reply.error[1]}", reply.client)
    n = reply.num_examples
    if not (math.isfinite(n) and n >= 0):
        raise RuleError(READING, f"needs a number of samples >= 0, got {n}", reply.client)
    for name, values in reply.weights.items():
        if name in before and values.shape != before[name].shape:
            needs = f"needs {name!r} of shape {before[name].shape}, got {values.shape}"
            raise RuleError(READING, needs, reply.client)
    said: dict[str, Any] = dict(reply.extra)
    return Update(reply.client, n, reply.weights, said, reply.received)


def circuits_said(updates: Updates) -> NDArray[np.bool_] | None:
    """``[clients, classes, units]``, where all clients have sent circuits of one shape; else None.

    Circuits that were not found are empty.
    """
    stacks = []
    for update in updates.clients:
        packed, found, n_units = (
            update.said.get(key)
            for key in (messages.MASKS, messages.MASKS_FOUND, messages.MASKS_UNITS)
        )
        if not isinstance(packed, bytes) or not isinstance(found, bytes | Sequence):
            return None
        if not isinstance(n_units, int) or n_units < 0:
            return None
        known = np.array(list(found), dtype=np.bool_)
        width = (n_units + 7) // 8
        if len(packed) != len(known) * width:
            return None
        bits = np.frombuffer(packed, np.uint8).reshape(len(known), width)
        masks = np.unpackbits(bits, axis=1, count=n_units).astype(np.bool_)
        stacks.append(masks & known[:, None])
    same = len({stack.shape for stack in stacks}) == 1
    return np.stack(stacks) if same else None
