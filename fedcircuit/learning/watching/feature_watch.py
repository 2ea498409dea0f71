"""Features of a client's network measured while it trains, or in a pass of their own."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from fedcircuit.learning.networks import (
    LayerCall,
    evaluating,
    head_inputs,
    head_layer,
    linear_layers,
)
from fedcircuit.learning.watching.feature_variance import FeatureMoments, FeatureVariance
from fedcircuit.logits import logits_of, predicted
from fedcircuit.samples import Samples


def head_of(
    model: nn.Module, samples: Samples, n_classes: int, who: str = "feature_variance"
) -> str:
    """Name of the layer whose inputs are the features that an option asks for.

    Raises
    ------
    ValueError
        If the model has no last linear layer with one output a class.
    """
    name = head_layer(model, n_classes, samples.inputs)
    if name is None:
        sizes = {layer: own.out_features for layer, own in linear_layers(model).items()}
        raise ValueError(
            f"{who} needs a last linear layer with {n_classes} outputs, one a class; "
            f"the outputs of the linear layers of {type(model).__name__} are {sizes or 'none'}"
        )
    return name


def seen_batch(
    features: Tensor, logits: Tensor, labels: Tensor, *, correct_only: bool
) -> FeatureMoments:
    """Moments of one mini-batch ``[n, features]`` with its logits ``[n, classes]``."""
    if correct_only and len(features) == len(labels):
        right = predicted(logits.detach()) == labels.to(logits.device)
        features, labels = features[right], labels[right.to(labels.device)]
    return FeatureMoments.of(features, labels, logits.shape[1])


class FeatureWatch:
    """Measures the features of a client that trains; under ``with`` while it does.

    Parameters
    ----------
    model, samples, n_classes
        What is trained, on what, and its number of logits.
    options
        None measures nothing.
    last
        Number of the first step, from 1, of the last epoch.
    frozen
        The network as it was built; needed for ``frozen``.

    Raises
    ------
    ValueError
        If the model has no linear head, or the frozen network is missing.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        options: FeatureVariance | None,
        *,
        n_classes: int,
        last: int,
        frozen: nn.Module | None = None,
    ) -> None:
        self._model, self._samples, self._n_classes = model, samples, n_classes
        self._options = options
        self._head = ""
        if options is not None and options.feature_source == "frozen":
            if frozen is None:
                raise ValueError(
                    "feature_source 'frozen' needs the network as it was built: give "
                    "start=Continuation(frozen=...), or use feature_source 'adapted'"
                )
            self._model = frozen
        elif options is not None:
            self._head = head_of(model, samples, n_classes)
        self._first = 1 if options is not None and options.epoch == "all" else last
        self._live = options is not None and options.while_training
        self._stack = ExitStack()
        self._seen = LayerCall()
        self._moments: FeatureMoments | None = None

    def __enter__(self) -> FeatureWatch:
        if self._live:
            self._seen = self._stack.enter_context(head_inputs(self._model, self._head))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, step: int, logits: Tensor, labels: Tensor) -> None:
        """Count the mini-batch that has just gone forward: ``[n, classes]`` and ``[n]``."""
        if self._options is None or not self._live or step < self._first:
            return
        features = self._seen.features(self._head)
        own = seen_batch(features, logits, labels, correct_only=self._options.correct_only)
        self._moments = own if self._moments is None else self._moments.merged(own)

    def variances(self) -> tuple[float, ...] | None:
        """By class, after training; None where nothing was asked for."""
        if self._options is None:
            return None
        if self._moments is not None:
            return self._moments.variances()
        return variances_of(
            self._model,
            self._samples,
            n_classes=self._n_classes,
            correct_only=self._options.correct_only,
        )


@torch.no_grad()
def variances_of(
    model: nn.Module,
    samples: Samples,
    *,
    n_classes: int,
    correct_only: bool = False,
    batch_size: int = 500,
) -> tuple[float, ...]:
    """Variances of a model's features in one pass in eval mode; its mode is given back.

    Parameters
    ----------
    model
        Any with a linear head.
    samples
        Not empty.
    n_classes
        Number of logits.
    correct_only
        Only samples that the model predicts right.
    batch_size
        Samples of one forward pass.

    Raises
    ------
    ValueError
        If the model has no linear head, or it does not take one row of features a sample.
    """
    head = head_of(model, samples, n_classes)
    total: FeatureMoments | None = None
    with evaluating(model), head_inputs(model, head) as seen:
        for index in torch.split(torch.arange(len(samples)), batch_size):
            batch = samples.take(index)
            logits = logits_of(model, batch.inputs)
            features = seen.features(head)
            found = seen_batch(features, logits, batch.labels, correct_only=correct_only)
            total = found if total is None else total.merged(found)
    assert total is not None
    return total.variances()
