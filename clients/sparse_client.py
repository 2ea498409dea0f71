"""A NumPyClient that trains a weight-sparse network on its own samples."""

from __future__ import annotations

from typing import Any

from flwr.client import NumPyClient
from torch import nn

from fedcircuit.learning.seeds import derived_seed
from fedcircuit.learning.training import LocalTraining, evaluate, train_local
from fedcircuit.learning.weights import get_weights, set_weights
from fedcircuit.samples import Samples


class SparseClient(NumPyClient):
    """Trains and evaluates one client's model; the same result whatever engine runs it.

    Parameters
    ----------
    model
        The client's own copy; its weights are replaced by those that arrive.
    samples
        Training samples; also evaluated on, where ``test`` is not given.
    training
        Optimiser, steps, sparsity and objective.
    n_classes
        Number of logits.
    seed, client
        With ``config["server-round"]`` they make the seed of a round's training.
    test
        Samples to evaluate on.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        training: LocalTraining,
        *,
        n_classes: int,
        seed: int = 0,
        client: int = 0,
        test: Samples | None = None,
    ) -> None:
        self.model = model
        self.samples = samples
        self.training = training
        self.n_classes = n_classes
        self.seed = seed
        self.client = client
        self.test = samples if test is None else test

    def get_parameters(self, config: dict[str, Any]) -> list[Any]:
        """Weights in the order of the model's state dict."""
        return list(get_weights(self.model).values())

    def fit(
        self, parameters: list[Any], config: dict[str, Any]
    ) -> tuple[list[Any], int, dict[str, Any]]:
        """Train from the given weights: new weights, number of samples, loss and accuracy.

        Raises
        ------
        ValueError
            If the weights do not fit, there are no samples, or the loss is not finite.
        """
        self._load(parameters)
        result = train_local(
            self.model,
            self.samples,
            self.training,
            n_classes=self.n_classes,
            seed=derived_seed(self.seed, int(config.get("server-round", 0)), self.client),
        )
        metrics = {"train_loss": result.loss, "train_accuracy": result.accuracy}
        return self.get_parameters(config), result.num_examples, metrics

    def evaluate(
        self, parameters: list[Any], config: dict[str, Any]
    ) -> tuple[float, int, dict[str, Any]]:
        """Loss, number of samples and accuracy of the given weights."""
        self._load(parameters)
        result = evaluate(self.model, self.test, n_classes=self.n_classes)
        return result.loss, len(self.test), {"accuracy": result.accuracy}

    def _load(self, parameters: list[Any]) -> None:
        names = list(self.model.state_dict())
        if len(names) != len(parameters):
            raise ValueError(
                f"the model has {len(names)} tensors, {len(parameters)} arrived; "
                "server and clients must build the same model"
            )
        set_weights(self.model, dict(zip(names, parameters, strict=True)))
