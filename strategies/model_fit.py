"""Weights as the observers' model knows them, whatever they are called when they are exchanged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from fedcircuit.learning.naming import NameFit, NameFitError, fitted
from fedcircuit.learning.weights import Weights
from fedcircuit.records.round_record import Observation, RoundView, Table
from fedcircuit.strategies.bounds import short
from fedcircuit.strategies.preflight import check_weights, misfit

logger = logging.getLogger(__name__)

EXCHANGE = "exchange"  # name of the observation and of its table


class ModelFit:
    """Fits the names once, by the first weights of a run, and then reads every round by them.

    Parameters
    ----------
    model
        The network that observers look at; None leaves every name as it is.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._fit: NameFit | None = None
        self._settled = False

    def settle(self, weights: Weights) -> None:
        """Decide what the names mean; nothing after the first time.

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
                self._fit = fitted(weights, self._model)
            except NameFitError as error:
                raise misfit(error, self._model) from None
            self._say(self._fit)
        self._settled = True

    def _say(self, fit: NameFit) -> None:
        if fit.renamed:
            own, name = next((o, n) for o, n in fit.names.items() if o != n)
            logger.info("weights are exchanged under other names: %r is the model's %r", name, own)
        if fit.filled:
            logger.warning(
                "buffers are not exchanged: %s. Circuits and accuracy are measured with those of "
                "the model that was given",
                short(", ".join(fit.filled)),
            )

    def observation(self) -> Mapping[str, Observation]:
        """What round 0 keeps of a fit that is not plain: the table ``exchange``.

        One row a tensor that is called otherwise, or is not exchanged: ``model_name``, ``name``
        (absent: not exchanged) and ``rule`` in words.
        """
        fit = self._fit
        if fit is None or not (fit.renamed or fit.filled):
            return {}
        rows = [(own, name, "other name") for own, name in fit.names.items() if own != name]
        kept = [(own, None, "value of the model that was given") for own in fit.filled]
        return {EXCHANGE: Observation({EXCHANGE: Table(_COLUMNS, (*rows, *kept))})}

    def view(self, view: RoundView) -> tuple[RoundView, str]:
        """The round under the model's names, and why the model cannot be run on it.

        The reason is empty where it can; where it cannot, the names stay as they came.
        """
        fit = self._fit
        if fit is None:
            return view, ""
        try:
            named = replace(
                view,
                before=fit.of_model(view.before),
                after=fit.of_model(view.after),
                clients=tuple(
                    replace(
                        client,
                        weights=fit.of_model(client.weights),
                        received=fit.some_of_model(client.received),
                    )
                    for client in view.clients
                ),
            )
        except NameFitError as error:
            missing = short(str(error.missing))
            return view, f"the weights exchanged lack {missing}, which clients keep for themselves"
        return (named if fit.renamed or fit.filled else view), ""


_COLUMNS = ("model_name", "name", "rule")
