"""Weights as the observers' model knows them, whatever they are called when they are exchanged."""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import nn

from fedcircuit.learning import Weights
from fedcircuit.learning.networks import NameFit, NameFitError, fitted
from fedcircuit.records.rounds import Observation, RoundView, Table
from fedcircuit.strategies.preflight.checks import check_weights, misfit
from fedcircuit.strategies.replies import short

logger = logging.getLogger(__name__)

EXCHANGE = "exchange"  # name of the observation and of its table


class ModelFit:
    """Fits names when they first come, and then reads weights of these names by that.

    Parameters
    ----------
    model
        The network that observers look at; None leaves every name as it is.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._fits: dict[tuple[str, ...], NameFit] = {}
        self._news: list[NameFit] = []  # not plain, and not recorded yet
        self._settled = False

    def settle(self, weights: Weights) -> None:
        """Make sure that the first weights are those of the model; nothing after the first time.

        Raises
        ------
        PreflightError
            If weights are not finite, or are not those of the model.
        """
        if self._settled:
            return
        check_weights(weights)
        if self._model is not None:
            try:
                self._fit(weights)
            except NameFitError as error:
                raise misfit(error, self._model) from None
        self._settled = True

    def _fit(self, weights: Weights) -> NameFit:
        assert self._model is not None
        names = tuple(weights)
        if names not in self._fits:
            fit = self._fits[names] = fitted(weights, self._model)
            if not fit.plain:
                self._news.append(fit)
                _say(fit)
        return self._fits[names]

    def observation(self) -> dict[str, Observation]:
        """What is kept of fits that are not plain, once: the table ``exchange``.

        One row a tensor that is called otherwise, or is not exchanged: ``model_name``, ``name``
        (absent: not exchanged) and ``rule`` in words.
        """
        rows: list[tuple[str, str | None, str]] = []
        for fit in self._news:
            rows += [(own, name, "other name") for own, name in fit.names.items() if own != name]
            rows += [(own, None, "value of the model that was given") for own in fit.filled]
        self._news.clear()
        table = Table(("model_name", "name", "rule"), tuple(rows))
        return {EXCHANGE: Observation({EXCHANGE: table})} if rows else {}

    def view(self, view: RoundView) -> tuple[RoundView, str]:
        """The round under the model's names, and why the model cannot be run on it.

        The reason is empty where it can; where it cannot, the names stay as they came.
        """
        if self._model is None:
            return view, ""
        try:
            named = replace(
                view,
                before=self._of_model(view.before),
                after=self._of_model(view.after),
                clients=tuple(
                    replace(
                        client,
                        weights=self._of_model(client.weights),
                        received=self._fit(view.before).some_of_model(client.received),
                    )
                    for client in view.clients
                ),
            )
        except NameFitError as error:
            if error.unexpected or error.shapes:
                return view, f"the weights exchanged are not the model's: {short(str(error))}"
            missing = short(str(error.missing))
            return view, f"the weights exchanged lack {missing}, which clients keep for themselves"
        return named, ""

    def _of_model(self, weights: Weights) -> Weights:
        fit = self._fit(weights)
        return weights if fit.plain else fit.of_model(weights)


def _say(fit: NameFit) -> None:
    if fit.renamed:
        own, name = next((o, n) for o, n in fit.names.items() if o != n)
        logger.info("weights are exchanged under other names: %r is the model's %r", name, own)
    if fit.filled:
        logger.warning(
            "buffers are not exchanged: %s. Circuits and accuracy are measured with those of the "
            "model that was given",
            short(", ".join(fit.filled)),
        )
