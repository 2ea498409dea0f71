"""The in-process engine: a Flower Grid that calls the ClientApp in a plain loop."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedcircuit.app.engines.process_state import kept_process_state
from fedcircuit.flower import RUN_ID, empty_run, identify_process
from fedcircuit.messages import IDENTITY_QUERY
from fedcircuit.strategies.replies import ClientError
from fedcircuit.wire import decoded

if TYPE_CHECKING:
    from fedcircuit.flower import Run

logger = logging.getLogger(__name__)

FIRST_NODE_ID = 2
CLIENT_RAISED = 2  # Flower's error code for an exception in the ClientApp


class _Reply(Array):
    """An Array that a strategy in this process reads without parsing its header again.

    Only the grid makes them, of what a client has sent: on a wire they would be plain Arrays.
    """

    def numpy(self) -> NDArray[np.generic]:
        return decoded(self).copy()


_Reply.__qualname__ = Array.__qualname__  # what Flower writes before an object that is sent


def isolated(content: RecordDict, *, reply: bool = False) -> RecordDict:
    """New records around the same arrays: taking entries out of one leaves the other whole.

    Array data are immutable bytes, so they need no copy. Those of a ``reply`` are read fast.
    """
    copies: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {}
    for name, record in content.items():
        copy = record.copy()
        if isinstance(copy, ArrayRecord):
            if reply:
                for key, array in copy.items():
                    copy[key] = _Reply(array.dtype, array.shape, array.stype, array.data)
        else:
            for key, value in copy.items():
                if isinstance(value, list):
                    copy[key] = value.copy()  # type: ignore[assignment]  # same type as before
        copies[name] = copy
    return RecordDict(copies)


class InProcessGrid(Grid):
    """Runs every client in this process, one after another.

    It drives message-based strategies, legacy strategies and Flower's workflows with the real
    ClientApp: messages, contexts and errors are those of a deployed federation. Clients share
    torch's global random state and threads, so there is one worker; more processes or a GPU each
    are Ray's job.

    Parameters
    ----------
    app
        The ClientApp of all clients.
    n_clients
        Number of clients; client ``i`` has ``partition-id`` i.
    run_config
        What clients read as ``context.run_config``.
    node_ids
        Node id of each partition; left out: consecutive numbers.
    node_configs
        More that each client reads as ``context.node_config``, such as its data folder.

    Raises
    ------
    ValueError
        If there are no clients, or another number of ids or configs than clients.
    """

    def __init__(
        self,
        app: ClientApp,
        n_clients: int,
        *,
        run_config: Mapping[str, str | int | float | bool] | None = None,
        node_ids: Sequence[int] | None = None,
        node_configs: Sequence[Mapping[str, str | int | float | bool]] | None = None,
    ) -> None:
        if n_clients < 1:
            raise ValueError(f"n_clients must be >= 1, got {n_clients}")
        ids = (
            list(range(FIRST_NODE_ID, FIRST_NODE_ID + n_clients)) if node_ids is None else node_ids
        )
        if len(set(ids)) != n_clients:
            raise ValueError(f"node_ids must be {n_clients} different numbers, got {list(ids)}")
        own = [{}] * n_clients if node_configs is None else node_configs
        if len(own) != n_clients:
            raise ValueError(f"node_configs must be {n_clients}, one a client, got {len(own)}")
        identify_process()
        self._app = app
        self._run = empty_run(RUN_ID)
        self._lock = threading.RLock()  # legacy servers send from a pool of threads
        self._replies: dict[str, Message] = {}
        self._errors: list[ClientError] = []
        self._contexts = {
            node_id: Context(
                run_id=RUN_ID,
                node_id=node_id,
                node_config={
                    **own[partition],
                    "partition-id": partition,
                    "num-partitions": n_clients,
                },
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for partition, node_id in enumerate(ids)
        }

    @property
    def errors(self) -> tuple[ClientError, ...]:
        """Exceptions in order, one a client and round; only the first of all keeps its locals."""
        return tuple(self._errors)

    @property
    def first_error(self) -> ClientError | None:
        """The first exception that a client raised, None while all went well."""
        return self._errors[0] if self._errors else None

    def set_run(self, run: Run) -> None:
        """Take the run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node, as older strategies make it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Node ids in the order of the partitions."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Run the clients that the messages go to; the ids under which replies are kept."""
        with self._lock:
            return [self._deliver(message) for message in messages if self._knows(message)]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to messages, each once, in the order asked for."""
        with self._lock:
            return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Replies in the order of the messages; a plain loop cannot keep a ``timeout``."""
        with self._lock:
            return self.pull_messages(self.push_messages(messages))

    def _knows(self, message: Message) -> bool:
        """Whether the message has a client; as in Flower's grids one without is dropped, aloud."""
        node_id = message.metadata.dst_node_id
        if node_id in self._contexts:
            return True
        logger.error(
            "a message to node %s was dropped: this run has no such node, its %d nodes are those "
            "of grid.get_node_ids()",
            node_id,
            len(self._contexts),
        )
        return False

    def _deliver(self, message: Message) -> str:
        message_id = str(uuid4())
        message.metadata.__dict__["_message_id"] = message_id  # as Flower's own grids do
        reply = self._ask(message)
        reply.metadata.__dict__["_message_id"] = str(uuid4())
        self._replies[message_id] = reply
        return message_id

    def _ask(self, message: Message) -> Message:
        node_id = message.metadata.dst_node_id
        known = self._contexts[node_id]
        context = Context(
            run_id=known.run_id,
            node_id=node_id,
            node_config=dict(known.node_config),
            state=isolated(known.state),
            run_config=dict(known.run_config),
        )
        delivered = Message(isolated(message.content), metadata=message.metadata)  # type: ignore[call-overload]  # metadata is internal
        try:
            with kept_process_state():
                reply = self._app(delivered, context)
            content = isolated(reply.content, reply=True) if reply.has_content() else None
        except (Exception, SystemExit) as error:  # noqa: BLE001  # user code: becomes an error reply
            self._keep(error, message, int(known.node_config["partition-id"]))
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(code=CLIENT_RAISED, reason=reason), reply_to=message)
        if content is not None:
            reply.content = content
        self._contexts[node_id] = context  # a client that raised keeps its old state
        return reply

    def _keep(self, error: BaseException, message: Message, partition: int) -> None:
        if message.metadata.message_type == IDENTITY_QUERY:
            return  # an app need not know our question
        found = ClientError(str(partition), round_of(message), error)
        for known in reversed(self._errors):
            if known.round != found.round:
                break
            if known.client == found.client:
                return
        if self._errors:  # else a long run would pin the locals of every failure
            traceback.clear_frames(error.__traceback__)
        self._errors.append(found)


def round_of(message: Message) -> int | None:
    """Round that a message belongs to: in its config, or as its group (legacy strategies)."""
    for record in message.content.config_records.values():
        value = record.get("server-round")
        if isinstance(value, int):
            return value
    group = message.metadata.group_id
    return int(group) if group.isdecimal() else None
