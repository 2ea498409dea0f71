"""A NumPyClient that trains a weight-sparse network on its own samples."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.client import NumPyClient
from numpy.typing import NDArray
from torch import nn

from fedcircuit import messages
from fedcircuit.circuits.round import MessageValue, as_scalars
from fedcircuit.clients.circuits import ClientCircuits, own_circuits
from fedcircuit.clients.for_rules import Trained, measured
from fedcircuit.learning import Weights, derived_seed, get_weights, set_weights
from fedcircuit.learning.training import (
    Continuation,
    Drift,
    Evaluation,
    LocalTraining,
    State,
    TrainingResult,
    evaluate,
    train_local,
)
from fedcircuit.learning.watching import ClassMoments, class_moments
from fedcircuit.samples import Samples

ROUND_KEYS = ("server-round", "server_round")
PROXIMAL_KEY = "proximal-mu"  # what Flower's FedProx sends


class SparseClient(NumPyClient):
    """Trains and evaluates one client's model; the same result whatever engine runs it.

    Parameters
    ----------
    model
        The client's own copy; its weights are replaced by those that arrive.
    samples
        Training samples.
    training
        Optimiser, steps, sparsity and objective.
    n_classes
        Number of logits.
    seed, client
        Together with the round they make the seed of a round's training. With ``training.steps``
        they seed the client's sequence of mini-batches, of which round t takes numbers
        (t - 1) * steps and on.
    test
        Samples to evaluate on; left out: the training samples.
    circuits
        Look for circuits of the trained model on the training samples, and send them along: as
        plain values of the metrics, which pass secure aggregation beside the masked weights.
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
        circuits: ClientCircuits | None = None,
    ) -> None:
        self.model = model
        self.samples = samples
        self.training = training
        self.n_classes = n_classes
        self.seed = seed
        self.client = client
        self.test = samples if test is None else test
        self.circuits = circuits
        options = training.feature_variance
        frozen = options is not None and options.feature_source == "frozen"
        self.frozen = copy.deepcopy(model) if frozen else None  # before any weights arrive

    def get_parameters(self, config: dict[str, Any]) -> list[NDArray[np.generic]]:
        """Weights in the order of the model's state dict."""
        return list(get_weights(self.model).values())

    def fit(
        self, parameters: list[NDArray[np.generic]], config: dict[str, Any]
    ) -> tuple[list[NDArray[np.generic]], int, dict[str, Any]]:
        """Train from the given weights: new weights, number of samples, loss and accuracy.

        Raises
        ------
        ValueError
            As for :meth:`train`, or if optimiser state, batch norm, path importance or the state
            of SCAFFOLD or FedDyn is to be kept: a NumPyClient is not given the memory of its node.
        """
        if self.training.optimizer_state == "kept":
            raise ValueError(
                "optimizer_state 'kept' needs the node's memory, which a NumPyClient is not given; "
                "use fedcircuit.clients.client_app, or optimizer_state 'fresh'"
            )
        if self.training.batch_norm == "own":
            raise ValueError(
                "batch_norm 'own' needs the node's memory, which a NumPyClient is not given; use "
                "fedcircuit.clients.client_app, or batch_norm 'shared' and "
                "ClientApp(mods=[FedBNMod(model)])"
            )
        if self.training.path_importance:
            raise ValueError(
                "path_importance goes on over all rounds in the node's memory, which a NumPyClient "
                "is not given; use fedcircuit.clients.client_app"
            )
        for option in ("scaffold", "feddyn_alpha"):
            if getattr(self.training, option):
                raise ValueError(
                    f"{option} goes on over all rounds in the node's memory, which a NumPyClient "
                    "is not given; use fedcircuit.clients.client_app"
                )
        moments = self.moments(self._named(parameters))
        result = self.train(self._named(parameters), config)
        said = as_scalars(self.own_circuits(round_of(config)))
        metrics = {
            **training_metrics(result),
            **said,
            **self._as_bytes(result, moments),
        }
        return self.get_parameters(config), result.num_examples, metrics

    def evaluate(
        self, parameters: list[NDArray[np.generic]], config: dict[str, Any]
    ) -> tuple[float, int, dict[str, Any]]:
        """Loss, number of samples and accuracy of the given weights."""
        result = self.assess(self._named(parameters), config)
        return result.loss, len(self.test), {"accuracy": result.accuracy}

    def _as_bytes(
        self, result: TrainingResult, moments: ClassMoments | None
    ) -> dict[str, bytes | int | float]:
        """What rules need, as metrics of a NumPyClient may be: lists of numbers as bytes."""
        names = {name: name for name in self.model.state_dict()}
        said = measured(result, moments, Trained.of(self.model, names))
        lists: dict[str, Sequence[float]] = {
            key: value for key, value in said.items() if isinstance(value, list)
        }
        if result.class_variances is not None:
            lists[messages.CLASS_VARIANCES] = result.class_variances
            lists[messages.CLASS_COUNTS] = self.samples.counts(self.n_classes).tolist()
        as_bytes = {key: np.array(values, "<f8").tobytes() for key, values in lists.items()}
        return {key: v for key, v in said.items() if not isinstance(v, list)} | as_bytes

    def moments(self, weights: Weights) -> ClassMoments | None:
        """Class moments of the head's inputs under named weights; None where not asked for.

        Raises
        ------
        ValueError
            If the model has no linear head, or its features are not finite.
        """
        if not self.training.class_moments:
            return None
        set_weights(self.model, weights)
        return class_moments(self.model, self.samples, n_classes=self.n_classes)

    def train(
        self,
        weights: Weights,
        config: Mapping[str, Any],
        optimizer: State | None = None,
        importance: Mapping[str, float] | None = None,
        drift: Drift = Drift(),  # noqa: B008  # frozen
    ) -> TrainingResult:
        """Train the model from named weights.

        Parameters
        ----------
        weights
            Where training starts.
        config
            ``server-round`` is needed for the seed; FedProx's ``proximal-mu`` is obeyed.
        optimizer
            State in which the client's last round left its optimiser; None or empty: fresh.
        importance
            Path importance of the client's rounds before, by weight; None or empty: 0.
        drift
            What SCAFFOLD or FedDyn correct the round by; empty: nothing.

        Raises
        ------
        ValueError
            If the weights or the state do not fit, the round is missing or below 1, there are no
            samples, or the loss is not finite.
        """
        set_weights(self.model, weights)
        number = round_of(config)
        return train_local(
            self.model,
            self.samples,
            _with_proximal_term(self.training, config),
            n_classes=self.n_classes,
            seed=derived_seed(self.seed, number, self.client),
            start=Continuation(
                first=self._first_step(number),
                batch_seed=derived_seed(self.seed, "batches", self.client),
                optimizer={} if optimizer is None else optimizer,
                importance={} if importance is None else importance,
                frozen=self.frozen,
                drift=drift,
            ),
        )

    def own_circuits(self, number: int) -> Mapping[str, MessageValue]:
        """Circuits of the model as it is, packed; empty where none are asked for in this round."""
        if self.circuits is None or number % self.circuits.every:
            return {}
        seed = derived_seed(self.seed, "client-circuits", number, self.client)
        settings = self.circuits.settings
        return own_circuits(self.model, self.samples, settings, n_classes=self.n_classes, seed=seed)

    def _first_step(self, number: int) -> int:
        if self.training.steps is None:
            return 0
        if number < 1:
            raise ValueError(f"rounds with training.steps count from 1, got round {number}")
        return (number - 1) * self.training.steps

    def assess(self, weights: Weights, config: Mapping[str, Any] | None = None) -> Evaluation:
        """Evaluate named weights on the test samples.

        Raises
        ------
        ValueError
            If the config asks for samples that the client does not train on, and it has none.
        """
        if config and config.get(messages.HELD_OUT) and self.test is self.samples:
            raise ValueError(
                "it has no samples but those it trains on: give it test samples, or let the guard "
                "ask for the loss on training samples, Guard(held_out=False)"
            )
        set_weights(self.model, weights)
        return evaluate(self.model, self.test, n_classes=self.n_classes)

    def _named(self, parameters: list[NDArray[np.generic]]) -> Weights:
        names = list(self.model.state_dict())
        if len(names) != len(parameters):
            raise ValueError(
                f"the model has {len(names)} tensors, {len(parameters)} arrived; "
                "server and clients must build the same model"
            )
        return dict(zip(names, parameters, strict=True))


def training_metrics(
    result: TrainingResult,
) -> dict[str, int | float | list[int] | list[float]]:
    """What a client reports of its training; ``train_loss`` is the name that QFedAvg reads."""
    return {"train_loss": result.loss, "train_accuracy": result.accuracy}


def round_of(config: Mapping[str, Any]) -> int:
    """The round in a message's config.

    Raises
    ------
    ValueError
        If there is none: every round would then be trained alike.
    """
    for key in ROUND_KEYS:
        if key in config:
            return int(config[key])
    raise ValueError(
        f"the config has no {ROUND_KEYS[0]!r}, which seeds the training; message-based strategies "
        'send it, legacy ones need on_fit_config_fn=lambda r: {"server-round": r}'
    )


def _with_proximal_term(training: LocalTraining, config: Mapping[str, Any]) -> LocalTraining:
    mu = float(config.get(PROXIMAL_KEY, 0.0))
    if mu in (0.0, training.proximal_mu):
        return training
    if training.proximal_mu:
        raise ValueError(
            f"the strategy sends {PROXIMAL_KEY} {mu}, the client's training has proximal_mu "
            f"{training.proximal_mu}; set one of them"
        )
    return replace(training, proximal_mu=mu)
