"""Sites of a model: the places whose outputs are units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import (
    CONVOLUTIONS,
    UNIT_LAYERS,
    Call,
    evaluating,
    incoming_weights,
    named_sites,
    ordinary,
    require_no_sigmoid,
    require_one_input,
    require_readable,
    searching,
    sites_of_calls,
    trying,
)
from fedcircuit.circuits.sites.attention import attentions, require_same_heads
from fedcircuit.circuits.sites.gating import gate
from fedcircuit.circuits.sites.hooks import (
    Route,
    Transform,
    call_order,
    capture,
    gated,
    masked,
    rerouted,
    trace,
    transformed,
)
from fedcircuit.circuits.sites.independence import (
    beside,
    dependence_error,
    require_batch_first,
    same_for_sites,
    same_logits,
)
from fedcircuit.logits import inputs_for, raw_logits

__all__ = [
    "CONVOLUTIONS", "UNIT_LAYERS", "Route", "Transform",
    "call_order", "capture", "evaluating", "find_sites", "gate", "gated", "incoming_weights",
    "masked", "require_independent", "rerouted", "transformed",
]  # fmt: skip


@searching()
def find_sites(model: nn.Module, example: Tensor) -> tuple[Site, ...]:
    """Sites of a model in order of execution, found by module type, never by name.

    Each comes with its kind, and with what people call it
    (`fedcircuit.circuits.models.site_names`).

    A site is a convolution (also grouped or transposed) or linear layer together with the modules
    that directly follow it and act on each unit alone; or a ``nn.MultiheadAttention``, whose units
    are its heads. The last layer executed is the head if its units are the logits, and is no site.

    What ``forward`` does with functions (``F.relu``, ``F.max_pool2d``) ends a site before it, and
    so do normalisations that mix units (layer norm, group norm). A unit gated before a ReLU has no
    gradient where its gate is exactly 0; elsewhere nothing changes. Two layers that share one
    parameter are two sites: gates act on activations, so they do not touch each other.

    Parameters
    ----------
    model
        Any module that takes one tensor ``[n, ...]`` and gives one.
    example
        One or more inputs, ``[n, ...]``; the model runs a few times on the first, alone and beside
        another.

    Raises
    ------
    ValueError
        If the model has no site; a layer runs more than once in a forward pass (its units would
        stand for two places at once); the first axis of a site is not the batch, samples are mixed
        or run one by one; the model takes or gives something else than one tensor; it is compiled,
        scripted or lazy; or an attention does not compute what ``nn.MultiheadAttention`` does.
    """
    require_readable(model)
    name = type(model).__name__
    one, other = beside(inputs_for(model, ordinary(example)))
    require_one_input(model, one)
    with trying(model):
        calls, output = _alone(model, one, other)
        raw = raw_logits(output, 1, name)
        sites = sites_of_calls(calls, raw.shape[1], name)
        _require_alike(model, sites, calls, raw, torch.cat([one, other]))
        heads = attentions(calls, sites)
        if heads:
            with transformed(model, dict.fromkeys(heads, torch.clone)):
                require_same_heads(heads, calls, trace(model, one)[0])
        if raw.shape[1] == 1:
            require_no_sigmoid(model, one, calls)
    tensors = model.state_dict().items()  # beside tensors there may be "extra state"
    return named_sites(sites, {n: v.ndim for n, v in tensors if isinstance(v, Tensor)})


def require_independent(model: nn.Module, example: Tensor) -> None:
    """Refuse a model whose logits for a sample depend on other samples, or on chance.

    Parameters
    ----------
    model, example
        The model, and one or more inputs ``[n, ...]``.

    Raises
    ------
    ValueError
        If they do; the module is named.
    """
    one, other = beside(inputs_for(model, ordinary(example)))
    with trying(model):
        calls, output = _alone(model, one, other)
        raw = raw_logits(output, 1, type(model).__name__)
        _require_alike(model, (), calls, raw, torch.cat([one, other]))


def _require_alike(
    model: nn.Module, sites: Sequence[Site], calls: Sequence[Call], raw: Tensor, both: Tensor
) -> None:
    """Refuse models whose output for a sample depends on others, or on chance."""
    name = type(model).__name__
    for inputs, place in ((both[:1], 0), (both, 0), (both.flip(0), 1)):
        again, output = trace(model, inputs)
        if len(inputs) > 1:
            require_batch_first(sites, calls, again)
        logits = raw_logits(output, len(inputs), name)
        if same_for_sites(sites, calls, again, place=place) and same_logits(
            raw, logits, calls, place=place
        ):
            continue
        first, second = (trace(model, x, every=True)[0] for x in (both[:1], inputs))
        raise dependence_error(model, first, second, chance=len(inputs) == 1, place=place)


def _alone(model: nn.Module, one: Tensor, other: Tensor) -> tuple[list[Call], object]:
    """The calls on a sample alone, and the output; a model that takes it beside another only is
    refused for that reason."""
    try:
        return trace(model, one)
    except ValueError as error:
        try:
            trace(model, torch.cat([one, other]))
        except ValueError:
            raise error from error.__cause__
        raise ValueError(
            f"the model takes two samples, but none alone: its output for a sample depends on the "
            f"other samples of the batch. {error}"
        ) from error
