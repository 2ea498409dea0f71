"""Rounds of circuits made by hand, without a model: masks and scores are given."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedcircuit.circuits.checks.validity import Status, Validity
from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.overlap.jaccard import Side, paired_overlaps
from fedcircuit.circuits.round.client_comparison import ClientComparison
from fedcircuit.circuits.round.model_circuits import ModelCircuits
from fedcircuit.circuits.round.round_circuits import GLOBAL, RoundCircuits
from fedcircuit.circuits.verdicts.judging import CircuitFunction


def model_circuits(
    model: str,
    sites: tuple[Site, ...],
    masks: Tensor,
    scores: Tensor | None,
    found: Tensor | None = None,
) -> ModelCircuits:
    """All units live; every circuit found unless told otherwise, and valid."""
    n_classes, n_units = masks.shape
    return ModelCircuits(
        model=model,
        sites=sites,
        masks=masks,
        found=torch.ones(n_classes, dtype=torch.bool) if found is None else found,
        reasons=("",) * n_classes,
        scores=scores,
        live=torch.ones(n_units, dtype=torch.bool),
        validity=(Validity(Status.VALID, ""),) * n_classes,
    )


def round_of(average: ModelCircuits, clients: Mapping[str, ModelCircuits]) -> RoundCircuits:
    """The global model's circuits and the clients', compared."""
    assert average.model == GLOBAL
    comparisons = {}
    for name, one in clients.items():
        table = paired_overlaps(
            Side(one.masks, one.found, one.live),
            Side(average.masks, average.found, average.live),
            average.sites,
        )
        n_classes = len(one.masks)
        nothing = (CircuitFunction(),) * n_classes
        overlaps = tuple(table.at(index) for index in range(n_classes))
        comparisons[name] = ClientComparison(nothing, nothing, overlaps, ())
    return RoundCircuits(average.sites, (average, *clients.values()), comparisons, (), {})
