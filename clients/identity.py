"""What a client says of itself: the partition it holds and the code it runs."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import Any

from flwr.app import Context

from fedcircuit import messages


def partition_of(context: Context) -> int:
    """The partition a node holds.

    Raises
    ------
    ValueError
        If the node was started without one.
    """
    if messages.PARTITION_ID not in context.node_config:
        raise ValueError(
            "the node has no partition-id; start it with "
            '--node-config "partition-id=0 num-partitions=..."'
        )
    return int(context.node_config[messages.PARTITION_ID])


def identity(context: Context) -> dict[str, Any]:
    """Entries of the side channel that say who a client is."""
    return {
        messages.PARTITION_ID: partition_of(context),
        messages.CODE_VERSION: code_version(),
    }


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the installed fedcircuit; looked up once, as it is read from disk."""
    return version("fedcircuit")
