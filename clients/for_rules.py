"""What clients say for aggregation rules beside their weights, and what they remember for them.

Steps, Fisher information and class moments are said as they are measured. SCAFFOLD and FedDyn go on
from round to round: their client's part lies in the node's memory. Every change of it follows from
what the client sends, so a record of the run can give it back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray
from torch import nn

from fedcircuit import messages
from fedcircuit.aggregation import packed_tensors
from fedcircuit.clients import memory
from fedcircuit.learning import Weights
from fedcircuit.learning.training import Drift, LocalTraining, TrainingResult, next_gradient
from fedcircuit.learning.watching import ClassMoments

Entries = dict[str, bytes | list[int] | int | float]


@dataclass(frozen=True)
class Trained:
    """The exchanged tensors that gradients move, in the order in which they are exchanged.

    Parameters
    ----------
    parameters
        Of each the parameter that it is; two tensors may be one parameter.
    shapes
        Of each.
    """

    parameters: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, model: nn.Module, names: Mapping[str, str]) -> Trained:
        """Those of a model; ``names`` is from the names in the message to the model's."""
        first: dict[int, str] = {}
        known = {
            name: (first.setdefault(id(parameter), name), tuple(parameter.shape))
            for name, parameter in model.named_parameters(remove_duplicate=False)
        }
        found = [known[name] for name in names.values() if name in known]
        return cls(tuple(name for name, _ in found), tuple(shape for _, shape in found))

    @property
    def sizes(self) -> list[int]:
        """Numbers in each."""
        return [math.prod(shape) for shape in self.shapes]

    def packed(self, values: Weights) -> bytes:
        """Values by parameter as a message carries them; 0 for a parameter that is frozen."""
        pairs = zip(self.parameters, self.shapes, strict=True)
        return packed_tensors(
            {
                str(place): values.get(name, np.zeros(shape, np.float32))
                for place, (name, shape) in enumerate(pairs)
            }
        )

    def unpacked(self, flat: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """By parameter, of numbers one tensor after another."""
        parts = np.split(flat, np.cumsum(self.sizes)[:-1]) if self.sizes else []
        return {
            name: part.reshape(shape)
            for name, part, shape in zip(self.parameters, parts, self.shapes, strict=True)
        }

    def numbers(self, data: object, whose: str) -> NDArray[np.float32]:
        """Bytes of a message as float32 numbers.

        Raises
        ------
        ValueError
            If they are of another size.
        """
        expected = 4 * sum(self.sizes)
        if not isinstance(data, bytes) or len(data) != expected:
            got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
            raise ValueError(
                f"{whose} control variate must have {expected} bytes, float32 of the trained "
                f"tensors, got {got}; server and clients must build the same model, and the "
                "strategy's rules be given it (Mended(..., model=model))"
            )
        return np.frombuffer(data, "<f4")


def measured(result: TrainingResult, moments: ClassMoments | None, tensors: Trained) -> Entries:
    """Steps, and where they were asked for Fisher information and class moments.

    Parameters
    ----------
    result
        Of the round.
    moments
        Of the weights received; None where they were not asked for.
    tensors
        Of the model.
    """
    said: Entries = {messages.LOCAL_STEPS: result.steps}
    if result.fisher:
        said[messages.FISHER] = tensors.packed(result.fisher)
    if moments is not None:
        said[messages.MOMENTS_COUNT] = moments.counts.tolist()
        said[messages.MOMENTS_SUM] = moments.sums.numpy().astype("<f8").tobytes()
        said[messages.MOMENTS_OUTER] = moments.outer.numpy().astype("<f8").tobytes()
    return said


def drift_of(
    training: LocalTraining, tensors: Trained, context: Context, config: Mapping[str, Any]
) -> Drift:
    """What this round's steps are corrected by, as node and server remember it.

    Parameters
    ----------
    config
        The train config; SCAFFOLD's server says its control variate there.

    Raises
    ------
    ValueError
        If either is of another size than the model's trained tensors.
    """
    gradient = memory.recalled(context, memory.FEDDYN) if training.feddyn_alpha else {}
    if not training.scaffold:
        return Drift(gradient=gradient)
    sent = config.get(messages.SCAFFOLD_CONTROL)
    server = np.float32(0) if sent is None else tensors.numbers(sent, "the server's")
    return Drift(tensors.unpacked(server - _control(context, tensors)), gradient)


def remembered(
    training: LocalTraining, tensors: Trained, context: Context, result: TrainingResult,
    start: Weights, trained: Weights,
) -> Entries:  # fmt: skip
    """Keep SCAFFOLD's or FedDyn's state after a round, and what the client says of it.

    Parameters
    ----------
    start, trained
        The model's weights before and after training.
    """
    said: Entries = {}
    if training.feddyn_alpha:
        was = memory.recalled(context, memory.FEDDYN)
        ours = {name: trained[name] for name in tensors.parameters}
        memory.keep(context, memory.FEDDYN, next_gradient(was, start, ours, training.feddyn_alpha))
        said[messages.FEDDYN_ALPHA] = training.feddyn_alpha
    if training.scaffold:
        before = _control(context, tensors)
        change = np.frombuffer(tensors.packed(result.mean_gradient), "<f4") - before
        said[messages.SCAFFOLD_DELTA] = change.astype("<f4").tobytes()
        kept = {memory.CONTROL: memory.next_control(before, change)}
        memory.keep(context, memory.SCAFFOLD, kept)
    return said


def _control(context: Context, tensors: Trained) -> NDArray[np.float32]:
    """The client's control variate, one tensor after another; 0 in its first round."""
    own = memory.recalled(context, memory.SCAFFOLD).get(memory.CONTROL)
    if own is None:
        return np.zeros(sum(tensors.sizes), np.float32)
    return tensors.numbers(np.asarray(own, "<f4").tobytes(), "the client's kept")
