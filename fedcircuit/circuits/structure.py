"""Functions of a forward pass with their structure alone: what depends on what.

While `Structure` is entered, every function that could subtract, saturate or choose is replaced by
one that is monotone and keeps the dependence: a ReLU by the identity, a sigmoid by ``x + 1``, a
maximum by a mean, a difference by a sum, a softmax by ``1 + mean``. Run on non-negative numbers,
derivatives are then sums of non-negative terms and cannot cancel.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Function = Callable[..., object]

_SAME = frozenset((
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "celu", "selu",
    "gelu", "silu", "mish", "tanh", "tanh_", "hardswish", "hardtanh", "softsign", "prelu",
    "rrelu", "threshold", "abs", "neg", "negative", "sign", "sqrt", "square",
    "clamp", "clamp_", "clip", "clamp_min", "clamp_max", "normalize", "erf", "sin", "log1p",
    "expm1", "dropout", "nan_to_num", "__neg__", "__abs__",
))  # fmt: skip
# not zero at zero, or falling: with an offset they still let through what they multiply
_SHIFTED = frozenset((
    "sigmoid", "hardsigmoid", "logsigmoid", "softplus", "exp", "exp2", "cos", "log", "log2",
    "pow", "__pow__", "float_power", "rsqrt", "reciprocal", "__rpow__", "__rtruediv__", "__rdiv__",
))  # fmt: skip
_SOFTMAX = frozenset((
    "softmax", "log_softmax", "softmin", "logsumexp",
))  # fmt: skip
_REDUCED = frozenset((
    "amax", "amin", "var", "std", "norm", "vector_norm",
))  # fmt: skip
_EXTREMES = frozenset((
    "max", "min", "median",
))  # fmt: skip
_SUMS = frozenset((
    "add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "subtract", "rsub",
    "__sub__", "__rsub__", "__isub__", "maximum", "minimum",
))  # fmt: skip
_PRODUCTS = frozenset((
    "mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__",
))  # fmt: skip
_RATIOS = frozenset((
    "div", "div_", "divide", "true_divide", "__truediv__", "__itruediv__", "__div__",
))  # fmt: skip
# choose, or multiply what may be zero
_REFUSED = frozenset((
    "topk", "kthvalue", "mode", "prod", "cumprod", "cummax", "cummin", "multinomial",
))  # fmt: skip
_NORMS = {"layer_norm": 2, "rms_norm": 2, "group_norm": 2, "batch_norm": 3, "instance_norm": 3}
_POOLS = {
    f"{adaptive}max_pool{d}d{suffix}": (f"{adaptive}avg_pool{d}d")
    for d in (1, 2, 3)
    for adaptive in ("", "adaptive_")
    for suffix in ("", "_with_indices")
}
_Extreme = namedtuple("_Extreme", "values indices")


class Structure(TorchFunctionMode):
    """Inside, functions of tensors keep only what depends on what.

    Parameters
    ----------
    tokens
        What an embedding gives for tokens that are the model's input, 0 or 1; None where the
        input is no tokens, and embeddings are constants.
    """

    def __init__(self, tokens: Tensor | None) -> None:
        super().__init__()
        self._tokens = tokens

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
        first = args[0] if args else options.get("input")
        if name == "multi_head_attention_forward":
            return _attention(*args, **options)  # type: ignore[arg-type]
        if name in _REFUSED:
            raise NotImplementedError(f"the structure of {name} is not known")
        if name == "where" and len(args) == 3:
            return _either(cast(Tensor, args[0]), args[1], args[2])
        if not isinstance(first, Tensor):
            return func(*args, **options)
        if name == "embedding":
            weight = cast(Tensor, args[1] if len(args) > 1 else options["weight"])
            used = (weight != 0).any(0).to(weight.dtype)
            rows = used.expand(*first.shape, -1)
            return rows if self._tokens is None else rows * self._tokens
        if not (first.is_floating_point() or name in _PRODUCTS | _SUMS):
            return func(*args, **options)
        return _structural(name, func, args, options)


def _structural(
    name: str, func: Function, args: tuple[object, ...], options: dict[str, object]
) -> object:
    first = cast(Tensor, args[0] if args else options["input"])
    rest = args[1:]
    if name in _SAME:
        return first
    if name in _SHIFTED:
        return first + 1
    if name in _SOFTMAX:
        dim = cast(int, rest[0] if rest else options.get("dim"))
        mean = first.mean(dim, keepdim=True) + 1
        return mean.expand_as(first) if name != "logsumexp" else mean.squeeze(dim)
    if name in _SUMS | _PRODUCTS | _RATIOS:
        return _arithmetic(name, first, rest[0] if rest else options.get("other"))
    if name in _EXTREMES or name in _REDUCED:
        return _reduced(name, func, args, options)
    if name in ("masked_fill", "masked_fill_"):
        mask = cast(Tensor, rest[0] if rest else options["mask"])
        return first.masked_fill(mask, 0.0)
    if name in _NORMS:
        place = _NORMS[name]
        weight = args[place] if len(args) > place else options.get("weight")
        return _scaled(first, weight, channels=name not in ("layer_norm", "rms_norm"))
    if name in _POOLS:
        return _pooled(_POOLS[name], args, options)
    if name == "scaled_dot_product_attention":
        return _mixed(*(cast(Tensor, a) for a in args[:3]))
    return func(*args, **options)


def positive(value: object) -> object:
    """Numbers by their size, infinite ones as 0; the derivative where it is 0 is 1."""
    if isinstance(value, Tensor):
        if not value.is_floating_point() or bool(((value >= 0) & (value < torch.inf)).all()):
            return value
        value = torch.where(value.isfinite(), value, torch.zeros_like(value))
        return torch.where(value < 0, -value, value)
    return abs(value) if isinstance(value, (int, float)) else value


def _arithmetic(name: str, first: Tensor, other: object) -> Tensor:
    a, b = cast(Tensor, positive(first)), cast(Tensor, positive(other))
    if name in _SUMS:
        result = a + b
    elif name in _PRODUCTS:
        result = a * b
    else:
        result = a * (b + 1) if isinstance(b, Tensor) else a / b
    return first.copy_(result) if name.endswith("_") and name[0] != "_" else result


def _either(condition: Tensor, first: object, second: object) -> Tensor:
    """Both, where one of them is chosen."""
    zero = torch.zeros_like(condition, dtype=torch.float64)
    return _arithmetic("add", _arithmetic("add", zero, first), second)


def _reduced(
    name: str, func: Function, args: tuple[object, ...], options: dict[str, object]
) -> object:
    """A mean in place of an extreme or a spread."""
    first, rest = cast(Tensor, args[0] if args else options["input"]), args[1:]
    second = rest[0] if rest else options.get("other", options.get("dim"))
    if isinstance(second, Tensor):
        return _arithmetic("add", first, second)
    if name in ("norm", "vector_norm"):
        second = rest[1] if len(rest) > 1 else options.get("dim")
    if second is None:
        return first.mean()
    keep = bool(options.get("keepdim", rest[-1] if rest and isinstance(rest[-1], bool) else False))
    values = first.mean(cast(int, second), keepdim=keep)
    if name not in _EXTREMES:
        return values
    return _Extreme(values, cast(_Extreme, func(*args, **options)).indices)


def _scaled(values: Tensor, weight: object, *, channels: bool) -> Tensor:
    if not isinstance(weight, Tensor):
        return values
    shape = [1, -1] + [1] * (values.ndim - 2) if channels else list(weight.shape)
    return values * (weight != 0).reshape(shape).to(values.dtype)


def _pooled(name: str, args: tuple[object, ...], options: dict[str, object]) -> Tensor:
    names: tuple[str, ...] = (
        "input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices",
    )  # fmt: skip
    if name.startswith("adaptive"):
        names = ("input", "output_size", "return_indices")
    given = dict(zip(names, args, strict=False)) | options
    if given.pop("return_indices", False) or given.pop("dilation", 1) not in (1, (1, 1), (1, 1, 1)):
        raise NotImplementedError(f"{name.replace('avg', 'max')} with indices or dilation")
    pool: Callable[..., Tensor] = getattr(functional, name)
    return pool(**given)


def _mixed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in which every token reads all, ``[..., tokens, channels]``."""
    average = value.mean(-2, keepdim=True).expand(*query.shape[:-1], value.shape[-1])
    if key.shape[-2] == 1:  # the weights of a single token are always 1
        return average
    return average * (1 + (query * key.mean(-2, keepdim=True)).sum(-1, keepdim=True))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, channels: int, n_heads: int, *args: object,
    **options: object,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """``functional.multi_head_attention_forward``, tokens first; masks are not followed."""
    names = (
        "in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "add_zero_attn", "dropout_p",
        "out_proj_weight", "out_proj_bias",
    )  # fmt: skip
    given = dict(zip(names, args, strict=False)) | options
    if given["in_proj_weight"] is not None:
        weights: Sequence[Tensor] = cast(Tensor, given["in_proj_weight"]).chunk(3)
    else:
        weights = [cast(Tensor, given[f"{part}_proj_weight"]) for part in "qkv"]
    # the same for every token, biases of keys and values change no weight and add a constant
    bias = given["in_proj_bias"]
    offset = (bias.chunk(3)[0] != 0).to(query.dtype) if isinstance(bias, Tensor) else None
    parts = [
        functional.linear(x, _averaging(w), b)
        .reshape(*x.shape[:2], n_heads, -1)
        .movedim(0, -2)  # [n, heads, tokens, channels]
        for x, w, b in zip((query, key, value), weights, (offset, None, None), strict=True)
    ]
    heads = _mixed(*parts).movedim(-2, 0).flatten(-2)
    out_weight = cast(Tensor, given["out_proj_weight"])
    out = functional.linear(heads, out_weight, cast(Tensor | None, given["out_proj_bias"]))
    if not given.get("need_weights", True):
        return out, None
    return out, (1 + heads.mean(-1)).T[..., None].expand(-1, -1, len(key))


def _averaging(weight: Tensor) -> Tensor:
    open_weights = (weight != 0).to(weight.dtype)
    return open_weights / open_weights.sum(1, keepdim=True).clamp(min=1)
