"""What all discovery methods share: scores of units, sizes of circuits, one protocol."""

from fedcircuit.circuits.search.contrast import against_others, contrast_of_logits, separations
from fedcircuit.circuits.search.effects import Effects, mean_effects, summed_effects
from fedcircuit.circuits.search.gradients import (
    contrast_rows,
    own_gradients,
    separation_weights,
    shared_gradients,
)
from fedcircuit.circuits.search.protocol import (
    Cost,
    Curve,
    Discovery,
    DiscoveryMethod,
    Meter,
    Sizing,
    Task,
    absent_reasons,
    class_stream,
    frozen,
    nothing_found,
)
from fedcircuit.circuits.search.scored_method import (
    Mass,
    Scored,
    ScoredMethod,
    Scorer,
    SizeRule,
    UnitScored,
    default_size,
    reasons_for,
    size_options,
    size_rule,
)
from fedcircuit.circuits.search.searched_model import SearchedModel, SearchingMethod, searched
from fedcircuit.circuits.search.size_rules import Faithful, first_of_each_class, first_places
from fedcircuit.circuits.search.top_units import mass_rule, ranks

__all__ = [
    "Cost",
    "Curve",
    "Discovery",
    "DiscoveryMethod",
    "Effects",
    "Faithful",
    "Mass",
    "Meter",
    "Scored",
    "ScoredMethod",
    "Scorer",
    "SearchedModel",
    "SearchingMethod",
    "SizeRule",
    "Sizing",
    "Task",
    "UnitScored",
    "absent_reasons",
    "against_others",
    "class_stream",
    "contrast_of_logits",
    "contrast_rows",
    "default_size",
    "first_of_each_class",
    "first_places",
    "frozen",
    "mass_rule",
    "mean_effects",
    "nothing_found",
    "own_gradients",
    "ranks",
    "reasons_for",
    "searched",
    "separation_weights",
    "separations",
    "shared_gradients",
    "size_options",
    "size_rule",
    "summed_effects",
]
