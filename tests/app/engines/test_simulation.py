"""``simulate`` runs the apps of a Flower project in this process, as Flower's simulation would."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fedcircuit import simulate
from fedcircuit.app.engines.engine import EngineError
from fedcircuit.messages import IDENTITY_QUERY


def server(rounds: int = 2, **options: Any) -> ServerApp:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, **options)
        strategy.start(grid, ArrayRecord({"w": Array(np.zeros(2, np.float32))}), num_rounds=rounds)

    return app


def client(train: Callable[[Message, Context], np.ndarray]) -> ClientApp:
    app = ClientApp()

    @app.train()
    def answer(message: Message, context: Context) -> Message:
        content = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(train(message, context).astype(np.float32))}),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )
        return Message(content, reply_to=message)

    return app


def weights(simulation: Any) -> list[float]:
    return simulation.result.arrays["w"].numpy().tolist()


def test_the_final_weights_and_the_metrics_of_every_round_come_back() -> None:
    def train(message: Message, context: Context) -> np.ndarray:
        return message.content["arrays"]["w"].numpy() + context.node_config["partition-id"]

    simulation = simulate(server(), client(train), clients=3)
    assert weights(simulation) == [2.0, 2.0]  # twice the mean of 0, 1, 2
    assert list(simulation.result.train_metrics_clientapp) == [1, 2]
    assert simulation.errors == ()
    assert simulation.legacy is None


def test_both_sides_read_the_run_config_and_clients_their_partition() -> None:
    seen: list[dict[str, Any]] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        context.state["lr"] = ConfigRecord({"lr": context.run_config["lr"]})
        arrays = ArrayRecord({"w": Array(np.zeros(2))})
        FedAvg(fraction_evaluate=0.0).start(grid, arrays, num_rounds=1)

    def train(message: Message, context: Context) -> np.ndarray:
        seen.append({**context.node_config, **context.run_config})
        return np.zeros(2)

    folders = [{"folder": "a"}, {"folder": "b"}]
    simulation = simulate(
        app, client(train), clients=2, run_config={"lr": 0.5}, node_configs=folders
    )
    assert sorted(seen, key=lambda entry: entry["partition-id"]) == [
        {"partition-id": i, "num-partitions": 2, "lr": 0.5, "folder": "ab"[i]} for i in range(2)
    ]
    assert simulation.state["lr"]["lr"] == 0.5


def draws(message: Message, context: Context) -> np.ndarray:
    return np.array([random.random() + float(np.random.rand()), float(torch.rand(1))])


def test_the_seed_fixes_what_clients_and_server_draw_and_nothing_outside_moves() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first = weights(simulate(server(fraction_train=0.4), client(draws), clients=10, seed=3))
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert before == after
    random.seed(2)
    assert weights(simulate(server(fraction_train=0.4), client(draws), 10, seed=3)) == first
    assert weights(simulate(server(fraction_train=0.4), client(draws), 10, seed=4)) != first


def test_what_a_client_draws_does_not_depend_on_who_else_takes_part() -> None:
    def alone(message: Message, context: Context) -> np.ndarray:
        return draws(message, context) if context.node_config["partition-id"] == 0 else np.zeros(2)

    both = weights(simulate(server(rounds=1), client(alone), 2))
    four = weights(simulate(server(rounds=1), client(alone), 4))
    np.testing.assert_allclose(np.array(both) * 2, np.array(four) * 4, rtol=1e-6)


def test_without_a_seed_clients_share_the_random_state_there_is() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2).tolist()
    torch.manual_seed(5)
    got = simulate(
        server(rounds=1), client(lambda m, c: np.array([torch.rand(1).item()] * 2)), 2, seed=None
    )
    assert weights(got)[0] == pytest.approx(np.mean(expected))


def moody(message: Message, context: Context) -> np.ndarray:
    if context.node_config["partition-id"] == 1:
        raise ValueError("no data today")
    return np.ones(2)


def test_a_client_that_raises_is_named_with_its_line_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulation = simulate(server(), client(moody), clients=3)
    assert weights(simulation) == [1.0, 1.0]
    line = moody.__code__.co_firstlineno + 2
    assert [(e.client, e.round, e.where) for e in simulation.errors] == [
        ("1", number, f"{__file__}:{line} in moody") for number in (1, 2)
    ]
    assert "client 1 raised in round 1: ValueError: no data today\n" in caplog.text
    assert f"at {__file__}:{line} in moody" in caplog.text


def test_the_strategy_sees_the_error_that_flower_would_give() -> None:
    reasons: list[str] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        content = RecordDict({"config": ConfigRecord({"server-round": 1})})
        node = list(grid.get_node_ids())[1]
        (reply,) = grid.send_and_receive([Message(content, node, "train")])
        reasons.append(f"{reply.error.code} {reply.error.reason}")

    simulate(app, client(moody), clients=2)
    assert reasons == ["2 <class 'ValueError'>:<'no data today'>"]


def test_an_error_of_the_server_passes_with_a_note_of_the_client_that_failed_first() -> None:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        arrays = ArrayRecord({"w": Array(np.zeros(2))})
        FedAvg(fraction_evaluate=0.0).start(grid, arrays, num_rounds=1)
        raise KeyError("w")

    with pytest.raises(KeyError) as caught:
        simulate(app, client(moody), clients=2)
    (note,) = caught.value.__notes__
    assert "client 1 raised in round 1: ValueError: no data today" in note
    assert "in moody" in note


class Adds(NumPyClient):
    def __init__(self, client: int) -> None:
        self.client = client

    def fit(self, parameters, config):  # type: ignore[no-untyped-def]
        return [parameters[0] + self.client], 1, {}

    def evaluate(self, parameters, config):  # type: ignore[no-untyped-def]
        return float(parameters[0].sum()), 1, {}


def test_legacy_apps_run_and_give_history_and_parameters() -> None:
    def server_fn(context: Context) -> ServerAppComponents:
        start = ndarrays_to_parameters([np.zeros(2)])
        return ServerAppComponents(
            strategy=LegacyFedAvg(initial_parameters=start),
            config=ServerConfig(num_rounds=int(context.run_config["rounds"])),
        )

    def client_fn(context: Context):  # type: ignore[no-untyped-def]
        return Adds(int(context.node_config["partition-id"])).to_client()

    simulation = simulate(
        ServerApp(server_fn=server_fn), ClientApp(client_fn=client_fn), 3, run_config={"rounds": 2}
    )
    assert simulation.legacy is not None
    (final,) = parameters_to_ndarrays(simulation.legacy.parameters)
    np.testing.assert_allclose(final, [2, 2])  # a legacy server sums in any order
    rounds, losses = zip(*simulation.legacy.history.losses_distributed, strict=True)
    assert rounds == (1, 2)
    np.testing.assert_allclose(losses, [2.0, 4.0])
    assert simulation.result is None


def test_flowers_own_classes_are_as_they_were_afterwards() -> None:
    from flwr.server import Server
    from flwr.serverapp.strategy import Strategy

    before = Strategy.start, Server.fit
    simulate(server(), client(moody), clients=3)
    assert (Strategy.start, Server.fit) == before


def test_a_strategy_that_waits_for_more_clients_than_there_are_is_refused() -> None:
    with pytest.raises(EngineError, match=r"waits for 5 clients \(min_available_nodes\)"):
        simulate(server(min_available_nodes=5), client(moody), clients=3)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"server_app": "x"}, TypeError, "server_app must be a ServerApp of Flower, got a str"),
        ({"client_app": ServerApp()}, TypeError, "client_app must be a ClientApp of Flower"),
        ({"clients": 0}, ValueError, "must be >= 1"),
        ({"run_config": {"a": [1]}}, TypeError, r"run_config\['a'\] must be text"),
        ({"node_configs": [{}]}, ValueError, "one a client"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    change: dict[str, Any], kind: type[Exception], words: str
) -> None:
    arguments = {"server_app": server(), "client_app": client(moody), "clients": 2, **change}
    with pytest.raises(kind, match=words):
        simulate(**arguments)


def test_a_client_does_not_have_to_know_our_question() -> None:
    seen: list[str] = []

    def train(message: Message, context: Context) -> np.ndarray:
        seen.append(message.metadata.message_type)
        return np.ones(2)

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        questions = [Message(RecordDict(), node, IDENTITY_QUERY) for node in grid.get_node_ids()]
        assert all(reply.has_error() for reply in grid.send_and_receive(questions))

    assert simulate(app, client(train), clients=2).errors == ()
