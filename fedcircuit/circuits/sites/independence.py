"""Samples that depend on each other, or on chance: found by running one alone and beside another.

A circuit is run on samples in batches of any make-up, and one sample may stand in a batch several
times under several circuits. What a model gives for a sample must therefore be that sample's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import Call, differ


def beside(example: Tensor) -> tuple[Tensor, Tensor]:
    """A sample ``[1, ...]`` and another one that differs from it, as far as a type allows."""
    one = example[:1]
    other = example[1:2] if len(example) > 1 else one.flip(-1)
    if not one.is_floating_point() or not torch.equal(one, other):
        return one, other
    ramp = torch.linspace(0.1, 1.0, one.numel(), dtype=one.dtype, device=one.device)
    return one, one.flip(-1) + ramp.reshape(one.shape)


def require_batch_first(sites: Sequence[Site], one: Sequence[Call], two: Sequence[Call]) -> None:
    """Refuse sites whose first axis is not the batch.

    Parameters
    ----------
    sites
        Sites of the calls.
    one, two
        Calls with a sample alone, and with the same sample and another one.

    Raises
    ------
    ValueError
        If there is one, or the calls are not the same.
    """
    if len(one) != len(two):
        raise ValueError(
            f"the model calls {len(one)} modules for one sample, but {len(two)} for two; units are "
            "gated in batches of any size, so every module must take the whole batch at once"
        )
    for narrow, wide, batch in _of_sites(sites, one, two):
        shapes = tuple(narrow.output.shape), tuple(wide.output.shape)
        if (shapes[0][batch], shapes[1][batch]) != (1, 2):
            raise ValueError(
                f"layer {narrow.name!r} gives {shapes[0]} for one sample and {shapes[1]} for two; "
                f"units are gated by sample, so the samples must be axis {batch}. Use "
                "batch_first=True, or move other axes behind it"
            )


def same_for_sites(
    sites: Sequence[Site], one: Sequence[Call], two: Sequence[Call], *, place: int = 0
) -> bool:
    """Whether every site gives the one sample the same where it is at a place of a batch."""
    return not any(
        differ(narrow.output.select(batch, 0), wide.output.select(batch, place), _eps(one))
        for narrow, wide, batch in _of_sites(sites, one, two)
    )


def same_logits(one: Tensor, two: Tensor, calls: Sequence[Call], *, place: int = 0) -> bool:
    """Whether the one sample has the same logits ``[n, classes]`` at a place of a batch."""
    return not differ(one[0], two[place], _eps(calls))


def _of_sites(
    sites: Sequence[Site], one: Sequence[Call], two: Sequence[Call]
) -> Iterator[tuple[Call, Call, int]]:
    """Calls of the sites in both passes, and the axis of the batch."""
    names = {site.name for site in sites}
    for narrow, wide in zip(one, two, strict=True):
        if narrow.name in names:
            # the heads of an attention are given with the batch first whatever it takes
            heads = isinstance(narrow.module, nn.MultiheadAttention)
            yield narrow, wide, 1 if heads and not narrow.module.batch_first else 0


def _eps(calls: Sequence[Call]) -> float:
    """Rounding of the coarsest type that the model computes in."""
    kinds = {call.output.dtype for call in calls if call.output.is_floating_point()}
    return max((torch.finfo(kind).eps for kind in kinds), default=0.0)


def dependence_error(
    model: nn.Module, one: Sequence[Call], two: Sequence[Call], *, chance: bool, place: int = 0
) -> ValueError:
    """What is wrong, from which module on, and what to do.

    Parameters
    ----------
    model
        For its name.
    one, two
        Calls of all modules, also those with parts, in the order in which they end: of two passes
        that gave a sample different outputs.
    chance
        Whether the two passes were given the same.
    place
        Where the sample was in the batch of the second pass.
    """
    found = _first(one, two, place)
    where = f"what the forward of {type(model).__name__} does between its modules"
    if found is not None and found.name:
        kind = type(found.module).__name__
        where = f"module {found.name!r} ({kind})"
        if next(found.module.children(), None) is not None:
            where = f"what {where} does between its parts"
    if chance:
        return ValueError(
            f"the model's output for a sample depends on chance, also in eval mode: {where} draws "
            "at random. Leave dropout and noise to the modules of torch.nn, which model.eval() "
            "switches off, or pass self.training on to functions"
        )
    hint = _hint(None if found is None else found.module)
    return ValueError(
        "the model's output for a sample depends on the other samples of the batch: "
        f"{where} mixes them. Circuits run in batches of any make-up; {hint}"
    )


def _first(one: Sequence[Call], two: Sequence[Call], place: int) -> Call | None:
    """The first call to end whose output differs although what it was given does not."""
    different: Call | None = None
    eps = _eps(one)
    for narrow, wide in zip(one, two, strict=False):
        if narrow.name != wide.name:
            break
        output = _part(wide.output, narrow.output, place)
        if output is None or not differ(narrow.output, output, eps):
            continue
        incoming = _part(wide.incoming, narrow.incoming, place)
        if incoming is not None and not differ(narrow.incoming, incoming, eps):
            return narrow
        different = different or narrow
    return different


def _part(wide: Tensor, narrow: Tensor, place: int) -> Tensor | None:
    """What belongs to the sample at a place, where the shapes tell; else None."""
    if wide.ndim != narrow.ndim:
        return None
    axes = [axis for axis in range(wide.ndim) if wide.shape[axis] != narrow.shape[axis]]
    if not axes:
        return wide
    if len(axes) > 1 or wide.shape[axes[0]] != 2 * narrow.shape[axes[0]]:
        return None
    size = narrow.shape[axes[0]]
    return wide.narrow(axes[0], place * size, size)


def _hint(module: nn.Module | None) -> str:
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
        if module.track_running_stats:
            return "leave its mode to model.train() and model.eval()"
        return "give it running statistics (track_running_stats=True), or use GroupNorm"
    if isinstance(module, nn.MultiheadAttention):
        return (
            "an attention with batch_first=False takes [tokens, n, channels]: move the axes, or "
            "build it with batch_first=True"
        )
    if isinstance(module, (nn.Softmax, nn.LogSoftmax, nn.Softmin)):
        return "give it an axis behind the batch, such as dim=1"
    return (
        "use statistics of each sample alone (GroupNorm, LayerNorm), or running ones as batch norm "
        "does in eval mode"
    )
