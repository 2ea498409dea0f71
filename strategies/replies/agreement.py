"""What the replies of a round must look like: the weights sent, or what the clients agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from fedcircuit.learning import Weights
from fedcircuit.strategies.replies.reply import Reply, same_kind

Form = tuple[tuple[str, tuple[int, ...], str], ...]  # name, shape, kind of numbers
Dtypes = Mapping[str, np.dtype[np.generic]]


def agreed(
    replies: Sequence[Reply], sent: Weights, initial: Dtypes | None = None
) -> tuple[Weights, Dtypes]:
    """Arrays whose names, shapes and dtypes good replies have, and the dtypes those stand for.

    They are those sent, unless more clients answer in one other form: where clients keep a head or
    batch norm for themselves, or send something else on purpose, that is their agreement. One
    client alone may leave tensors out, but not send others than it was sent.

    Parameters
    ----------
    replies
        Of one round; those with an error have no say.
    sent
        The weights the clients were sent.
    initial
        Dtypes of the run's initial weights.
    """
    own = {name: (initial or {}).get(name, values.dtype) for name, values in sent.items()}
    forms = [
        (_form(reply.weights, own), reply.weights)
        for reply in replies
        if reply.error is None and reply.weights
    ]
    usual = _form(sent, own)
    counts = Counter(form for form, _ in forms)
    counts[usual] += 0
    for form in [form for form, count in counts.items() if count == 1]:
        if not set(form) <= set(usual):
            del counts[form]
    best = max(counts, key=lambda form: (counts[form], form == usual))
    if best == usual:
        return sent, initial or {}
    example = next(weights for form, weights in forms if form == best)
    like_sent = {entry for entry in usual if entry in best}
    template = {
        entry[0]: sent[entry[0]] if entry in like_sent else example[entry[0]]
        for entry in best
    }  # fmt: skip
    return template, {name: own[name] for name, _, _ in like_sent}


def _form(weights: Weights, own: Dtypes) -> Form:
    """Names, shapes and kinds; numbers that stand for those of the run are of one kind."""
    return tuple(
        sorted(
            (name, tuple(values.shape), _kind(values.dtype, own.get(name)))
            for name, values in weights.items()
        )
    )


def _kind(dtype: np.dtype[np.generic], own: np.dtype[np.generic] | None) -> str:
    return "own" if own is not None and same_kind(dtype, own) else dtype.kind


def differing(template: Weights, sent: Weights) -> tuple[list[str], list[str]]:
    """Names that the clients keep for themselves, and those they send otherwise or in addition."""
    kept = [name for name in sent if name not in template]
    other = [name for name, values in template.items() if values is not sent.get(name)]
    return kept, other
