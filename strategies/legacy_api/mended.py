"""Rules around any strategy of the legacy API."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flwr.common import EvaluateIns, EvaluateRes, FitIns, FitRes, Parameters, ndarrays_to_parameters
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy
from torch import nn

from fedcircuit.aggregation import Rule, RuleError, Setting, Updates
from fedcircuit.circuits.probes import ProbeLike
from fedcircuit.records.rounds import GLOBAL, Failure
from fedcircuit.strategies.legacy_api.clients import hides_clients
from fedcircuit.strategies.legacy_api.results import reply_of, weights_of
from fedcircuit.strategies.mending import (
    READING,
    Memory,
    as_rule,
    given,
    mend,
    state_of,
    updates_of,
    warn_of_noise,
)
from fedcircuit.strategies.nodes import Roster
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.recording import fitting_probe

logger = logging.getLogger(__name__)

_NOT_HERE = {
    "last_only": "a legacy strategy is not told the number of rounds",
    "guard": "clients cannot be asked between a round's aggregation and its end",
}


class Mended(Strategy):
    """Aggregation rules around a strategy of ``flwr.server.strategy``.

    As :class:`fedcircuit.strategies.Mended`, over the same rules. What clients say beside their
    weights is read among the metrics of their results, where Flower allows numbers, texts and
    bytes alone: what rules read as a list of numbers comes as bytes (``SparseClient`` does), and
    a rule that needs lists of texts (``livar-layers``) is refused by name.

    Parameters
    ----------
    strategy
        The strategy; observe what this makes of it, ``observe(Mended(...))``.
    rules, model, probe, n_classes, every, strict, seed
        As for :class:`fedcircuit.strategies.Mended`.
    param_names
        Names of the weights, in the order in which they are exchanged; left out: the model's.

    Raises
    ------
    TypeError
        If what is wrapped is no legacy strategy, or observed; if what should be a rule is none; for
        ``last_only`` and ``guard``.
    ValueError
        If a rule's name or a number is unknown or out of range, or the probe does not fit.
    """

    def __init__(
        self,
        strategy: Strategy,
        rules: Sequence[Rule | str],
        *,
        model: nn.Module | None = None,
        probe: ProbeLike | None = None,
        n_classes: int | None = None,
        param_names: Sequence[str] | None = None,
        every: int = 1,
        strict: bool = False,
        seed: int = 0,
        **others: Any,
    ) -> None:
        _check(strategy, others)
        if every < 1:
            raise ValueError(f"every must be >= 1 round, got {every}")
        if probe is not None and model is None:
            raise ValueError("a probe needs the model that it is given to: give model too")
        self.strategy = strategy
        self.rules = tuple(as_rule(one) for one in rules)
        self.every, self.strict = every, strict
        samples = None
        if probe is not None and model is not None:
            samples = fitting_probe(probe, model, seed).discovery
        self.setting = Setting(n_classes, model, samples, seed=seed)
        self.rule_state: Memory = {}  # recorded and restored with the strategy's own state
        self._names = WeightNames(param_names, model)
        self._roster = Roster(ask=False)
        self._sent: Parameters | None = None
        warn_of_noise(strategy, self.rules)

    def __getattr__(self, name: str) -> Any:
        """Settings of the wrapped strategy, such as its minimum of clients."""
        if name == "strategy":  # not there yet: an object that is being made or copied
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Those of the wrapped strategy."""
        return self.strategy.initialize_parameters(client_manager)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """The wrapped strategy's instructions, with what rules have to tell clients."""
        asked = self.strategy.configure_fit(server_round, parameters, client_manager)
        self._sent = parameters
        said: dict[str, Any] = {}
        for place, rule in enumerate(self.rules):
            told = getattr(rule, "told", None)
            if told is not None:
                names = list(weights_of(parameters, self._names))
                said.update(told(state_of(self.rule_state, place), names))
        if not said:
            return asked
        return [(to, FitIns(ins.parameters, {**ins.config, **said})) for to, ins in asked]

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[Any],
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """The wrapped strategy's average, mended in the rounds that are to be.

        Raises
        ------
        RuleError
            If a rule cannot be used and ``strict`` is set.
        """
        inner = self.strategy.aggregate_fit
        if not self.rules or not results or self._sent is None or server_round % self.every:
            return inner(server_round, results, failures)
        updates: Updates | None = None
        try:
            updates = self._updates(server_round, results, self._sent)
        except RuleError as error:
            self._refused(server_round, error)
        parameters, metrics = inner(server_round, results, failures)
        if parameters is None or updates is None:
            return parameters, metrics
        try:
            return self._mended(updates, parameters), metrics
        except RuleError as error:
            self._refused(server_round, error)
            return parameters, metrics

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """The wrapped strategy's instructions."""
        return self.strategy.configure_evaluate(server_round, parameters, client_manager)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[Any],
    ) -> tuple[float | None, dict[str, Any]]:
        """That of the wrapped strategy."""
        return self.strategy.aggregate_evaluate(server_round, results, failures)

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Any]] | None:
        """That of the wrapped strategy."""
        return self.strategy.evaluate(server_round, parameters)

    def _updates(
        self, number: int, results: list[tuple[ClientProxy, FitRes]], sent: Parameters
    ) -> Updates:
        if hides_clients(results, sent):
            raise RuleError(READING, "needs every client's own weights, which are hidden here")
        hooks = getattr(self, "fedcircuit_hooks", None)
        roster = self._roster if hooks is None else hooks.roster
        replies = [reply_of(proxy, result, roster, self._names) for proxy, result in results]
        return updates_of(number, weights_of(sent, self._names), replies)

    def _mended(self, updates: Updates, parameters: Parameters) -> Parameters:
        average = weights_of(parameters, self._names)
        found = mend(self.rules, updates, average, given(self.setting, updates), self.rule_state)
        self.rule_state = found.memory
        if all(found.weights[name] is values for name, values in average.items()):
            return parameters
        whole = ndarrays_to_parameters(list(found.weights.values()))
        return replace(parameters, tensors=[
            old if found.weights[name] is values else new
            for (name, values), old, new in zip(
                average.items(), parameters.tensors, whole.tensors, strict=True
            )
        ])  # fmt: skip

    def _refused(self, number: int, error: RuleError) -> None:
        if self.strict:
            raise error
        logger.error("round %d goes on with the strategy's own average: %s", number, error)
        hooks = getattr(self, "fedcircuit_hooks", None)
        if hooks is not None:
            hooks.recorder.note(Failure(error.client or GLOBAL, "rule", str(error)))


def _check(strategy: object, others: dict[str, Any]) -> None:
    """Refuse what cannot be wrapped, and options that there are for messages alone."""
    for name in others:
        reason = _NOT_HERE.get(name)
        if reason is None:
            raise TypeError(f"Mended of the legacy API has no option {name!r}")
        raise TypeError(
            f"Mended of the legacy API has no {name}: {reason}; use a strategy of "
            "flwr.serverapp.strategy and fedcircuit.strategies.Mended"
        )
    if not isinstance(strategy, Strategy):
        raise TypeError(
            "this Mended wraps legacy strategies (flwr.server.strategy), got "
            f"{type(strategy).__module__}.{type(strategy).__qualname__}; message-based ones have "
            "fedcircuit.strategies.Mended"
        )
    if getattr(strategy, "fedcircuit_observed", False):
        raise TypeError(
            "a legacy strategy that is observed would record its own average, not the mended one; "
            "observe what is mended: observe(Mended(...))"
        )
