"""What functions of tensors become when only what depends on what is kept.

See `fedcircuit.circuits.paths.structure`, which puts these in place of the functions of a forward
pass.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

Function = Callable[..., object]

_SAME = frozenset((
    "relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "celu", "selu",
    "gelu", "silu", "mish", "tanh", "tanh_", "hardswish", "hardtanh", "softsign", "prelu",
    "rrelu", "threshold", "abs", "neg", "negative", "sign", "sqrt", "square",
    "clamp", "clamp_", "clip", "clamp_min", "clamp_max", "normalize", "erf", "sin", "log1p",
    "expm1", "dropout", "nan_to_num", "__neg__", "__abs__", "atan", "arctan", "sinh", "asinh",
    "hardshrink", "softshrink", "tanhshrink", "threshold_", "hardtanh_", "hardswish_", "celu_",
    "selu_", "rrelu_", "local_response_norm", "detach",
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
SUMS = frozenset((
    "add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "subtract", "rsub",
    "__sub__", "__rsub__", "__isub__", "maximum", "minimum",
))  # fmt: skip
PRODUCTS = frozenset((
    "mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__",
))  # fmt: skip
_RATIOS = frozenset((
    "div", "div_", "divide", "true_divide", "__truediv__", "__itruediv__", "__div__",
))  # fmt: skip
# leave numbers as they are, whatever else they are given
JOINS = frozenset((
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "where", "copy_", "__setitem__",
    "expand_as", "view_as", "reshape_as", "type_as",
))  # fmt: skip
# sums of what they are given, or a choice of places: positive exactly where one of those is
WEIGHTED = frozenset((
    "linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)),
))  # fmt: skip
_PLACED = frozenset((
    "flatten", "unflatten", "view", "reshape", "permute", "transpose", "movedim", "unsqueeze",
    "squeeze", "contiguous", "expand", "__getitem__", "chunk", "split", "unbind", "roll", "flip",
    "clone", "pad", "mean", "sum", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "__get__",
    "zeros_like", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
    "masked_fill", "masked_fill_", "index_select", "gather", "narrow", "select", "unfold",
    "repeat", "repeat_interleave", "tile", "t", "swapaxes", "hsplit", "tensor_split",
    *(f"{kind}avg_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)),
))  # fmt: skip
_CASTS = frozenset((
    "to", "type", "type_as", "float", "double", "half", "bfloat16",
))  # fmt: skip
# choose, or multiply what may be zero
REFUSED = frozenset((
    "topk", "kthvalue", "mode", "prod", "cumprod", "cummax", "cummin", "multinomial",
))  # fmt: skip
NORMS = {"layer_norm": 2, "rms_norm": 2, "group_norm": 2, "batch_norm": 3, "instance_norm": 3}
_POOLS = {
    f"{adaptive}max_pool{d}d{suffix}": (f"{adaptive}avg_pool{d}d")
    for d in (1, 2, 3)
    for adaptive in ("", "adaptive_")
    for suffix in ("", "_with_indices")
}
# those that turn "which are positive" into the same question: no number has to be kept
BINARY = WEIGHTED.union(
    _PLACED, _CASTS, SUMS, PRODUCTS, JOINS, _SAME, _REDUCED, _EXTREMES, NORMS, _POOLS
)
_Extreme = namedtuple("_Extreme", "values indices")


def structural(
    name: str, func: Function, args: tuple[object, ...], options: dict[str, object]
) -> object:
    """The structure of a function whose first argument is a tensor of floating-point numbers.

    Parameters
    ----------
    name, func
        The function; one that is not known here is called as it is.
    args, options
        What it was called with.

    Raises
    ------
    NotImplementedError
        If the function is known, but not with these options.
    """
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
    if name in SUMS | PRODUCTS | _RATIOS:
        return _arithmetic(name, first, rest[0] if rest else options.get("other"))
    if name in _EXTREMES or name in _REDUCED:
        return _reduced(name, func, args, options)
    if name in ("masked_fill", "masked_fill_"):
        mask = cast(Tensor, rest[0] if rest else options["mask"])
        return first.masked_fill(mask, 0.0)
    if name == "glu":
        a, b = first.chunk(2, cast(int, rest[0] if rest else options.get("dim", -1)))
        return a * (b + 1)
    if name in _POOLS:
        return _pooled(_POOLS[name], args, options)
    if name in _CASTS:
        cast_ = func(*args, **options)
        floats = isinstance(cast_, Tensor) and cast_.is_floating_point()
        return cast(Tensor, cast_).to(first.dtype) if floats else cast_
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
    if name in SUMS:
        result = a + b
    elif name in PRODUCTS:
        result = a * b
    else:
        result = a * (b + 1) if isinstance(b, Tensor) else a / b
    return first.copy_(result) if name.endswith("_") and name[0] != "_" else result


def either(condition: Tensor, first: object, second: object) -> Tensor:
    """Both, where one of them is chosen."""
    return _arithmetic("add", _arithmetic("add", torch.zeros_like(condition), first), second)


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


def normalised(
    name: str, args: tuple[object, ...], options: dict[str, object], *, offset: bool
) -> Tensor:
    """A normalisation reduced to which of its scales, and of its offsets, are not zero."""
    values, place = cast(Tensor, args[0] if args else options["input"]), NORMS[name]
    weight, bias = (
        args[index] if len(args) > index else options.get(key)
        for index, key in ((place, "weight"), (place + 1, "bias"))
    )
    channels = name not in ("layer_norm", "rms_norm")

    def along(tensor: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (values.ndim - 2) if channels else list(tensor.shape)
        return (tensor != 0).reshape(shape).to(values.dtype)

    mean = args[1] if len(args) > 1 else options.get("running_mean")
    if offset and name == "batch_norm" and isinstance(mean, Tensor):
        values = values + along(mean)
    elif offset and name != "rms_norm":
        values = values + 1  # less the mean of what is normalised together
    if isinstance(weight, Tensor):
        values = values * along(weight)
    if offset and isinstance(bias, Tensor):
        values = values + along(bias)
    return values


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


def attention(
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
