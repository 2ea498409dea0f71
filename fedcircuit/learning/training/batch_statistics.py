"""Networks that normalise with statistics of their mini-batch, which takes two samples."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedcircuit.learning.training.batches import Passes
from fedcircuit.logits import LogitsError, logits_of
from fedcircuit.samples import Samples


def takes_batch_statistics(model: nn.Module) -> bool:
    """True if the model has a batch norm."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def training_logits(model: nn.Module, batch: Samples, passes: Passes) -> Tensor:
    """Logits ``[n, classes]`` of one mini-batch.

    Raises
    ------
    ValueError
        If batch norm is given a single sample with a single position, naming what to change.
    """
    try:
        logits = logits_of(model, batch.inputs)
    except LogitsError:
        raise
    except ValueError as error:  # PyTorch's words name neither the client's samples nor batch_size
        if len(batch) > 1 or not takes_batch_statistics(model):
            raise
        n, size = passes.n, passes.size
        mend = "give it more samples, leave it out" if n == 1 else "use batch_size 2 or more"
        raise ValueError(
            "batch norm needs mini-batches of at least two samples in training, this client has "
            f"{n} and batch_size is {size}; {mend}, or use a model without batch norm ({error})"
        ) from error
    return logits
