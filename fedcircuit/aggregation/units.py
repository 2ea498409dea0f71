"""Where the units of clients' circuits are in the weights: rows of layers, columns of the head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedcircuit.aggregation.rule import RuleError, Setting, Updates
from fedcircuit.circuits.sites import find_sites

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Span:
    """The units of one layer: its name, and where they are among those of all sites."""

    layer: str
    start: int
    stop: int

    def of(self, masks: Masks) -> Masks:
        """``[..., units of the layer]`` of ``[..., units]``."""
        return masks[..., self.start : self.stop]

    def tensors(self, updates: Updates) -> Iterator[str]:
        """Names of the layer's weight and bias, whose first axis is its units."""
        for own in ("weight", "bias"):
            name = f"{self.layer}.{own}"
            shape = updates.before[name].shape if name in updates.before else ()
            if shape and shape[0] == self.stop - self.start:
                yield name


def circuits_of(rule: str, updates: Updates, setting: Setting) -> tuple[Masks, tuple[Span, ...]]:
    """The clients' circuits ``[clients, classes, units]`` and the layers whose units they name.

    Raises
    ------
    RuleError
        If the setting lacks circuits or a model, or these do not fit each other.
    """
    if setting.masks is None:
        raise RuleError(rule, "needs the clients' circuits; observe with a model and a probe, or "
                        "let clients send theirs (ClientCircuits)")  # fmt: skip
    if setting.model is None:
        raise RuleError(rule, "needs the model, to know which weights a circuit's units have")
    masks = setting.masks
    if masks.ndim != 3 or len(masks) != len(updates.clients):
        raise RuleError(rule, f"needs circuits [clients, classes, units] of {len(updates.clients)} "
                        f"clients, got {masks.shape}")  # fmt: skip
    spans = spans_of(setting)
    units = spans[-1].stop if spans else 0
    if units != masks.shape[2]:
        raise RuleError(rule, f"the model has {units} units, the circuits have {masks.shape[2]}")
    return masks, spans


def spans_of(setting: Setting) -> tuple[Span, ...]:
    """The sites of the setting's model in the order of execution.

    Without a probe nothing can be executed: the order is that of definition, and the last layer
    is taken for the head.
    """
    model, probe = setting.model, setting.probe
    if model is None:
        return ()
    if probe is not None and len(probe):
        sites = [(site.name, site.n_units) for site in find_sites(model, probe.inputs[:1])]
    else:
        layers = [
            (name, module.weight.shape[0])
            for name, module in model.named_modules()
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        ]
        sites = [(name, int(units)) for name, units in layers[:-1]]
    ends = np.cumsum([units for _, units in sites]).tolist()
    return tuple(
        Span(name, end - units, end) for (name, units), end in zip(sites, ends, strict=True)
    )


def feature_masks(masks: Masks, spans: tuple[Span, ...], features: int) -> Masks | None:
    """``[..., features]``: the last layer's units as inputs of the head.

    A channel that is flattened into several features counts for each of them; None where the
    features are no multiple of the units.
    """
    if not spans:
        return None
    last = spans[-1].of(masks)
    if not last.shape[-1] or features % last.shape[-1]:
        return None
    return np.repeat(last, features // last.shape[-1], axis=-1)
