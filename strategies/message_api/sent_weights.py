"""What clients were really sent: a strategy may send other weights than it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message
from numpy.typing import NDArray

from fedcircuit import messages
from fedcircuit.aggregation import masked, unpacked
from fedcircuit.wire import decoded

Arrays = dict[str, NDArray[np.generic]]


class Downloads:
    """Reads the tensors in which a message differs from the global weights, each download once.

    Parameters
    ----------
    arrays
        The global weights before the round.
    names
        Names of the weights in the record, where those sent are only numbered.
    """

    def __init__(self, arrays: ArrayRecord, names: Sequence[str]) -> None:
        self._arrays = arrays
        self._names = dict(zip(arrays, names, strict=True))
        self._known: dict[int, Arrays] = {}  # by identity of the record; all are alive in messages

    def received(self, sent: Message, said: Mapping[str, object]) -> Arrays:
        """Tensors that a client started from otherwise than in the global weights.

        Parameters
        ----------
        sent
            The message to the client, alive as long as this object.
        said
            The side channel of its reply: a client that masks for itself says what it kept.

        Raises
        ------
        ValueError
            If the client's mask does not fit the weights.
        """
        changed: Arrays = {}
        for record in sent.content.array_records.values():
            if list(record) == list(self._arrays):
                changed = self._known.setdefault(id(record), self._changed(record))
        kept = said.get(messages.LIPS_KEPT)
        if isinstance(kept, bytes):
            changed = {**changed, **self._own(sent, kept)}
        return {self._names[name]: values for name, values in changed.items()}

    def _changed(self, record: ArrayRecord) -> Arrays:
        if record is self._arrays:
            return {}
        return {
            name: decoded(array)
            for name, array in record.items()
            if array is not self._arrays[name] and array.data != self._arrays[name].data
        }

    def _own(self, sent: Message, kept: bytes) -> Arrays:
        """What the client itself has masked."""
        for config in sent.content.config_records.values():
            layers = config.get(messages.LIPS_LAYERS)
            if isinstance(layers, list):
                weights = {str(name): decoded(self._arrays[str(name)]) for name in layers}
                return masked(weights, unpacked(kept, weights))
        return {}
