"""What a study's clients remember from round to round, and what a resumed run gives them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedcircuit import messages
from fedcircuit.aggregation import lips
from fedcircuit.app.config import StudyConfig, parse_study
from fedcircuit.clients import memory
from fedcircuit.learning import Weights
from fedcircuit.learning.training import next_gradient
from fedcircuit.records.rounds import ClientRecord
from fedcircuit.records.runs import Run


def own_tensors(config: StudyConfig) -> bool:
    """Whether clients remember anything that a record of their run can give back.

    That is tensors of their own (FedBN, LIPS), SCAFFOLD's control variates, FedDyn's gradients and
    sums of path importance.
    """
    return _said_in_full(config) or _own_batch_norm(config)


def forgotten(config: StudyConfig) -> tuple[str, ...]:
    """What the study's clients remember from round to round, and forget when a run stops.

    What follows from what they sent is not among it where the run keeps that, exactly.
    """
    masking, training, kept = config.strategy.lips, config.training, []
    exact = "" if config.storage.updates == "none" else "the last digits of "
    if masking is not None and masking.score == "sensitivity":
        kept.append("their last gradients")
    if _own_batch_norm(config) and config.storage.updates != "full":
        kept.append(f"{exact}their own batch norm")
    if training.feddyn_alpha > 0 and config.storage.updates != "full":
        kept.append(f"{exact}their gradients of FedDyn")
    moments = training.optimizer == "adam" or training.momentum > 0
    if training.optimizer_state == "kept" and moments:
        kept.append("the state of their optimisers")
    return tuple(kept)


def kept_by_clients(path: Path, done: int) -> dict[int, dict[str, Weights]]:
    """What clients remembered after round ``done``, by partition and by the keys of their memory.

    It is worked out of what they sent, so it fits ``client_app(remembered=...)`` of a program of
    one's own too. Without client weights in the run, batch norm of their own and FedDyn's gradients
    are missing.

    Parameters
    ----------
    path, done
        A run folder, and the round after which it is gone on with.
    """
    run = Run.load(path)
    raw = run.manifest.get("config") or {}
    config = parse_study(raw, where=f"the configuration in {path}") if "training" in raw else None
    found: dict[int, dict[str, Weights]] = {}
    if config is None or _own_batch_norm(config):
        for client, tensors in _last_sent(run, done).items():
            found.setdefault(client, {})[memory.OWN] = tensors
    if config is None or _said_in_full(config):
        before: Weights = run.weights(0)
        for number in range(1, done + 1):
            record = run.record(number)
            for one in record.clients:
                if one.client.isdecimal():
                    _remember(found.setdefault(int(one.client), {}), one, before)
            before = record.weights
    return found


def _said_in_full(config: StudyConfig) -> bool:
    """Whether clients remember what they also say, or what follows from their weights."""
    training = config.training
    return training.scaffold or training.feddyn_alpha > 0 or training.path_importance


def _own_batch_norm(config: StudyConfig) -> bool:
    masking = config.strategy.lips
    return config.training.batch_norm == "own" or (masking is not None and not masking.sync_bn)


def _last_sent(run: Run, done: int) -> dict[int, Weights]:
    """Tensors of at most one axis that each client sent last.

    All tensors of their own are among them, and are part of what they send.
    """
    if run.manifest["storage"]["updates"] == "none":
        return {}
    last: dict[str, int] = {}
    for number in range(1, done + 1):
        last.update(dict.fromkeys(run.clients_of(number), number))
    found: dict[int, Weights] = {}
    for client, number in last.items():
        if not client.isdecimal():  # of clients that hold no partition
            continue
        sent = run.client_weights(number, client)
        found[int(client)] = {name: sent[name] for name in lips.local_tensors(sent)}
    return found


def _remember(kept: dict[str, Weights], client: ClientRecord, before: Weights) -> None:
    """Go one round on with what a client remembers, as it did itself."""
    said: Mapping[str, object] = client.extra
    change = said.get(messages.SCAFFOLD_DELTA)
    if isinstance(change, bytes):
        numbers = np.frombuffer(change, "<f4")
        control = kept.get(memory.SCAFFOLD, {}).get(memory.CONTROL)
        was = np.zeros_like(numbers) if control is None else np.asarray(control, np.float32)
        kept[memory.SCAFFOLD] = {memory.CONTROL: memory.next_control(was, numbers)}
    alpha = said.get(messages.FEDDYN_ALPHA)
    if isinstance(alpha, float) and client.weights:
        start, settled = client.start(before), kept.get(memory.FEDDYN, {})
        kept[memory.FEDDYN] = next_gradient(settled, start, client.weights, alpha)
    layers, sums = said.get(messages.PATH_LAYERS), said.get(messages.PATH_IMPORTANCE)
    if isinstance(layers, (list, tuple)) and isinstance(sums, (list, tuple)):
        kept[memory.PATH_IMPORTANCE] = {
            str(name): np.array(value, np.float64) for name, value in zip(layers, sums, strict=True)
        }
