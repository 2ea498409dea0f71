"""The head of a network: the linear layer whose outputs are the logits, one row a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from fedcircuit.aggregation.rule import RuleError, Setting
from fedcircuit.aggregation.tensors import Floats
from fedcircuit.learning import Weights


@dataclass(frozen=True)
class LinearHead:
    """Names of the head's tensors: weight ``[classes, D]``, and bias ``[classes]`` or None."""

    weight: str
    bias: str | None

    def rows(self, weights: Weights) -> Floats:
        """``[classes, D + 1]``: each class's weights and, last, its bias, 0 where there is none."""
        weight = np.asarray(weights[self.weight], np.float64)
        bias = np.zeros(len(weight)) if self.bias is None else weights[self.bias]
        return np.column_stack([weight, np.asarray(bias, np.float64)])

    def tensors(self, rows: Floats) -> dict[str, Floats]:
        """The inverse of :meth:`rows`."""
        named = {self.weight: rows[:, :-1]}
        return named if self.bias is None else {**named, self.bias: rows[:, -1]}


def linear_head(rule: str, weights: Weights, setting: Setting) -> LinearHead:
    """The last linear layer of the model; without a model the last matrix among the weights.

    Raises
    ------
    RuleError
        If there is none, or its rows are not the classes.
    """
    name = _name(setting.model, weights)
    if name is None:
        raise RuleError(rule, "needs a linear last layer; the weights have none")
    rows = weights[name].shape[0]
    if setting.n_classes is not None and rows != setting.n_classes:
        raise RuleError(
            rule,
            f"needs a linear last layer with one row a class; {name!r} has {rows} rows for "
            f"{setting.n_classes} classes",
        )
    bias = f"{name.removesuffix('weight')}bias"
    fits = bias in weights and weights[bias].shape == (rows,)
    return LinearHead(name, bias if fits else None)


def _name(model: nn.Module | None, weights: Weights) -> str | None:
    if model is not None:
        layers = [n for n, module in model.named_modules() if isinstance(module, nn.Linear)]
        names = [f"{n}.weight" if n else "weight" for n in layers]
        found = [name for name in names if name in weights]
    else:
        matrices = [n for n, v in weights.items() if v.ndim > 1 and v.dtype.kind == "f"]
        found = [n for n in matrices[-1:] if weights[n].ndim == 2 and n.endswith("weight")]
    return found[-1] if found else None
