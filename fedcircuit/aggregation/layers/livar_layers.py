"""LIVAR's layers: clients weighted, layer by layer, by how much their steps changed the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedcircuit import messages
from fedcircuit.aggregation import NO_STATE, RuleError, Setting, State, Update, Updates
from fedcircuit.aggregation.heads import find_head
from fedcircuit.aggregation.layers.importance_table import one_factor, shares_of, two_factors
from fedcircuit.aggregation.lora import FactorPair, MergeMode, merge
from fedcircuit.learning import Weights

Base = Literal["samples", "uniform"]
Floats = NDArray[np.float64]

LOST = "lost-energy/"  # prefix in the state, before the name of a pair's factor A
_A, _B = "lora_A", "lora_B"  # in the names of peft's factors


@dataclass(frozen=True)
class LivarLayers:
    """Layers weighted by path importance (LIVAR, arXiv 2507.06813).

    Clients say for the weight of every layer S = sum |<gradient, step>| over all their rounds. Of
    all (client, layer) pairs together those below the 60th percentile get the raw weight 0.433,
    those above the 80th 1.340, the others 1; within a layer these are normalised over the clients.
    Where weights come as LoRA's pairs (names with ``lora_A`` and ``lora_B``) the paper's table of
    both factors' importances takes its place. A bias goes with its weight. Of what no layer has
    (norms, embeddings, buffers, layers that nobody trained) the average is kept.

    Clients start where they start: what is merged are their changes, added to the weights before.

    Parameters
    ----------
    base
        ``samples``: raw weights are multiplied by the clients' shares of the samples, so that equal
        importances give FedAvg. ``uniform``: as in the paper.
    mode
        How pairs of LoRA are merged: ``factors``, each by itself, as in the released code;
        ``product``; ``freeze_A``. The energy that a pair lost is kept in the state. Clients that
        started elsewhere than from the global weights can only be merged by ``factors``.
    with_head
        Merge the last linear layer as well; else it stays the average's, for a rule of the head,
        and the number of classes must be known.

    Raises
    ------
    ValueError
        If a choice is none of these.
    """

    name: ClassVar[str] = "livar-layers"

    base: Base = "samples"
    mode: MergeMode = "factors"
    with_head: bool = False

    def __post_init__(self) -> None:
        for name, known in (("base", Base), ("mode", MergeMode)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"{name} must be one of {get_args(known)}, got {getattr(self, name)!r}"
                )

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """The average with its layers merged anew; the state holds each pair's lost energy."""
        said = _importance(self.name, updates)
        if not self.with_head:
            head = find_head(average, setting, self.name).names
            said = {name: values for name, values in said.items() if name not in head}
            if not said:
                raise RuleError(
                    self.name,
                    "it needs the path importance of a layer before the head, clients sent that of "
                    f"{head[0]!r} alone; use with_head=True to merge it",
                )
        shares = layer_shares(said, updates.shares if self.base == "samples" else None)
        kinds, result, lost = _kinds(said), dict(average), {}
        alone = list(kinds.whole)
        if self.mode == "factors":
            alone += [name for pair in kinds.pairs for name in pair]
        else:
            pairs = list(kinds.pairs)
            if self.mode == "freeze_A":  # an A that nobody trains has no importance
                frozen = {n: n.replace(_B, _A) for n in alone if _B in n}
                pairs += [(own, name) for name, own in frozen.items() if own in average]
                alone = [name for name in alone if frozen.get(name) not in average]
            for pair in pairs:
                a, b, energy = self._pair(updates, pair, shares[pair[1]])
                for part, values in zip(pair, (a, b), strict=True):
                    result[part] = values.astype(average[part].dtype)
                lost[LOST + pair[0]] = np.array(energy, np.float64)
        for name in alone:
            for part in _with_bias(name, average):
                result[part] = _merged(updates, part, shares[name]).astype(average[part].dtype)
        return result, lost or NO_STATE

    def _pair(
        self, updates: Updates, names: tuple[str, str], shares: Floats
    ) -> tuple[Floats, Floats, float]:
        pairs = []
        for update in updates.clients:
            if any(name in update.start for name in names):
                raise RuleError(
                    self.name,
                    f"mode {self.mode!r} needs clients that started from the global weights, this "
                    "one did not; use mode 'factors'",
                    update.client,
                )
            a, b = (np.asarray(update.weights[name], np.float64) for name in names)
            try:
                pairs.append(FactorPair(a, b))
            except ValueError as error:
                raise RuleError(self.name, f"{names[0]!r}: {error}", update.client) from error
        try:
            made = merge(self.mode, pairs, shares)
        except ValueError as error:
            raise RuleError(self.name, f"{names[0]!r}: {error}") from error
        return made.pair.a, made.pair.b, made.lost_energy


@dataclass(frozen=True)
class _Kinds:
    """Names of layers: pairs of LoRA's factors, and whole weights."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)


def _kinds(names: Mapping[str, object]) -> _Kinds:
    kinds = _Kinds()
    for name in names:
        if _A in name and name.replace(_A, _B) in names:
            kinds.pairs.append((name, name.replace(_A, _B)))
        elif not (_B in name and name.replace(_B, _A) in names):
            kinds.whole.append(name)
    return kinds


def layer_shares(importance: Mapping[str, Floats], base: Floats | None = None) -> dict[str, Floats]:
    """``[clients]`` for each layer, summing to 1.

    Pairs of LoRA's factors and whole weights have quantiles of their own.

    Parameters
    ----------
    importance
        ``[clients]`` for the weight of each layer, S.
    base
        ``[clients]``, by which raw weights are multiplied; None is 1.
    """
    kinds, shares = _kinds(importance), {}
    if kinds.whole:
        whole = np.stack([importance[name] for name in kinds.whole], axis=1)
        made = shares_of(one_factor(whole), base)
        shares.update({name: made[:, index] for index, name in enumerate(kinds.whole)})
    if kinds.pairs:
        a = np.stack([importance[own] for own, _ in kinds.pairs], axis=1)
        b = np.stack([importance[own] for _, own in kinds.pairs], axis=1)
        made = shares_of(two_factors(a, b), base)
        for index, pair in enumerate(kinds.pairs):
            shares.update(dict.fromkeys(pair, made[:, index]))
    return shares


def _importance(rule: str, updates: Updates) -> dict[str, Floats]:
    """``[clients]`` for each layer that all clients name, in the order of the weights."""
    said = [_said(rule, update, updates.before) for update in updates.clients]
    for update, own in zip(updates.clients, said, strict=True):
        if odd := sorted(set(own) ^ set(said[0])):
            raise RuleError(
                rule,
                f"it needs the path importance of the same layers from all clients; "
                f"{updates.clients[0].client} and this client differ in {odd[0]!r}",
                update.client,
            )
    return {n: np.array([own[n] for own in said]) for n in updates.before if n in said[0]}


def _said(rule: str, update: Update, before: Weights) -> dict[str, float]:
    layers = update.said.get(messages.PATH_LAYERS)
    values = update.said.get(messages.PATH_IMPORTANCE)
    if layers is None or values is None:
        raise RuleError(
            rule,
            f"it needs {messages.PATH_LAYERS!r} and {messages.PATH_IMPORTANCE!r} in the side "
            "record; train with LocalTraining(path_importance=True)",
            update.client,
        )
    if not isinstance(layers, Sequence) or not isinstance(values, Sequence):
        raise RuleError(rule, "it needs a list of layers and one of numbers", update.client)
    if len(layers) != len(values) or not layers:
        raise RuleError(
            rule,
            f"it needs one number a layer, for at least one; got {len(layers)} layers and "
            f"{len(values)} numbers",
            update.client,
        )
    found: dict[str, float] = {}
    for name, value in zip(layers, values, strict=True):
        number = float(value) if isinstance(value, (int, float)) else np.nan
        known = isinstance(name, str) and name in before and name not in found
        if not (known and np.isfinite(number) and number >= 0):
            raise RuleError(
                rule,
                "it needs finite importances >= 0 of weights that were sent, each once; got "
                f"{value!r} for {name!r}",
                update.client,
            )
        found[str(name)] = number
    return found


def _with_bias(weight: str, average: Weights) -> list[str]:
    """A layer's weight and, where it has one, its bias: ``in_proj_bias`` of ``in_proj_weight``."""
    prefix, dot, own = weight.rpartition(".")
    bias = f"{prefix}{dot}{own.replace('weight', 'bias')}"
    return [weight, bias] if bias != weight and bias in average else [weight]


def _merged(updates: Updates, name: str, shares: Floats) -> Floats:
    """``before + sum_k w_k (W_k - start_k)``, written such that equal starts cost no rounding."""
    before = np.asarray(updates.before[name], np.float64)
    total = np.zeros(before.shape)
    for update, share in zip(updates.clients, shares, strict=True):
        own = np.asarray(update.weights[name], np.float64)
        if name in update.start:
            own = own + (before - np.asarray(update.start[name], np.float64))
        total += share * own
    return total
