"""What averaging did to what a client had."""

from fedcircuit.circuits.verdicts.judging import (
    CircuitFunction,
    Judgement,
    Verdict,
    VerdictThresholds,
    verdict,
)

__all__ = [
    "CircuitFunction",
    "Judgement",
    "Verdict",
    "VerdictThresholds",
    "verdict",
]
