"""The heads of an attention as units: its output before the projection, one slice for each head.

``nn.MultiheadAttention`` reads the weights of its output projection without calling it, so nothing
can be hooked between the heads and the projection. While the attention runs, the projection is the
identity; the real one is applied afterwards, to what was made of the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import Call, differ
from fedcircuit.circuits.sites.gating import of_its_own


class _Identity(nn.Module):
    """In place of a projection: leaves what it is given as it is."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        size = like.shape[1]
        self.weight = nn.Parameter(torch.eye(size).to(like), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(size).to(like), requires_grad=False)


class OpenedHeads:
    """What happens before a model runs, and before and after one of its attentions does.

    Parameters
    ----------
    attention
        The attention; `close` gives its projection back.
    transform
        Of the heads' outputs ``[n, tokens, heads, channels]``.
    """

    def __init__(
        self, attention: nn.MultiheadAttention, transform: Callable[[Tensor], Tensor]
    ) -> None:
        self._attention, self._transform = attention, transform
        self._projection = attention.out_proj
        self._identity = cast(nn.Linear, _Identity(self._projection.weight.detach()))
        # what was there before: the projection, or the identity of a context around this one
        self._outer: list[nn.Linear] = []

    def start(self, model: nn.Module, args: object) -> None:
        """Forget a forward pass that raised."""
        self._outer.clear()
        self.close()

    def before(self, module: nn.Module, args: object) -> None:
        """The attention is about to run."""
        self._outer.append(cast(nn.Linear, self._attention.out_proj))
        self._set(self._identity)

    def after(
        self, module: nn.Module, args: object, output: tuple[Tensor, object]
    ) -> tuple[Tensor, object]:
        """The attention has run: transform its heads and project them."""
        outer = self._outer.pop()
        self._set(outer)
        values, weights = output
        joined = values if self._attention.batch_first else values.transpose(0, 1)
        heads = joined.reshape(*joined.shape[:-1], self._attention.num_heads, -1)
        joined = of_its_own(self._transform(heads), heads).flatten(-2)
        result = functional.linear(joined, outer.weight, outer.bias)
        return result if self._attention.batch_first else result.transpose(0, 1), weights

    def close(self) -> None:
        """Give the projection back."""
        self._set(self._projection)

    def _set(self, projection: nn.Module) -> None:
        self._attention._modules["out_proj"] = projection


def attentions(calls: Sequence[Call], sites: Sequence[Site]) -> tuple[str, ...]:
    """Names of the sites that are attentions.

    Raises
    ------
    ValueError
        If one runs on a single sample without a batch axis.
    """
    names = {site.name for site in sites}
    found = [c for c in calls if c.name in names and isinstance(c.module, nn.MultiheadAttention)]
    for call in found:
        if call.incoming.ndim != 3:
            raise ValueError(
                f"attention {call.name!r} takes a query of shape {tuple(call.incoming.shape)}; "
                "its heads are gated by sample: give it a batch, [n, tokens, channels]"
            )
    return tuple(call.name for call in found)


def require_same_heads(names: Sequence[str], calls: Sequence[Call], again: Sequence[Call]) -> None:
    """Refuse attentions whose heads, read and put back unchanged, give another output.

    Raises
    ------
    ValueError
        If there is one, such as a subclass that computes something else.
    """
    opened = {call.name: call for call in again}  # by name: parts of the projection run later
    for call in calls:
        if call.name in names and differ(call.output, opened[call.name].output):
            raise ValueError(
                f"the heads of attention {call.name!r} cannot be gated: it does not compute what "
                "nn.MultiheadAttention does. Build it of linear layers, whose units are sites"
            )
