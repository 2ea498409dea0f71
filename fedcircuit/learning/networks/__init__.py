"""Networks, the weights they keep, and the names under which these are exchanged."""

from fedcircuit.learning.networks.exchanged_names import NameFit, NameFitError, fitted
from fedcircuit.learning.networks.features import head_inputs, head_layer, linear_layers
from fedcircuit.learning.networks.layers import layer_weights
from fedcircuit.learning.networks.models import Activation, Initialisation, build_model
from fedcircuit.learning.networks.sparsity import Pruning, WeightSparsity, density, sparsified

__all__ = [
    "Activation",
    "Initialisation",
    "NameFit",
    "NameFitError",
    "Pruning",
    "WeightSparsity",
    "build_model",
    "density",
    "fitted",
    "head_inputs",
    "head_layer",
    "layer_weights",
    "linear_layers",
    "sparsified",
]
