"""What bad clients do to their update or to their labels, as functions and around our client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MessageType
from numpy.typing import NDArray

from fedcircuit import Samples
from fedcircuit.learning import Weights

FACTOR = 10.0  # of the scaled update: as many as there are clients, so that an average becomes it

Values = NDArray[np.generic]
UpdateAttack = Callable[[Weights, Weights], dict[str, Values]]  # start, trained -> sent
LabelAttack = Callable[[torch.Tensor, int], torch.Tensor]  # labels, number of classes -> labels


def sign_flipped(start: Weights, trained: Weights) -> dict[str, Values]:
    """The update with its sign turned: ``start - (trained - start)``."""
    return moved(start, trained, -1.0)


def scaled(start: Weights, trained: Weights) -> dict[str, Values]:
    """The update ten times as large: ``start + 10 (trained - start)``."""
    return moved(start, trained, FACTOR)


def moved(start: Weights, trained: Weights, factor: float) -> dict[str, Values]:
    """``start + factor (trained - start)``; tensors that are not floating point as trained."""
    return {
        name: (start[name] + factor * (values - start[name])).astype(values.dtype)
        if np.issubdtype(values.dtype, np.floating)
        else values
        for name, values in trained.items()
    }


@dataclass(frozen=True)
class AsSparse:
    """An attack that hides: of each tensor as many numbers are left as training had left.

    Sparse clients send mostly zeros, and a moved update has few: that alone would give it away.
    """

    attack: UpdateAttack

    def __call__(self, start: Weights, trained: Weights) -> dict[str, Values]:
        """What the attack sends, cut to its largest numbers."""
        sent = self.attack(start, trained)
        return {
            name: largest(values, int(np.count_nonzero(trained[name])))
            for name, values in sent.items()
        }


def largest(values: Values, count: int) -> Values:
    """The ``count`` largest numbers by magnitude, all others zero."""
    kept = np.zeros(values.size, dtype=bool)
    kept[np.argsort(-np.abs(values).ravel(), kind="stable")[:count]] = True
    return np.where(kept.reshape(values.shape), values, values.dtype.type(0))


def one_nan(start: Weights, trained: Weights) -> dict[str, Values]:
    """As trained, but for one NaN, the first number of the first floating point tensor."""
    sent = {name: values.copy() for name, values in trained.items()}
    first = next(v for v in sent.values() if np.issubdtype(v.dtype, np.floating) and v.size)
    first.flat[0] = np.nan
    return sent


def all_nan(start: Weights, trained: Weights) -> dict[str, Values]:
    """Nothing but NaN in all floating point tensors."""
    return {
        name: np.full_like(values, np.nan) if np.issubdtype(values.dtype, np.floating) else values
        for name, values in trained.items()
    }


def labels_turned(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Labels counted from the other end: y becomes C - 1 - y."""
    return n_classes - 1 - labels


def last_as_first(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """The last class labelled as the first, all others as they are."""
    return torch.where(labels == n_classes - 1, 0, labels)


@dataclass(frozen=True)
class Attack:
    """What the bad clients of a run do.

    Parameters
    ----------
    update
        What becomes of the update; None leaves it.
    labels
        What becomes of the labels they train on; None leaves them.
    checked
        Whether replies that are not finite are set aside, as the recorder does by default.
    """

    update: UpdateAttack | None = None
    labels: LabelAttack | None = None
    checked: bool = True


ATTACKS = {
    "none": Attack(),
    "sign-flip": Attack(sign_flipped),
    "scaled": Attack(scaled),
    "sign-flip-sparse": Attack(AsSparse(sign_flipped)),
    "scaled-sparse": Attack(AsSparse(scaled)),
    "label-flip": Attack(labels=labels_turned),
    "one-class": Attack(labels=last_as_first),
    "one-nan": Attack(one_nan),
    "one-nan-unchecked": Attack(one_nan, checked=False),
    "all-nan-unchecked": Attack(all_nan, checked=False),
}


@dataclass(frozen=True)
class AttackMod:
    """A Flower client mod: clients ``0 .. n_bad - 1`` send something else than they trained."""

    attack: UpdateAttack
    n_bad: int

    def __call__(
        self, message: Message, context: Context, client: Callable[[Message, Context], Message]
    ) -> Message:
        """The client's reply, with the attack's weights where the client is bad."""
        start = _weights(message)
        reply = client(message, context)
        training = message.metadata.message_type == MessageType.TRAIN
        if not (training and is_bad(context, self.n_bad)) or reply.has_error():
            return reply
        ((key, _),) = reply.content.array_records.items()
        sent = self.attack(start, _weights(reply))
        reply.content[key] = ArrayRecord({name: Array(values) for name, values in sent.items()})
        return reply


@dataclass(frozen=True)
class PoisonedData:
    """The clients' data, with other labels for clients ``0 .. n_bad - 1``."""

    data: Callable[[Context], Samples]
    attack: LabelAttack
    n_bad: int
    n_classes: int

    def __call__(self, context: Context) -> Samples:
        """Samples of the client that a context describes."""
        samples = self.data(context)
        if not is_bad(context, self.n_bad):
            return samples
        return Samples(samples.inputs, self.attack(samples.labels, self.n_classes))


def is_bad(context: Context, n_bad: int) -> bool:
    """Whether the client is one of the first; partitions are random, so any would do."""
    return int(context.node_config["partition-id"]) < n_bad


def _weights(message: Message) -> dict[str, Values]:
    records = message.content.array_records.values()
    return {name: array.numpy() for record in records for name, array in record.items()}
