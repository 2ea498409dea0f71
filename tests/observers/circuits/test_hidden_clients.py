"""Clients whose weights are hidden: what they sent is recorded, what nobody knows is NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from blob_models import N_CLASSES, N_UNITS, blobs, network

from fedcircuit.circuits.probes.probe import Probe
from fedcircuit.circuits.round.sent_circuits import to_message
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.learning.weights import get_weights
from fedcircuit.observers.circuits.observer import CircuitObserver
from fedcircuit.records.rounds.round_record import ClientRecord, RoundView


def test_every_array_has_a_row_for_every_model_and_nobodys_scores_are_nan() -> None:
    samples = blobs(60, 0)
    probe = Probe.split(samples, tuple(map(str, range(N_CLASSES))), 0)
    weights = get_weights(network())
    masks = torch.zeros(N_CLASSES, N_UNITS, dtype=torch.bool)
    masks[1, :2] = True
    said = to_message(masks, masks.any(1))
    hidden = (ClientRecord("0", 5, {}, extra=said), ClientRecord("1", 5, {}))
    view = RoundView(1, weights, weights, (), hidden)
    look = CircuitObserver(network(), probe, CircuitSettings(controls=2), seed=0, scores=True)

    seen = look(view)

    assert [row[0] for row in seen.tables["models"].rows] == ["global", "0"]
    assert {name: len(values) for name, values in seen.arrays.items()} == dict.fromkeys(
        ("masks", "found", "live", "scores"), 2
    )
    sent = np.unpackbits(seen.arrays["masks"][1], axis=-1, count=N_UNITS).astype(bool)
    assert np.array_equal(sent, masks.numpy())
    assert np.isnan(seen.arrays["scores"][1]).all()
    assert not np.isnan(seen.arrays["scores"][0]).any()
    assert ("1", "the client sent no circuits") in seen.tables["skipped"].rows
    alone = look(replace(view, hidden=()))
    assert np.array_equal(seen.arrays["scores"][:1], alone.arrays["scores"])
