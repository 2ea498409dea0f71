"""Models as they are looked at: mode, calls of modules, names of places."""

from fedcircuit.circuits.models.evaluation_mode import (
    copied,
    evaluating,
    ordinary,
    searching,
    trying,
    workable,
)
from fedcircuit.circuits.models.memory_format import agree, fast_copy
from fedcircuit.circuits.models.module_calls import (
    CONVOLUTIONS,
    TRANSPOSED,
    UNIT_LAYERS,
    UNIT_MAKERS,
    Call,
    differ,
    is_traced,
    sites_of_calls,
)
from fedcircuit.circuits.models.site_names import (
    RESERVED,
    Names,
    layer_title,
    model_names,
    named_sites,
)
from fedcircuit.circuits.models.unit_weights import incoming_weights, layer_weight
from fedcircuit.circuits.models.unsupported import (
    require_no_sigmoid,
    require_one_input,
    require_readable,
)

__all__ = [
    "CONVOLUTIONS",
    "Call",
    "Names",
    "RESERVED",
    "TRANSPOSED",
    "UNIT_LAYERS",
    "UNIT_MAKERS",
    "agree",
    "copied",
    "differ",
    "evaluating",
    "fast_copy",
    "incoming_weights",
    "is_traced",
    "layer_title",
    "layer_weight",
    "model_names",
    "named_sites",
    "ordinary",
    "require_no_sigmoid",
    "require_one_input",
    "require_readable",
    "searching",
    "sites_of_calls",
    "trying",
    "workable",
]
