"""Variational estimates of mutual information by a small trained critic: InfoNCE, MINE, SMILE."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fedcircuit.analysis.estimators.critic_training import scored, trained
from fedcircuit.analysis.estimators.estimate import (
    LABELS,
    PAIR,
    Asked,
    Estimate,
    Float64Array,
    Int64Array,
    check_pair,
    check_shapes,
    known_without_estimating,
    permutation_null,
    saturates,
    unique_share,
)
from fedcircuit.analysis.estimators.settings import CRITICS, InformationSettings
from fedcircuit.learning import generator as stream

_LEAST_SAMPLES = 20


def critic_information(
    first: Float64Array,
    second: Float64Array,
    settings: InformationSettings,
    *,
    method: str,
    generator: torch.Generator,
) -> Estimate:
    """I(X;Y) of ``[n, d]`` and ``[n, e]`` by a critic trained on one half, scored on the other.

    A fifth of the training half decides when to stop and which of the critics is kept. In nats:

    - ``infonce``: ``E[f_ii - logmeanexp_j f_ij]``, never above the log of the batch (van den Oord
      et al., 2018, arXiv 1807.03748);
    - ``mine``: ``E_p f - log E_q exp f``, with a moving average in the gradient (Belghazi et al.,
      2018, arXiv 1801.04062);
    - ``smile``: trained by the Jensen-Shannon bound, scored as MINE with f clipped to [-tau, tau]
      in the second term (Song and Ermon, 2020, arXiv 1910.06222).

    All are far too low where dimensions and information are high. Seconds each.

    Parameters
    ----------
    first, second
        ``[n, d]`` and ``[n, e]``; columns are standardised.
    settings
        Unit and ``critic``.
    method
        ``infonce``, ``mine`` or ``smile``.
    generator
        Of the split, the first weights and the batches.

    Raises
    ------
    ValueError
        If the method is unknown or the shapes do not fit.
    """
    check_pair(first, second)
    if method not in CRITICS:
        raise ValueError(f"method must be one of {', '.join(CRITICS)}, got {method!r}")
    asked = _asked(PAIR, np.concatenate([first, second], axis=1), settings, method)
    known = known_without_estimating(first) or known_without_estimating(second)
    if known is None and len(first) < _LEAST_SAMPLES:
        known = math.nan, _too_few(len(first))
    if known is not None:
        return asked.answer(known[0], reason=known[1])
    nats = _nats(first, second, settings, method, generator)
    return asked.answer(nats, saturated=saturates(nats, _ceiling(len(first), settings, method)))


def critic_labels(
    activations: Float64Array, labels: Int64Array, settings: InformationSettings, *, seed: int
) -> Estimate:
    """I(T;Y) by the critic ``settings.labels``, which sees labels as one place for every class.

    Activations ``[n, d]``, labels ``[n]``; the seed is that of the critic and the permutations.
    """
    check_shapes(activations, labels)
    method = settings.labels
    asked = _asked(LABELS, activations, settings, method)
    permutations = settings.permutations_of(method)
    known = known_without_estimating(activations, labels)
    if known is None and len(labels) < _LEAST_SAMPLES:
        known = math.nan, _too_few(len(labels))
    if known is not None:
        null = known[0] if permutations else math.nan
        return asked.answer(known[0], null=null, reason=known[1])
    classes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    places = np.eye(int(classes.max()) + 1)

    def estimate(classes: Int64Array) -> float:
        return _nats(activations, places[classes], settings, method, stream(seed, "critic"))

    nats = estimate(classes)
    null = permutation_null(estimate, classes, permutations, seed)
    ceiling = _ceiling(len(labels), settings, method)
    return asked.answer(nats, saturated=saturates(nats, ceiling), null=null)


def _asked(quantity: str, rows: Float64Array, settings: InformationSettings, method: str) -> Asked:
    critic = settings.critic
    text = f"at most {critic.steps} steps of {critic.batch} pairs, width {critic.width}"
    text += f", scored in batches of {critic.score_batch}"
    text += f", tau = {critic.tau:g}" if method == "smile" else ""
    n, d = rows.shape
    return Asked(quantity, method, text, settings.unit, n, d, unique_share(rows))


def _too_few(n: int) -> str:
    return f"{n} samples are too few to train, stop and score a critic: {_LEAST_SAMPLES} are needed"


def _ceiling(n: int, settings: InformationSettings, method: str) -> int:
    """The number whose log the estimate cannot exceed: the largest batch scored with InfoNCE."""
    held = n - n // 2
    if method != "infonce":
        return n
    return math.ceil(held / math.ceil(held / settings.critic.score_batch))


def _nats(
    first: Float64Array,
    second: Float64Array,
    settings: InformationSettings,
    method: str,
    generator: torch.Generator,
) -> float:
    n = len(first)
    order = torch.randperm(n, generator=generator)
    train, stop, held = order.tensor_split([2 * n // 5, n // 2])
    x, y = _standardised(first, train), _standardised(second, train)
    critic = trained((x[train], y[train]), (x[stop], y[stop]), method, settings.critic, generator)
    return scored(critic, (x[held], y[held]), method, settings.critic)


def _standardised(values: Float64Array, train: Tensor) -> Tensor:
    """Columns ``[n, d]`` in float32 with mean 0 and variance 1 over the training samples."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    scale = tensor[train].std(0, unbiased=False)
    tensor = (tensor - tensor[train].mean(0)) / torch.where(scale > 0, scale, 1.0)
    return tensor.float()
