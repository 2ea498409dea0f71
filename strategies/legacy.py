"""Strategies of the legacy API (``flwr.server.strategy``) seen by a recorder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

from flwr.common import FitIns, FitRes, Parameters, parameters_to_ndarrays
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy

from fedcircuit.learning.weights import Weights
from fedcircuit.strategies.recorder import Reply, RoundRecorder
from fedcircuit.strategies.state import strategy_state

Result = tuple[ClientProxy, FitRes]
SECURE_AGGREGATION = "the client's own weights are hidden by secure aggregation"


def is_legacy(strategy: object) -> bool:
    """Whether an object is a strategy of the legacy API."""
    return isinstance(strategy, Strategy)


class LegacyHooks:
    """What is done before and after a legacy strategy's own methods."""

    def __init__(self, recorder: RoundRecorder, names: Sequence[str] | None) -> None:
        self.recorder = recorder
        self._names = names
        self._sent: list[str] = []

    def before_fit(self, strategy: object, server_round: int, parameters: Parameters) -> None:
        """Note the weights sent."""
        round_number = server_round + self.recorder.options.round_offset
        self.recorder.begin(round_number, self._weights(parameters), strategy_state(strategy))

    def sent(self, instructions: list[tuple[ClientProxy, FitIns]]) -> None:
        """Note who was asked."""
        self._sent = [_client(proxy) for proxy, _ in instructions]

    def usable(self, results: list[Result]) -> list[Result]:
        """Results that may enter the average, sorted by client.

        Under secure aggregation every result carries the aggregate: it is recorded as nobody's
        weights, and the results pass as they came.
        """
        if hides_clients(results):
            hidden = [Reply(_client(proxy), error=("error", SECURE_AGGREGATION))
                      for proxy, _ in results]  # fmt: skip
            self.recorder.accept(hidden)
            return sorted(results, key=lambda result: _client(result[0]))
        replies = [self._reply(*result) for result in results]
        answered = {reply.client for reply in replies}
        lost = [
            Reply(client, error=("error", "the client failed or did not answer"))
            for client in self._sent
            if client not in answered
        ]
        return [results[i] for i in self.recorder.accept([*replies, *lost])]

    def after_fit(
        self, strategy: object, parameters: Parameters | None, metrics: dict[str, Any]
    ) -> None:
        """Record the round."""
        numbers = {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
        weights = None if parameters is None else self._weights(parameters)
        self.recorder.finish(weights, numbers, strategy_state(strategy))

    def _reply(self, proxy: ClientProxy, result: FitRes) -> Reply:
        metrics = {k: v for k, v in result.metrics.items() if isinstance(v, (int, float))}
        extra = {k: v for k, v in result.metrics.items() if k not in metrics}
        weights = self._weights(result.parameters)
        return Reply(_client(proxy), result.num_examples, weights, metrics, extra)

    def _weights(self, parameters: Parameters) -> Weights:
        arrays = parameters_to_ndarrays(parameters)
        names = self._names or [str(index) for index in range(len(arrays))]
        if len(names) != len(arrays):
            raise ValueError(f"param_names has {len(names)} names for {len(arrays)} arrays")
        return dict(zip(names, arrays, strict=True))


def hides_clients(results: list[Result]) -> bool:
    """Whether all results carry the very same Parameters, as after secure aggregation."""
    return len(results) > 1 and all(
        result.parameters is results[0][1].parameters for _, result in results
    )


def _client(proxy: ClientProxy) -> str:
    return f"node-{proxy.node_id}"


def observe_legacy(
    strategy: object, recorder: RoundRecorder, param_names: Sequence[str] | None
) -> None:
    """Put the hooks around a legacy strategy, in place."""
    base = type(cast(Strategy, strategy))
    hooks = LegacyHooks(recorder, param_names)

    class Observed(base):  # type: ignore[misc, valid-type]
        fedcircuit_observed = True
        fedcircuit_hooks = hooks

        def configure_fit(
            self, server_round: int, parameters: Parameters, client_manager: ClientManager
        ) -> list[tuple[ClientProxy, FitIns]]:
            hooks.before_fit(self, server_round, parameters)
            state = random.getstate()  # client managers sample with the global generator
            random.seed(f"{recorder.options.seed}:{recorder.round}")
            try:
                instructions = super().configure_fit(recorder.round, parameters, client_manager)
            finally:
                random.setstate(state)
            hooks.sent(instructions)
            return list(instructions)

        def aggregate_fit(
            self, server_round: int, results: list[Result], failures: list[Any]
        ) -> tuple[Parameters | None, dict[str, Any]]:
            usable = hooks.usable(results)
            try:
                parameters, metrics = super().aggregate_fit(recorder.round, usable, failures)
            except Exception as error:
                recorder.failed(f"{type(error).__name__}: {error}")
                raise
            hooks.after_fit(self, parameters, metrics)
            return parameters, metrics

    Observed.__name__ = f"Observed{base.__name__}"
    Observed.__qualname__ = Observed.__name__
    become: Any = strategy
    become.__class__ = Observed
