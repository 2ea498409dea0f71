"""Results of the legacy API as plain values: each is read by itself, and costs no other."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.common import FitRes, Parameters
from flwr.server.client_proxy import ClientProxy

from fedcircuit import messages
from fedcircuit.learning import Weights
from fedcircuit.records.files import in_short
from fedcircuit.strategies.nodes import Roster
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.replies import Reply, client_name, kept_extra, kept_metrics, short
from fedcircuit.wire import decoded


def reply_of(
    proxy: ClientProxy, result: FitRes, roster: Roster, names: WeightNames | None
) -> Reply:
    """A result as plain values, or why it cannot be read.

    Parameters
    ----------
    roster
        Who is on which node; it learns from what results say.
    names
        Of the weights; None where they are hidden from the server.
    """
    try:
        said = result.metrics.get(messages.PARTITION_ID)
        if said is not None:
            roster.call(proxy.node_id, client_name(said))
    except ValueError as error:
        return Reply(roster.name(proxy.node_id), error=("identity", short(str(error))))
    roster.settle(proxy.node_id)
    client = roster.name(proxy.node_id)
    try:
        told = dict(result.metrics)
        beside = kept_extra({k: v for k, v in told.items() if k in messages.SIDE_KEYS})
        own = {k: v for k, v in told.items() if k not in messages.SIDE_KEYS}
        metrics, extra = kept_metrics(own, beside)
        return Reply(
            client,
            num_examples=result.num_examples,
            weights={} if names is None else weights_of(result.parameters, names),
            metrics=metrics,
            extra=extra,
        )
    except Exception as error:  # noqa: BLE001  # whatever a client has sent
        return Reply(client, error=("unreadable", short(in_short(error))))


def weights_of(parameters: Parameters, names: WeightNames) -> Weights:
    """Copies by name: deserialising makes new arrays."""
    arrays = [decoded(_Tensor(data, parameters.tensor_type)) for data in parameters.tensors]
    return names.of({str(index): array for index, array in enumerate(arrays)})


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the legacy API as ``wire.decoded`` reads it."""

    data: bytes
    stype: str
