"""The head, a model's last linear layer: where it is, and rows of it made of clients' rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit import messages
from fedcircuit.aggregation import RuleError, Setting, Updates, hint
from fedcircuit.learning import Weights
from fedcircuit.learning.networks import NameFitError, fitted, head_layer, linear_layers


@dataclass(frozen=True)
class Head:
    """Names of the head's tensors among the exchanged weights.

    Parameters
    ----------
    weight
        Of ``[classes, features]``: row c makes the logit of class c.
    bias
        Of ``[classes]``; None where the layer has none.
    n_classes
        Rows.
    """

    weight: str
    bias: str | None
    n_classes: int

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors of the head."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


def find_head(weights: Weights, setting: Setting, rule: str) -> Head:
    """The last linear layer with a row for every class.

    With a model it is the last ``nn.Linear`` with ``n_classes`` outputs: last in the order in which
    one forward pass over ``setting.probe`` calls them, without a probe in the order in which the
    model lists them. Without a model it is the last floating-point tensor ``[n_classes, features]``
    and, where there is one, the tensor ``[n_classes]`` of the same prefix.

    Parameters
    ----------
    weights
        As they are exchanged, by name.
    setting
        Its ``n_classes`` is needed.
    rule
        Who asks, for errors.

    Raises
    ------
    RuleError
        If the number of classes is unknown, or there is no such layer among the weights.
    """
    n_classes = setting.n_classes
    if n_classes is None:
        raise RuleError(rule, "it needs the number of classes; give Setting(n_classes=...)")
    if setting.model is not None:
        return _of_model(weights, setting, setting.model, n_classes, rule)
    shapes = {name: v.shape for name, v in weights.items() if v.dtype.kind == "f"}
    found = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == n_classes]
    if not found:
        raise RuleError(
            rule,
            f"it needs a last linear layer: a tensor [{n_classes} classes, features] among the "
            f"weights, which have {_sizes(weights)}",
        )
    weight = found[-1]
    prefix = weight.rpartition(".")[0]
    biases = [
        name
        for name, shape in shapes.items()
        if shape == (n_classes,) and name.rpartition(".")[0] == prefix
    ]
    return Head(weight, biases[-1] if biases else None, n_classes)


def _of_model(
    weights: Weights, setting: Setting, model: nn.Module, n_classes: int, rule: str
) -> Head:
    probe = setting.probe
    name = head_layer(model, n_classes, None if probe is None else probe.inputs)
    if name is None:
        sizes = {layer: own.out_features for layer, own in linear_layers(model).items()}
        raise RuleError(
            rule,
            f"it needs a last linear layer with {n_classes} outputs, one a class; the outputs of "
            f"the linear layers of {type(model).__name__} are {sizes or 'none'}",
        )
    prefix = f"{name}." if name else ""
    own = f"{prefix}weight"
    bias = None if linear_layers(model)[name].bias is None else f"{prefix}bias"
    wanted = [own] if bias is None else [own, bias]
    names: Mapping[str, str] = {name: name for name in wanted}
    if not all(name in weights for name in wanted):
        try:
            names = fitted(weights, model).names
        except NameFitError as error:
            raise RuleError(
                rule, f"it needs the head {wanted} of the model among the weights: {error}"
            ) from error
    return Head(names[own], None if bias is None else names[bias], n_classes)


def _sizes(weights: Weights) -> str:
    listed = [f"{name} {list(values.shape)}" for name, values in weights.items()]
    return ", ".join(listed[-6:]) or "no tensors"


def with_rows(
    updates: Updates, average: Weights, head: Head, shares: NDArray[np.float64], kept: Weights
) -> dict[str, NDArray[np.generic]]:
    """The average with row c of its head made of the clients' rows c, by their shares.

    Parameters
    ----------
    average
        Every tensor but the head comes from here, as it is.
    shares
        ``[clients, classes]``, >= 0; each class's sum to 1, or are all 0.
    kept
        Rows of classes whose shares are all 0 come from here, bit for bit, such as
        ``updates.before``.

    Raises
    ------
    ValueError
        If the shares have another shape.
    """
    expected = (len(updates.clients), head.n_classes)
    if shares.shape != expected:
        raise ValueError(f"shares must be [clients, classes] {expected}, got {shares.shape}")
    given = shares.sum(axis=0) > 0
    result = dict(average)
    for name in head.names:
        rows = np.array(kept[name], dtype=average[name].dtype)
        total = np.zeros(rows.shape, np.float64)
        for update, share in zip(updates.clients, shares, strict=True):
            used = share > 0  # a row with no share may hold anything, even NaN
            own = np.asarray(update.weights[name], dtype=np.float64)[used]
            total[used] += share[used].reshape(-1, *[1] * (rows.ndim - 1)) * own
        rows[given] = total[given].astype(rows.dtype)
        result[name] = rows
    return result


def class_counts(updates: Updates, n_classes: int, rule: str) -> NDArray[np.float64]:
    """``[clients, classes]``, how many training samples of each class the clients say they have.

    Raises
    ------
    RuleError
        If a client did not say it, or not for every class; the client is named.
    """
    counts = said_by_class(updates, messages.CLASS_COUNTS, n_classes, rule)
    for update, row in zip(updates.clients, counts, strict=True):
        if not (np.isfinite(row).all() and (row >= 0).all()):
            raise RuleError(
                rule,
                f"{messages.CLASS_COUNTS!r} must be numbers >= 0, got {row.tolist()}",
                update.client,
            )
    return counts


def said_by_class(updates: Updates, key: str, n_classes: int, rule: str) -> NDArray[np.float64]:
    """``[clients, classes]``, one number a class that every client said under a key.

    A list of numbers or, as a NumPyClient sends it, the bytes of little-endian float64.

    Raises
    ------
    RuleError
        If a client did not say it, or not as one number for every class; the client is named.
    """
    rows = []
    for update in updates.clients:
        value = update.said.get(key)
        if value is None:
            raise RuleError(
                rule,
                f"it needs {key!r} in the side record, which did not come{hint(key)}",
                update.client,
            )
        row = _numbers(value)
        if row is None or row.shape != (n_classes,):
            raise RuleError(
                rule,
                f"{key!r} must be a list of {n_classes} numbers, one a class, got {value!r:.80}",
                update.client,
            )
        rows.append(row)
    return np.stack(rows)


def _numbers(value: object) -> NDArray[np.float64] | None:
    if isinstance(value, bytes):
        return np.frombuffer(value, dtype="<f8") if len(value) % 8 == 0 else None
    if isinstance(value, str):
        return None
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
