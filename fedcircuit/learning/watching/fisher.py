"""The diagonal Fisher information of a client's network on its own samples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fedcircuit.learning.networks import evaluating
from fedcircuit.logits import logits_of
from fedcircuit.samples import Samples


def diagonal_fisher(model: nn.Module, samples: Samples) -> dict[str, NDArray[np.float32]]:
    """The mean over the samples of the squared gradient of each one's log-likelihood.

    It is the empirical one, of the labels that the samples have (Kunstner et al. 2019, arXiv
    1905.12558), at the model as it is, in eval mode: batch norm uses its running statistics. The
    likelihood is that of plain cross-entropy, whatever objective the model was trained with. Every
    sample takes a forward and a backward pass of its own.

    Parameters
    ----------
    model
        Left as it is: weights, gradients and modes.
    samples
        Not empty.

    Returns
    -------
    dict
        float32 arrays >= 0 of the shapes of the parameters that are trained, by name.
    """
    # torch.func.vmap would do many samples at once: on a CPU hardly faster, and it imports torch's
    # compiler, which takes longer than a small client trains
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    with evaluating(model), torch.enable_grad():
        for index in torch.split(torch.arange(len(samples)), 1):
            one = samples.take(index)
            logits = logits_of(model, one.inputs)
            loss = functional.cross_entropy(logits, one.labels.to(logits.device))
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for values, gradient in zip(total.values(), gradients, strict=True):
                if gradient is not None:
                    values += gradient.double().square()
    return {
        name: (values.detach() / len(samples)).float().cpu().numpy().copy()
        for name, values in total.items()
    }
