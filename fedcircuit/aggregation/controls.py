"""Controls: a rule that is given, in place of what it reads, the same without its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from fedcircuit.aggregation.rule import Rule, RuleError, Said, Setting, State, Updates
from fedcircuit.aggregation.units import circuits_of
from fedcircuit.learning import Weights, derived_seed

ControlKind = Literal["permuted-circuits", "all-units", "permuted-labels"]
CONTROL_KINDS: tuple[str, ...] = get_args(ControlKind)


@dataclass(frozen=True)
class Control:
    """A rule as its own control: what it gains here it does not gain by what it reads.

    Parameters
    ----------
    rule
        The rule.
    kind
        ``permuted-circuits``: the units of each client's circuits are permuted within their
        layers, anew for every client and round and alike for all classes, which keeps size and
        overlap of the circuits. ``all-units``: all circuits hold all units, so that only the
        clients' shares of the classes are left. ``permuted-labels``: the labels of the probe are
        permuted.

    Raises
    ------
    ValueError
        If there is no control of this kind.
    """

    name: ClassVar[str] = "control"

    rule: Rule
    kind: ControlKind

    def __post_init__(self) -> None:
        if self.kind not in CONTROL_KINDS:
            raise ValueError(
                f"unknown control {self.kind!r}; choose from {', '.join(CONTROL_KINDS)}"
            )

    def __call__(
        self, updates: Updates, average: Weights, setting: Setting, state: State
    ) -> tuple[Weights, State]:
        """What the rule makes of the round without the meaning.

        Raises
        ------
        RuleError
            If the setting has no circuits, or no probe, to take the meaning from.
        """
        rng = np.random.default_rng(derived_seed(setting.seed, "control", updates.round))
        if self.kind == "permuted-labels":
            return self.rule(updates, average, self._permuted_labels(setting, rng), state)
        masks, spans = circuits_of(self.rule.name, updates, setting)
        if self.kind == "all-units":
            changed = np.ones_like(masks)
        else:
            changed = masks.copy()
            for own in changed:  # of one client
                for span in spans:
                    units = rng.permutation(span.stop - span.start)
                    own[:, span.start : span.stop] = span.of(own)[:, units]
        return self.rule(updates, average, replace(setting, masks=changed), state)

    def told(self, state: State, names: Iterable[str]) -> Mapping[str, Said]:
        """What the rule has to tell clients."""
        told = getattr(self.rule, "told", None)
        said: Mapping[str, Said] = {} if told is None else told(state, names)
        return said

    def _permuted_labels(self, setting: Setting, rng: np.random.Generator) -> Setting:
        probe = setting.probe
        if probe is None:
            raise RuleError(self.rule.name, "needs a probe whose labels can be permuted")
        order = torch.from_numpy(rng.permutation(len(probe)))
        return replace(setting, probe=replace(probe, labels=probe.labels[order]))
