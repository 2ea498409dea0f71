"""Strategies of the legacy API (``flwr.server.strategy``) seen by a recorder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from flwr.common import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    Parameters,
    ndarrays_to_parameters,
)
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy

from fedcircuit.learning import Weights
from fedcircuit.records.rounds import Metric
from fedcircuit.strategies.legacy_api.clients import OrderedClients, grid_of, hides_clients
from fedcircuit.strategies.legacy_api.failures import reasons_of
from fedcircuit.strategies.legacy_api.results import reply_of, weights_of
from fedcircuit.strategies.nodes import NodeWait, Roster, seeded_sampling
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.recording import RoundRecorder, as_returned, put_around, strategy_state
from fedcircuit.strategies.replies import ClientError, Reply, client_order

Result = tuple[ClientProxy, FitRes]
Evaluated = tuple[ClientProxy, EvaluateRes]
Configure = Callable[[int, Parameters, ClientManager], list[tuple[ClientProxy, Any]]]
Fitted = tuple[Parameters | None, dict[str, Any]]
Failures = list[Any]  # exceptions without a client, or results with a bad status


def is_legacy(strategy: object) -> bool:
    """Whether an object is a strategy of the legacy API."""
    return isinstance(strategy, Strategy)


class LegacyHooks:
    """What is done before and after a legacy strategy's own methods, given as ``inner``."""

    def __init__(self, strategy: Strategy, recorder: RoundRecorder, names: WeightNames) -> None:
        self.recorder = recorder
        self.roster = Roster(ask=recorder.options.identify)
        self._strategy = strategy
        self._names = names
        self._sent: list[ClientProxy] = []
        self._parameters: Parameters | None = None
        self._number = 0  # what the strategy takes the round for

    def configure_fit(
        self, inner: Configure, number: int, parameters: Parameters, manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Note the weights sent, sample reproducibly, and note who was asked."""
        self.recorder.expect(number)
        self._number = number + self.recorder.options.round_offset
        with self.recorder.guarded(f"the start of round {self.recorder.round}"):
            parameters = self._resumed(parameters)
            self.recorder.begin(self._weights(parameters), strategy_state(self._strategy))
        self._parameters = parameters
        instructions = self._configured(inner, parameters, manager, "train")
        self._sent = [proxy for proxy, _ in instructions]
        self.recorder.sent()
        return instructions

    def configure_evaluate(
        self, inner: Configure, number: int, parameters: Parameters, manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Sample reproducibly."""
        self._number = number + self.recorder.options.round_offset
        return self._configured(inner, parameters, manager, "evaluate")

    def _configured(
        self,
        inner: Configure,
        parameters: Parameters,
        manager: ClientManager,
        purpose: str,
    ) -> list[tuple[ClientProxy, Any]]:
        with self.recorder.guarded("who holds which partition"):
            grid = grid_of(manager.all().values())
            if grid is not None:
                self.roster.update(grid)
        options = self.recorder.options
        if not options.reproducible_sampling:
            return list(inner(self._number, parameters, self._ordered(manager)))
        with seeded_sampling(options.seed, self.recorder.round, purpose):
            return list(inner(self._number, parameters, self._ordered(manager)))

    def _ordered(self, manager: ClientManager) -> OrderedClients:
        def wait(wanted: int) -> NodeWait:
            return NodeWait(self.recorder.options.node_timeout, wanted, lambda: self.roster.names)

        as_they_come = not self.recorder.options.reproducible_sampling
        return OrderedClients(manager, (lambda _: ("", 0)) if as_they_come else self._order, wait)

    def _resumed(self, parameters: Parameters) -> Parameters:
        """At the start of a resumed run, the weights exactly as the strategy had returned them."""
        store, offset = self.recorder.store, self.recorder.options.round_offset
        if store is None or offset == 0 or self.recorder.round != offset + 1:
            return parameters
        record = store.read(offset)
        given = self._weights(parameters)
        if any(v.tobytes() != record.weights[name].tobytes() for name, v in given.items()):
            return parameters  # somebody wants to go on from other weights
        return ndarrays_to_parameters(list(as_returned(record.weights, record.state).values()))

    def aggregate_fit(
        self,
        inner: Callable[[int, list[Result], Failures], Fitted],
        results: list[Result],
        failures: Failures,
    ) -> Fitted:
        """Hand the usable results to the strategy, sorted by client, and record the round."""
        usable: list[Result] = []  # never what was not checked
        with self.recorder.guarded(f"the replies of round {self.recorder.round}"):
            usable = self._usable(results, failures)
            self.recorder.check_some_left(self._raised())
        try:
            parameters, metrics = inner(self._number, usable, failures)
        except Exception as error:
            self.recorder.failed(f"{type(error).__name__}: {error}")
            raise
        with self.recorder.guarded(f"round {self.recorder.round}"):
            weights = None if parameters is None else self._weights(parameters)
            self.recorder.finish(weights, _reported(metrics), strategy_state(self._strategy))
        return parameters, metrics

    def _usable(self, results: list[Result], failures: Failures) -> list[Result]:
        """Good results sorted by client; all of them where the server sees none of the weights."""
        results = sorted(results, key=lambda r: client_order(self.roster.name(r[0].node_id)))
        failed = self._failed(results, failures)
        options = self.recorder.options
        if options.hidden_updates or hides_clients(results, self._parameters):
            replies = [self._reply(proxy, result, hidden=True) for proxy, result in results]
            self.recorder.hide([*replies, *failed])
            return results
        replies = [self._reply(proxy, result, hidden=False) for proxy, result in results]
        answered: set[str] = set()
        for index, (proxy, _) in enumerate(results):
            if proxy.cid in answered:
                twice = ("duplicate", "it has answered already")
                replies[index] = Reply(replies[index].client, error=twice)
            answered.add(proxy.cid)
        return [results[i] for i in self.recorder.accept([*replies, *failed]).taken]

    def _failed(self, results: list[Result], failures: Failures) -> list[Reply]:
        """Who was asked and gave no result."""
        answered = {proxy.cid for proxy, _ in results}
        reasons = reasons_of(failures)
        return [
            Reply(self.roster.name(proxy.node_id), error=reasons.of(proxy.cid))
            for proxy in self._sent
            if proxy.cid not in answered
        ]

    def _raised(self) -> ClientError | None:
        """The first exception of this round, where the Grid runs clients in this process."""
        errors: Iterable[ClientError] = getattr(grid_of(self._sent), "errors", ())
        return next((error for error in errors if error.round == self._number), None)

    def _reply(self, proxy: ClientProxy, result: FitRes, *, hidden: bool) -> Reply:
        return reply_of(proxy, result, self.roster, None if hidden else self._names)

    def aggregate_evaluate(
        self,
        inner: Callable[[int, list[Evaluated], Failures], tuple[float | None, dict[str, Any]]],
        results: list[Evaluated],
        failures: Failures,
    ) -> tuple[float | None, dict[str, Any]]:
        """Hand the results to the strategy, sorted by client, and keep what it makes of them."""
        ordered = sorted(results, key=lambda r: client_order(self.roster.name(r[0].node_id)))
        loss, metrics = inner(self._number, ordered, failures)
        if loss is not None:
            with self.recorder.guarded(f"the evaluation of round {self.recorder.round}"):
                self.recorder.evaluated(_evaluation(loss, metrics))
        return loss, metrics

    def _order(self, proxy: ClientProxy) -> tuple[str, int]:
        return client_order(self.roster.name(proxy.node_id))

    def _weights(self, parameters: Parameters) -> Weights:
        return weights_of(parameters, self._names)


def observe_legacy(strategy: object, recorder: RoundRecorder, names: WeightNames) -> None:
    """Put the hooks around a legacy strategy, in place."""
    base = type(cast(Strategy, strategy))
    hooks = LegacyHooks(cast(Strategy, strategy), recorder, names)

    class Observed(base):  # type: ignore[misc, valid-type]
        fedcircuit_observed = True
        fedcircuit_hooks = hooks

        def configure_fit(
            self, server_round: int, parameters: Parameters, client_manager: ClientManager
        ) -> list[tuple[ClientProxy, FitIns]]:
            inner = super().configure_fit
            return hooks.configure_fit(inner, server_round, parameters, client_manager)

        def aggregate_fit(
            self, server_round: int, results: list[Result], failures: Failures
        ) -> Fitted:
            return hooks.aggregate_fit(super().aggregate_fit, results, failures)

        def configure_evaluate(
            self, server_round: int, parameters: Parameters, client_manager: ClientManager
        ) -> list[tuple[ClientProxy, EvaluateIns]]:
            inner = super().configure_evaluate
            return hooks.configure_evaluate(inner, server_round, parameters, client_manager)

        def aggregate_evaluate(
            self, server_round: int, results: list[Evaluated], failures: Failures
        ) -> tuple[float | None, dict[str, Any]]:
            return hooks.aggregate_evaluate(super().aggregate_evaluate, results, failures)

    put_around(strategy, Observed, f"Observed{base.__name__}")


def _reported(metrics: Mapping[str, Any]) -> dict[str, Metric]:
    """What an aggregation function made of the clients' metrics, as it came."""
    return dict(metrics)


def _evaluation(loss: float, metrics: Mapping[str, Any]) -> dict[str, Metric]:
    """The loss beside the metrics; where these have another of this name, both are kept."""
    name = "loss" if metrics.get("loss", loss) == loss else "loss.aggregated"
    return {**metrics, name: loss}
