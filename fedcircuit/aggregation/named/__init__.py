"""Aggregation rules by the names that a configuration gives them, and what each of them needs."""

from fedcircuit.aggregation.named.rules import NEEDS, RULE_NAMES, lacking, rule

__all__ = ["NEEDS", "RULE_NAMES", "lacking", "rule"]
