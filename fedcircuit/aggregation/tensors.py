"""What rules share: which tensors they change, how far clients moved, what clients said."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit import messages
from fedcircuit.aggregation.rule import RuleError, Setting, Update, Updates
from fedcircuit.learning import Weights, set_weights

Floats = NDArray[np.float64]
# what our clients are asked for to send a key of the side record (fedcircuit.messages)
COMES_WITH: Mapping[str, str] = {
    messages.CLASS_COUNTS: "client_app(class_counts=True)",
    messages.CLASS_VARIANCES: "training.feature_variance: {}",
    messages.PATH_LAYERS: "training.path_importance: true",
    messages.PATH_IMPORTANCE: "training.path_importance: true",
    messages.FISHER: "training.fisher: true",
    messages.MOMENTS_COUNT: "training.class_moments: true",
    messages.MOMENTS_SUM: "training.class_moments: true",
    messages.MOMENTS_OUTER: "training.class_moments: true",
    messages.FEDDYN_ALPHA: "training.feddyn_alpha: 0.01",
    messages.SCAFFOLD_DELTA: "training.scaffold: true",
}
_STATISTICS = ("running_mean", "running_var")  # of batch norm


def floating(weights: Weights) -> tuple[str, ...]:
    """Names of the floating-point tensors; the others count batches and are nobody's to mend.

    Parameters
    ----------
    weights
        A client's: in Flower's average, and so in what it sends next, integers are floats.
    """
    return tuple(name for name, values in weights.items() if values.dtype.kind == "f")


def trained(weights: Weights, setting: Setting) -> tuple[str, ...]:
    """Names of the tensors that gradients move, in order: all floats but running statistics.

    With a model these are its parameters; without, all but what batch norm calls its statistics.
    An extrapolated variance may turn negative, so rules that extrapolate keep to these.

    Parameters
    ----------
    weights
        As for :func:`floating`.
    """
    names = floating(weights)
    if setting.model is not None:
        known = {name for name, _ in setting.model.named_parameters(remove_duplicate=False)}
        if known & set(names):
            return tuple(name for name in names if name in known)
    return tuple(name for name in names if name.rpartition(".")[2] not in _STATISTICS)


def result(average: Weights, changed: Mapping[str, NDArray[np.generic]]) -> Weights:
    """The average with some tensors changed, each in the dtype that it had there."""
    return {
        name: changed[name].astype(values.dtype).reshape(values.shape)
        if name in changed
        else values
        for name, values in average.items()
    }


def loaded(rule: str, model: nn.Module, weights: Weights) -> nn.Module:
    """A copy of the model with these weights, float64 and in eval mode, on the CPU.

    Raises
    ------
    RuleError
        If the weights do not fit the model.
    """
    net = copy.deepcopy(model).to("cpu").double().eval()
    try:
        set_weights(net, weights)
    except ValueError as error:
        raise RuleError(rule, f"needs the model whose weights are exchanged: {error}") from error
    return net


def in_float64(weights: Weights, name: str) -> Floats:
    """One tensor in the type that rules compute in."""
    return np.asarray(weights[name], np.float64)


def moved(updates: Updates, update: Update, name: str) -> Floats:
    """How far a client moved a tensor from where its training started, float64."""
    start = update.start if name in update.start else updates.before
    return in_float64(update.weights, name) - in_float64(start, name)


def class_shares(counts: Floats) -> Floats:
    """``[clients, classes]``: q, each client's share of a class; 0 where none has it.

    Parameters
    ----------
    counts
        ``[clients, classes]`` samples.
    """
    total = counts.sum(axis=0)
    shares: Floats = counts / np.where(total > 0, total, 1.0)
    return shares


def hint(key: str) -> str:
    """What to add to the word that a client did not say something: how clients of ours do."""
    option = COMES_WITH.get(key)
    return f"; our clients send it with {option}" if option else ""


def said_number(rule: str, update: Update, key: str, what: str, *, least: float) -> float:
    """A finite number >= ``least`` that a client said.

    Raises
    ------
    RuleError
        If it is missing, no number, or too small.
    """
    value = update.said.get(key)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < least:  # type: ignore[arg-type, operator]
        needs = f"needs {what}, a number >= {least:g} as {key!r}, got {_brief(value, key)}"
        raise RuleError(rule, needs, update.client)
    return float(value)  # type: ignore[arg-type]


def said_array(
    rule: str, update: Update, key: str, what: str, shape: tuple[int, ...], dtype: str
) -> Floats:
    """An array that a client sent as bytes, float64.

    Raises
    ------
    RuleError
        If it is missing, of another size, or not finite.
    """
    value = update.said.get(key)
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if not isinstance(value, bytes) or len(value) != expected:
        got = f"{len(value)} bytes" if isinstance(value, bytes) else _brief(value, key)
        raise RuleError(
            rule, f"needs {what}, {expected} bytes of {dtype} as {key!r}, got {got}", update.client
        )
    values = np.frombuffer(value, dtype).astype(np.float64).reshape(shape)
    if not np.isfinite(values).all():
        raise RuleError(rule, f"needs {what}, finite; {key!r} holds NaN or infinity", update.client)
    return values


def said_tensors(
    rule: str, update: Update, key: str, what: str, like: Weights
) -> dict[str, Floats]:
    """Tensors of the names and shapes of ``like`` that a client sent as float32, one after another.

    Raises
    ------
    RuleError
        As for :func:`said_array`.
    """
    sizes = [values.size for values in like.values()]
    flat = said_array(rule, update, key, what, (sum(sizes),), "<f4")
    parts = np.split(flat, np.cumsum(sizes)[:-1]) if sizes else []
    return {
        name: part.reshape(values.shape)
        for (name, values), part in zip(like.items(), parts, strict=True)
    }


def packed_tensors(tensors: Weights) -> bytes:
    """The inverse of :func:`said_tensors`: float32, little-endian, one tensor after another."""
    return b"".join(np.asarray(values, "<f4").tobytes() for values in tensors.values())


def _brief(value: object, key: str) -> str:
    if value is None:
        return f"nothing{hint(key)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
