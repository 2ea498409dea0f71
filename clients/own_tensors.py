"""Tensors that a client keeps for itself: its own go into every download, and are kept after.

They lie in Flower's ``context.state`` under ``training/own``, by the model's names. FedBN (arXiv
2102.07623) keeps batch norm that way, LIPS batch norm and biases. They travel with every reply all
the same, as Flower's strategies need the same tensors of every client, so the average has some too;
only a client that has none of its own yet uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import ArrayRecord, Context, Message, RecordDict
from torch import nn

from fedcircuit.clients.arrays import array_record
from fedcircuit.clients.memory import OWN, keep, recalled
from fedcircuit.learning import Weights
from fedcircuit.learning.networks import batch_norm_tensors
from fedcircuit.wire import decoded

CallNext = Callable[[Message, Context], Message]


def own_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the tensors of batch norm.

    Raises
    ------
    ValueError
        If the model has none: there would be nothing to keep.
    """
    names = batch_norm_tensors(model)
    if not names:
        raise ValueError(
            f"batch_norm 'own' (FedBN) needs a model with batch norm, {type(model).__name__} has "
            "none; use batch_norm 'shared', or a model with batch norm"
        )
    return names


def with_own(weights: Weights, names: Iterable[str], context: Context) -> Weights:
    """The weights, with the client's own tensors of these names where it remembers them."""
    own = recalled(context, OWN)
    return {**weights, **{name: own[name] for name in names if name in own}}


def keep_own(weights: Weights, names: Iterable[str], context: Context) -> None:
    """Remember the tensors of these names, after training; nothing where there are none."""
    kept = {name: weights[name] for name in names}
    if kept:
        keep(context, OWN, kept)


class FedBNMod:
    """A Flower client mod: every client keeps its own batch norm (FedBN, arXiv 2102.07623).

    For clients of one's own, ``ClientApp(mods=[FedBNMod(model)])``, message-based or NumPyClients;
    put it after mods that change what is sent, such as those for differential privacy, and before
    ``numpyclient_mod``.

    Parameters
    ----------
    model
        Builds the network, whose batch norm is found by type. Its ``state_dict()`` is what is
        exchanged, by name or, as from a NumPyClient, as a bare list in that order.

    Raises
    ------
    ValueError
        When used: if the model has no batch norm, or other tensors are exchanged than the model's.
    """

    def __init__(self, model: Callable[[], nn.Module]) -> None:
        self._model = model
        self._names: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def __call__(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """Put the client's own tensors into the download; keep them after training."""
        kind = message.metadata.message_type.partition(".")[0]
        if kind not in ("train", "evaluate"):
            return call_next(message, context)
        if self._names is None:
            built = self._model()
            self._names = tuple(built.state_dict()), own_names(built)
        every, own = self._names
        incoming = message.content
        content = RecordDict(dict(incoming.items()))
        for key, record in incoming.array_records.items():
            content[key] = _replaced(record, every, own, context)
        message.content = content
        try:
            reply = call_next(message, context)
        finally:
            message.content = incoming  # the strategy's records may be shared between clients
        if kind == "train" and reply.has_content():
            for record in reply.content.array_records.values():
                keep_own(_named(record, every), own, context)
        return reply


def _named(record: ArrayRecord, every: tuple[str, ...]) -> Weights:
    """Arrays under the model's names."""
    return {
        name: decoded(array)
        for name, array in zip(_of_model(record, every), record.values(), strict=True)
    }


def _replaced(
    record: ArrayRecord, every: tuple[str, ...], own: tuple[str, ...], context: Context
) -> ArrayRecord:
    names = dict(zip(_of_model(record, every), record, strict=True))
    kept = with_own({}, own, context)
    result = ArrayRecord(dict(record.items()))
    for name, array in array_record(kept).items():
        result[names[name]] = array
    return result


def _of_model(record: ArrayRecord, every: tuple[str, ...]) -> list[str]:
    """The model's name of every array of a record.

    Raises
    ------
    ValueError
        If they are not the model's tensors.
    """
    names = list(record)
    if names == [str(place) for place in range(len(every))]:
        return list(every)
    if set(names) != set(every):
        raise ValueError(
            f"FedBNMod knows the tensors {list(every)} of its model, the message has {names}; give "
            "it the function that builds the network whose state_dict is exchanged"
        )
    return names
