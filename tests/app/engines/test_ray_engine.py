"""Ray gives what this process gives, bit for bit, and says when it fails."""

from __future__ import annotations

import gc
import math
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from toy_federation import (
    N_CLASSES,
    Witness,
    bits,
    build_net,
    data_of,
    initial_weights,
    samples_of,
    toy_app,
)

from fedcircuit.app.engines.engine import Engine, EngineError, Federation
from fedcircuit.app.engines.running import run_federation
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.clients.app import client_app
from fedcircuit.learning.training.local_training import LocalTraining
from fedcircuit.messages import IDENTITY_QUERY
from fedcircuit.records.rounds.round_record import RoundRecord
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.recording.options import RecorderOptions

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and files of its own processes to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
N = 4


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Ray's processes are gone, and what it left open is collected while nobody minds."""
    yield
    assert not ray.is_initialized()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ray._private.worker._global_node = None  # it holds /dev/null open
        gc.collect()


def app_of(act: Any) -> ClientApp:
    """The toy app, with something done before each training."""
    app, honest = ClientApp(), toy_app()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        act(int(context.node_config["partition-id"]), message.content["config"]["server-round"])
        return honest(message, context)

    app.evaluate()(honest)
    app.query(IDENTITY_QUERY.partition(".")[2])(honest)
    return app


def fail_once(partition: int, number: int) -> None:
    if (partition, number) == (2, 2):
        raise ValueError("my mistake")


def die(partition: int, number: int) -> None:
    if partition == 1:
        os._exit(3)


def plain(value: object) -> object:
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def story(record: RoundRecord) -> dict[str, object]:
    """All that a round records, but for seconds."""
    tables = {
        (name, key): [tuple(map(plain, row)) for row in table.rows]
        for name, observation in record.observations.items()
        for key, table in observation.tables.items()
        if key != "seconds"
    }
    arrays = {
        (name, key): (values.shape, values.tobytes())
        for name, observation in record.observations.items()
        for key, values in observation.arrays.items()
    }
    return {
        "weights": bits(record.weights),
        "clients": [(c.client, bits(c.weights), dict(c.metrics)) for c in record.clients],
        "failures": [(f.client, f.kind, f.reason.partition(" at ")[0]) for f in record.failures],
        "tables": tables,
        "arrays": arrays,
    }


def run(engine: Engine) -> tuple[list[dict[str, object]], dict[int, dict[str, object]]]:
    """Two rounds with all clients, of whom one fails once, and two with half of them."""
    records: list[RoundRecord] = []
    samples = samples_of(9, 60)

    def follow(record: RoundRecord) -> None:
        records.append(record)
        if record.round == 2:
            strategy.fraction_train = 0.5

    strategy = CircuitFedAvg(
        model=build_net(),
        probe=(samples.inputs, samples.labels),
        circuits=CircuitSettings(controls=3),
        observers=[Witness()],
        options=RecorderOptions(seed=3, strict=True, on_round=follow),
    )
    federation = Federation(app_of(fail_once), N, initial_weights(), 4)
    result = run_federation(engine, strategy, federation)
    evaluations = {r: dict(m) for r, m in result.evaluate_metrics_clientapp.items()}
    return [story(record) for record in records], evaluations


def test_ray_and_this_process_record_the_same_rounds_and_the_same_circuits() -> None:
    here, there = run(Engine()), run(Engine("ray", workers=2))
    assert here[1] == there[1]
    for mine, other in zip(here[0], there[0], strict=True):
        for part, value in mine.items():
            assert value == other[part], part
    clients = [[client[0] for client in record["clients"]] for record in here[0]]  # type: ignore[attr-defined]
    assert clients[:2] == [["0", "1", "2", "3"], ["0", "1", "3"]]
    assert [len(chosen) for chosen in clients[2:]] == [2, 2]
    assert here[0][1]["failures"] == [("2", "error", "ValueError: my mistake")]
    assert ("circuits", "overlap") in here[0][3]["tables"]  # type: ignore[operator]


def test_clients_go_on_with_their_optimisers_in_ray_as_in_this_process() -> None:
    def weights(engine: Engine, state: str) -> list[object]:
        training = LocalTraining(
            steps=2, batch_size=8, optimizer="adam", lr=0.02, optimizer_state=state
        )
        app = client_app(build_net, data_of, training, n_classes=N_CLASSES)
        records: list[RoundRecord] = []
        options = RecorderOptions(seed=3, strict=True, on_round=records.append)
        # half of the clients in a round: some come back after a round without them
        strategy = CircuitFedAvg(fraction_train=0.5, min_train_nodes=1, options=options)
        run_federation(engine, strategy, Federation(app, N, initial_weights(), 4))
        return [story(record)["clients"] for record in records]

    here = weights(Engine(), "kept")
    assert here == weights(Engine("ray", workers=2), "kept")
    assert here != weights(Engine(), "fresh")


def test_a_worker_that_dies_is_an_error() -> None:
    federation = Federation(app_of(die), N, initial_weights(), 2)
    with pytest.raises(EngineError, match="a Ray worker failed.*died unexpectedly"):
        run_federation(Engine("ray", workers=1), CircuitFedAvg(), federation)


def test_clients_that_fit_nowhere_are_an_error() -> None:
    federation = Federation(toy_app(), N, initial_weights(), 1)
    with pytest.raises(EngineError, match=r"Ray's simulation failed: ActorPool is empty"):
        run_federation(Engine("ray", cpus_per_client=10_000), CircuitFedAvg(), federation)
