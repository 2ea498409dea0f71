"""Clients are asked for their loss of two sets of weights, one download after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedcircuit import messages
from fedcircuit.aggregation import RuleError
from fedcircuit.strategies.mending.guard import GUARD, Answer, Guard, Verdict, verdict_of
from fedcircuit.strategies.message_api import weight_key
from fedcircuit.strategies.nodes import seeded_sampling
from fedcircuit.strategies.replies import client_order, readable, short


@dataclass(frozen=True)
class Asking:
    """How a round's clients are reached.

    Parameters
    ----------
    guard
        What is asked for.
    strategy
        Its ``configure_evaluate`` says who is asked, and how.
    grid
        To whom ``configure_train`` has sent.
    config
        Of the evaluation.
    name
        The client on a node.
    """

    guard: Guard
    strategy: Strategy
    grid: Grid
    config: ConfigRecord
    name: Callable[[int], str]

    def verdict(self, number: int, seed: int, average: ArrayRecord, mended: ArrayRecord) -> Verdict:
        """What clients say of the average and of the mended weights.

        Parameters
        ----------
        number
            The round as the strategy counts it.
        seed
            With the round it draws the clients, as it does for the round's own evaluation.

        Raises
        ------
        RuleError
            If the strategy asks nobody, or sends other tensors than the weights.
        """
        with seeded_sampling(seed, number, "evaluate"):
            config = self.config.copy()  # strategies write into it
            config[messages.HELD_OUT] = self.guard.held_out
            first = list(self.strategy.configure_evaluate(number, average, config, self.grid))
        if not first:
            raise RuleError(
                GUARD, "needs clients that evaluate, the strategy asks none (fraction_evaluate)"
            )
        contents = [(_node(message), message) for message in first]
        second = {node: with_weights(message, average, mended) for node, message in contents}
        before = self._answers(first)
        able = [second[node] for node, answer in before.items() if not isinstance(answer, str)]
        after = self._answers(able) if able else {}
        nodes = sorted(before, key=lambda node: client_order(self.name(node)))
        return verdict_of({self.name(k): (before[k], after.get(k, before[k])) for k in nodes})

    def _answers(self, sent: Sequence[Message]) -> dict[int, Answer | str]:
        """By node, what it says, or why that does not count."""
        replies = list(self.grid.send_and_receive(sent, timeout=self.guard.timeout))
        asked = {message.metadata.message_id: _node(message) for message in sent}
        found: dict[int, Answer | str] = dict.fromkeys(map(_node, sent), "no reply in time")
        came: set[int] = set()
        for reply in replies:
            node = asked.get(reply.metadata.reply_to_message_id)
            if node is not None and node not in came:
                came.add(node)
                found[node] = self._read(reply)
        return found

    def _read(self, reply: Message) -> Answer | str:
        if reply.has_error():
            return short(readable(reply.error.reason or "no reason given"))
        key, wanted = weight_key(self.strategy), self.guard.loss
        said = {k: v for one in reply.content.metric_records.values() for k, v in one.items()}
        n, loss = said.get(key, math.nan), said.get(wanted)
        if not isinstance(loss, (int, float)):
            return short(f"its evaluation has no number {wanted!r}, but {sorted(said)}; "
                         "name the loss: Guard(loss=...)")  # fmt: skip
        if not (isinstance(n, (int, float)) and math.isfinite(n) and n > 0):
            return f"it has no examples to evaluate on ({key!r} is {n!r})"
        return Answer(float(n), float(loss))


def with_weights(message: Message, average: ArrayRecord, mended: ArrayRecord) -> Message:
    """A new message like one that carries the average, with the mended weights in their place.

    Raises
    ------
    RuleError
        If it carries no such tensors.
    """
    records, names = dict(message.content.items()), list(average)
    places = [key for key, one in message.content.array_records.items() if list(one) == names]
    if not places:
        raise RuleError(GUARD, f"needs {names} in what clients evaluate, the strategy sends others")
    records.update(dict.fromkeys(places, mended))
    meta = message.metadata
    return Message(RecordDict(records), meta.dst_node_id, meta.message_type)


def _node(message: Message) -> int:
    return message.metadata.dst_node_id
