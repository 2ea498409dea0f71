"""What a study's clients remember from round to round, and what a resumed run gives them back."""

from __future__ import annotations

from pathlib import Path

from fedcircuit.aggregation import lips
from fedcircuit.app.config import StudyConfig
from fedcircuit.learning import Weights
from fedcircuit.records.runs import Run


def own_tensors(config: StudyConfig) -> bool:
    """Whether clients keep tensors for themselves: batch norm (FedBN), or as LIPS asks for it."""
    masking = config.strategy.lips
    return config.training.batch_norm == "own" or (masking is not None and not masking.sync_bn)


def forgotten(config: StudyConfig) -> tuple[str, ...]:
    """What the study's clients remember from round to round, and forget when a run stops.

    Their own batch norm is not among it where the run keeps what they sent, exactly.
    """
    masking, training, kept = config.strategy.lips, config.training, []
    if masking is not None and masking.score == "sensitivity":
        kept.append("their last gradients")
    if own_tensors(config) and config.storage.updates != "full":
        exact = "" if config.storage.updates == "none" else "the last digits of "
        kept.append(f"{exact}their own batch norm")
    moments = training.optimizer == "adam" or training.momentum > 0
    if training.optimizer_state == "kept" and moments:
        kept.append("the state of their optimisers")
    return tuple(kept)


def kept_by_clients(path: Path, done: int) -> dict[int, Weights]:
    """Tensors of at most one axis that each client sent last, by partition, up to round ``done``.

    All that clients keep for themselves is among them, and is part of what they send, so this is
    what each of them remembered. Empty where the run keeps no client weights.
    """
    run = Run.load(path)
    if run.manifest["config"]["storage"]["updates"] == "none":
        return {}
    last: dict[str, int] = {}
    for number in range(1, done + 1):
        last.update(dict.fromkeys(run.clients_of(number), number))
    found: dict[int, Weights] = {}
    for client, number in last.items():
        sent = run.client_weights(number, client)
        found[int(client)] = {name: sent[name] for name in lips.local_tensors(sent)}
    return found
