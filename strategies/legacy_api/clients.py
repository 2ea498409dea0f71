"""Clients as the legacy API sees them: proxies, and what secure aggregation hides of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

from flwr.common import FitRes, Parameters
from flwr.server.client_manager import ClientManager, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.criterion import Criterion
from flwr.serverapp import Grid

from fedcircuit.strategies.nodes import NodeWait


class OrderedClients(ClientManager):
    """Another manager's clients in a stable order, so that a seeded draw is reproducible.

    Only Flower's own way of drawing is replaced; other managers draw as they do.
    """

    def __init__(
        self,
        manager: ClientManager,
        order: Callable[[ClientProxy], tuple[str, int]],
        wait: Callable[[int], NodeWait],
    ) -> None:
        self._manager, self._order, self._wait = manager, order, wait

    def num_available(self) -> int:
        """Pass on."""
        return self._manager.num_available()

    def register(self, client: ClientProxy) -> bool:
        """Pass on."""
        return self._manager.register(client)

    def unregister(self, client: ClientProxy) -> None:
        """Pass on."""
        self._manager.unregister(client)

    def wait_for(self, num_clients: int, timeout: int = 86400) -> bool:
        """Wait, visibly, until so many clients are there.

        Raises
        ------
        TimeoutError
            If they do not come within the recorder's ``node_timeout``.
        """
        wait = self._wait(num_clients)
        wait.limit = min(wait.limit, timeout)
        while self.num_available() < num_clients:
            wait.note([proxy.node_id for proxy in self._manager.all().values()])
            time.sleep(wait.pause())
        return True

    def all(self) -> dict[str, ClientProxy]:
        """Clients in stable order."""
        proxies = sorted(self._manager.all().values(), key=self._order)
        return {proxy.cid: proxy for proxy in proxies}

    def sample(
        self,
        num_clients: int,
        min_num_clients: int | None = None,
        criterion: Criterion | None = None,
    ) -> list[ClientProxy]:
        """Clients drawn from those in stable order; none where there are too few."""
        if not isinstance(self._manager, SimpleClientManager):
            return self._manager.sample(num_clients, min_num_clients, criterion)
        self.wait_for(num_clients if min_num_clients is None else min_num_clients)
        able = [p for p in self.all().values() if criterion is None or criterion.select(p)]
        return [] if num_clients > len(able) else random.sample(able, num_clients)


def grid_of(proxies: Iterable[ClientProxy]) -> Grid | None:
    """The Grid through which the clients are reached; None for another transport."""
    for proxy in proxies:
        grid = getattr(proxy, "grid", None)
        return grid if isinstance(grid, Grid) else None
    return None


def hides_clients(results: list[tuple[ClientProxy, FitRes]], sent: Parameters | None) -> bool:
    """Whether all results carry the very same new Parameters, as after secure aggregation.

    Flower's workflow puts one aggregated object into every result. Clients that all give back
    what they were sent have merely not trained.
    """
    if len(results) < 2:
        return False
    first, others = results[0][1].parameters, [result.parameters for _, result in results[1:]]
    if all(parameters is first for parameters in others):
        return True
    if sent is not None and first.tensors == sent.tensors:
        return False
    return all(parameters.tensors == first.tensors for parameters in others)
