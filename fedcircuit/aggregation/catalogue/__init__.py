"""Rules by the names of a configuration, and what each needs of a round."""

from fedcircuit.aggregation.catalogue.named import NEEDS, RULE_NAMES, lacking, rule

__all__ = [
    "NEEDS",
    "RULE_NAMES",
    "lacking",
    "rule",
]
