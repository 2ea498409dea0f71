"""A forward pass with its structure alone: what depends on what.

While `Structure` is entered, every function that could subtract, saturate or choose is replaced by
one that is monotone and keeps the dependence: a ReLU by the identity, a sigmoid by ``x + 1``, a
maximum by a mean, a difference by a sum, a softmax by ``1 + mean``. Run on non-negative numbers,
derivatives are then sums of non-negative terms and cannot cancel.

Where no computed number is multiplied by another, even the size of a number does not matter: with
``binary`` the numbers around every layer are 0 or 1, and so are derivatives, so nothing overflows
or vanishes however deep a network is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from fedcircuit.circuits.paths.structural_functions import (
    BINARY,
    JOINS,
    NORMS,
    PRODUCTS,
    REFUSED,
    SUMS,
    WEIGHTED,
    Function,
    attention,
    either,
    normalised,
    structural,
)


class Structure(TorchFunctionMode):
    """Inside, functions of tensors keep only what depends on what.

    Parameters
    ----------
    model
        Its parameters and buffers are known; all other tensors count as computed.
    tokens
        What an embedding gives for tokens that are the model's input, 0 or 1; None where the
        input is no tokens, and embeddings are constants.
    offsets
        Whether what a normalisation adds is kept. Where computed numbers are multiplied it
        matters: the key of an attention is read through a query that is a constant.
    binary
        Whether the numbers around every layer are made 0 or 1.

    Attributes
    ----------
    multiplies
        Whether computed numbers have been multiplied with each other.
    is_binary
        Whether nothing has been met for which ``binary`` is not enough.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tokens: Tensor | None = None,
        offsets: bool = False,
        binary: bool = False,
    ) -> None:
        super().__init__()
        self._tokens, self._offsets, self._binary = tokens, offsets, binary
        known = (*model.parameters(), *model.buffers())
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.multiplies = False
        self.is_binary = True

    def __torch_function__(
        self,
        func: Function,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """The function, or its structure."""
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if self._is_product(name, (*args, *options.values())):
            self.multiplies = True
            if self._offsets:
                args, options = self._all_bounded(name, args, options)
        first = args[0] if args else options.get("input")
        if name == "multi_head_attention_forward":
            return attention(*args, **options)  # type: ignore[arg-type]
        if name in REFUSED:
            raise NotImplementedError(f"the structure of {name} is not known")
        if name == "where" and len(args) == 3:
            return either(cast(Tensor, args[0]), args[1], args[2])
        if not isinstance(first, Tensor):
            return func(*args, **options)
        if name == "embedding":
            weight = cast(Tensor, args[1] if len(args) > 1 else options["weight"])
            used = (weight != 0).any(0).to(weight.dtype)
            rows = used.expand(*first.shape, -1)
            return rows if self._tokens is None else rows * self._tokens
        if not (first.is_floating_point() or name in PRODUCTS | SUMS):
            return func(*args, **options)
        if name in NORMS:
            return normalised(name, args, options, offset=self._offsets)
        if self._binary and name in WEIGHTED:
            return _binary_layer(func, first, args[1:], options)
        result = structural(name, func, args, options)
        if name not in BINARY and not _is_no_number(result):
            self.is_binary = False
        return result

    def _is_product(self, name: str, values: Sequence[object]) -> bool:
        if name in SUMS or name in JOINS:
            return False
        parts = (v if isinstance(v, (list, tuple)) else (v,) for v in values)
        flat = (value for part in parts for value in part)
        return name == "glu" or sum(self._is_computed(value) for value in flat) > 1

    def _is_computed(self, value: object) -> bool:
        return (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.untyped_storage().data_ptr() not in self._known
        )

    def _all_bounded(
        self, name: str, args: tuple[object, ...], options: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Factors of at most 1, so that products of products do not overflow."""
        in_place = int(name[-1:] == "_" and name[:1] != "_")  # its first factor stays what it is
        factors = (*args[:in_place], *(self._bounded(value) for value in args[in_place:]))
        return factors, {key: self._bounded(value) for key, value in options.items()}

    def _bounded(self, value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [self._bounded(part) for part in value]
        if not self._is_computed(value):
            return value
        tensor = cast(Tensor, value)
        size = torch.where(tensor.isfinite(), tensor, torch.zeros_like(tensor)).detach().abs()
        return tensor / size.amax().clamp(min=1) if size.numel() else tensor


def _is_no_number(result: object) -> bool:
    """A size, a mask, an index: nothing that a path could lead through."""
    if isinstance(result, Tensor):
        return not result.is_floating_point()
    return not isinstance(result, (tuple, list)) or all(_is_no_number(part) for part in result)


def _binary_layer(
    func: Function, inputs: Tensor, rest: Sequence[object], options: Mapping[str, object]
) -> Tensor:
    """A layer with weights 0 and 1 of 0s and 1s: its sums are counts, so 0.5 tells 0 from them.

    Counts, because a fast algorithm of a convolution may give a little more or less than 0.
    """
    apply = cast(Callable[[Tensor, float, float], Tensor], _Step.apply)
    # before the first gate all rows are one and the same, and run as one
    weight = rest[0] if rest else options["weight"]
    batched = isinstance(weight, Tensor) and weight.ndim == inputs.ndim
    n_rows = len(inputs) if batched and inputs.stride(0) == 0 else 1
    counts = func(apply(inputs[:1] if n_rows > 1 else inputs, 0.0, 0.5), *rest, **options)
    result = apply(cast(Tensor, counts), 0.5, 0.0)
    return result.expand(n_rows, *result.shape[1:]).contiguous() if n_rows > 1 else result


class _Step(torch.autograd.Function):
    """1 for numbers above a threshold, else 0; gradients likewise, with a threshold of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, least: float, least_gradient: float) -> Tensor:
        ctx.least_gradient = least_gradient  # type: ignore[attr-defined]
        return (values > least).to(values.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        least: float = ctx.least_gradient  # type: ignore[attr-defined]
        return (gradient > least).to(gradient.dtype), None, None
