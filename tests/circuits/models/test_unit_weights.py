"""Weights are read where a layer keeps them, also where they are computed from others."""

import pytest
import torch
from three_classes import PROBE, X, network
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fedcircuit import discover
from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.models.unit_weights import incoming_weights
from fedcircuit.circuits.round.model_circuits import circuits_of_model

NORMS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "weight norm of old": nn.utils.weight_norm,
    "spectral norm of old": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NORMS)
def test_weights_that_are_computed_are_read_and_stay_whole(name: str) -> None:
    model = network()
    NORMS[name](model[3])
    model(X)  # the old form keeps the result of a computation
    before = model.eval()(X)

    norms = discover(model, PROBE, method="magnitude")
    found = circuits_of_model(model, PROBE)

    used = model[3].weight.detach().norm(dim=1)
    assert torch.allclose(norms.scores[0, 4:], used / used.mean())
    assert found.masks.shape == (3, 10)
    assert torch.equal(model(X), before)  # copies share the class of a parametrized module


class Attends(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.size, self.head = self.attention.kdim, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        other = x[..., : self.size]
        return self.head(self.attention(x, other, other)[0].mean(1))


@pytest.mark.parametrize("options", [{}, {"kdim": 3, "vdim": 3}], ids=["joint", "apart"])
def test_magnitude_scores_heads_by_their_projections(options: dict[str, int]) -> None:
    torch.manual_seed(0)
    model = Attends(**options)
    attention = model.attention
    if options:
        parts = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    else:
        parts = list(attention.in_proj_weight.chunk(3))
    squares = [
        sum(float(part[2 * head : 2 * head + 2].detach().square().sum()) for part in parts)
        for head in range(2)
    ]
    norms = torch.tensor(squares).sqrt()

    found = discover(model, PROBE, method="magnitude")

    assert found.sites == (Site("attention", 2, 2, "attention"),)
    assert torch.allclose(found.scores, (norms / norms.mean()).expand(3, -1))
    weights = incoming_weights(model, found.sites[0])
    assert torch.allclose(weights.norm(dim=1), norms)
