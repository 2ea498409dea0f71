"""How the circuits of a round are found, checked and judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from fedcircuit.circuits.checks import CheckSettings, Controls, ValidityThresholds
from fedcircuit.circuits.masking import DEFAULT_BYTES, Ablation, require_budget
from fedcircuit.circuits.methods import discovery_method
from fedcircuit.circuits.search import DiscoveryMethod
from fedcircuit.circuits.verdicts import VerdictThresholds
from fedcircuit.ranges import require_at_least


@dataclass(frozen=True)
class CircuitSettings:
    """How the circuits of a round are found, checked and judged.

    Parameters
    ----------
    method, method_options
        A name of ``fedcircuit.circuits.methods.METHOD_NAMES`` with its options; or a method,
        which has its options already.
    ablation
        What a unit outside a circuit becomes, in discovery and in every check.
    controls, control_negatives
        Random circuits for each circuit, and samples of other classes each of them runs on; see
        `fedcircuit.circuits.checks.Controls`.
    validity, verdict
        Thresholds.
    minimality
        Measure the share of every circuit's units that it cannot do without: as many runs of each
        circuit as it has units, the most costly check.
    stability
        Search twice, the second time on the checking half with another seed, and call no circuit
        valid that the second search does not confirm; doubles the cost of discovery. Circuits that
        clients sent are searched for by none, and not held to it.
    batch
        Most rows (a circuit on a sample) in one forward pass of the checks.
    memory_bytes
        How much the search and the checks of one model may hold at a time beside the model, the
        probe and the results; it changes them by rounding at most.

    Raises
    ------
    ValueError
        If the method, an option or the ablation is unknown, or a number is out of range.
    """

    method: str | DiscoveryMethod = "attribution"
    method_options: Mapping[str, object] = field(default_factory=dict)
    ablation: Ablation = "mean"
    controls: int = Controls.count
    control_negatives: int = Controls.negatives
    validity: ValidityThresholds = field(default_factory=ValidityThresholds)
    verdict: VerdictThresholds = field(default_factory=VerdictThresholds)
    minimality: bool = False
    stability: bool = False
    batch: int = 64
    memory_bytes: int = DEFAULT_BYTES

    def __post_init__(self) -> None:
        self.discovery()
        self.checks()
        if self.ablation not in get_args(Ablation):
            raise ValueError(f"ablation must be one of {get_args(Ablation)}, got {self.ablation!r}")
        require_at_least(1, batch=self.batch)
        require_budget(self.memory_bytes)

    def discovery(self) -> DiscoveryMethod:
        """The discovery method."""
        if isinstance(self.method, str):
            return discovery_method(self.method, **self.method_options)
        if self.method_options:
            raise ValueError(
                f"method {self.method.name!r} is given with its options set; "
                f"method_options {dict(self.method_options)} would be ignored"
            )
        return self.method

    def checks(self) -> CheckSettings:
        """Thresholds and controls of the checks."""
        controls = Controls(count=self.controls, negatives=self.control_negatives)
        return CheckSettings(self.validity, controls, minimality=self.minimality)
