"""Going on in a run folder with a strategy of the legacy API."""

from __future__ import annotations

from typing import Any

from flwr.common import Parameters, ndarrays_to_parameters
from flwr.server.client_manager import ClientManager

from fedcircuit.strategies.recording import RoundRecorder, last_weights, put_around


def put_legacy_resume(strategy: object) -> None:
    """Let an observed strategy begin with the weights that were recorded last, in place."""
    base: Any = type(strategy)
    recorder: RoundRecorder = base.fedcircuit_hooks.recorder
    store, done = recorder.store, recorder.options.round_offset
    if store is None or not done:
        return
    weights = list(last_weights(store, done).values())

    class Resumed(base):  # type: ignore[misc]
        def initialize_parameters(self, client_manager: ClientManager) -> Parameters:
            return ndarrays_to_parameters(weights)

    put_around(strategy, Resumed, base.__name__)
