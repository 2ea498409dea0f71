"""``resume=True``: the same script, run again, does the rounds that are missing."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.common import ndarrays_to_parameters
from flwr.server import Server, ServerConfig, SimpleClientManager
from flwr.server import strategy as legacy
from flwr.server.compat import start_grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAdam, FedAvg, Result, Strategy
from plain_clients import drifting_app, plain_weights
from torch import nn
from toy_federation import arrays_of, bits, build_net, initial_weights, samples_of

from fedcircuit.app.engines.grid import InProcessGrid
from fedcircuit.clients.bridge import numpyclient_mod
from fedcircuit.records.files.read_errors import RunError
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.strategies.circuit_fedavg import CircuitFedAvg
from fedcircuit.strategies.observing import observe
from fedcircuit.strategies.preflight.checks import PreflightError
from fedcircuit.strategies.recording.options import RecorderOptions
from fedcircuit.strategies.recording.resuming import printed

N = 3


def begin(strategy: Strategy, rounds: int, **more: Any) -> Result:
    return strategy.start(
        InProcessGrid(drifting_app(), N), arrays_of(plain_weights()), num_rounds=rounds, **more
    )


def adam(folder: Path, **more: Any) -> Strategy:
    return observe(FedAdam(fraction_train=0.7), run_dir=folder, resume=True, **more)


def average(folder: Path, **more: Any) -> Strategy:
    return CircuitFedAvg(fraction_train=0.7, run_dir=folder, resume=True, **more)


def recorded(folder: Path) -> list[object]:
    with RunStore.open(folder) as store:
        return [
            (bits(r.weights), bits(r.state), [(c.client, bits(c.weights)) for c in r.clients])
            for r in store
        ]


@pytest.mark.parametrize("make", [adam, average])
def test_the_same_script_run_again_does_the_rounds_that_are_missing(
    make: Callable[..., Strategy], tmp_path: Path
) -> None:
    begin(make(tmp_path / "whole"), 4)
    begin(make(tmp_path / "parts"), 1)
    begin(make(tmp_path / "parts"), 2)
    result = begin(make(tmp_path / "parts"), 4)
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")
    assert sorted(result.train_metrics_clientapp) == [3, 4]


def test_a_run_that_has_all_its_rounds_gives_its_weights_and_sends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = begin(adam(tmp_path / "run"), 2)
    again = begin(adam(tmp_path / "run"), 2)
    assert bits({n: a.numpy() for n, a in again.arrays.items()}) == bits(
        {n: a.numpy() for n, a in first.arrays.items()}
    )
    assert "2 rounds are recorded and 2 are asked for: there is nothing left to do" in caplog.text


def test_evaluation_on_the_server_is_told_the_true_round(tmp_path: Path) -> None:
    seen: list[int] = []

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(number)
        return MetricRecord({"number": number})

    begin(adam(tmp_path / "run"), 2, evaluate_fn=evaluate)
    result = begin(adam(tmp_path / "run"), 3, evaluate_fn=evaluate)
    assert seen == [0, 1, 2, 2, 3]
    assert {n: m["number"] for n, m in result.evaluate_metrics_serverapp.items()} == {2: 2, 3: 3}


@pytest.mark.parametrize("made", [False, True])
def test_where_there_is_nothing_yet_a_new_run_begins(made: bool, tmp_path: Path) -> None:
    if made:
        (tmp_path / "run").mkdir()
    begin(adam(tmp_path / "run"), 1)
    assert Run.load(tmp_path / "run").rounds == (1,)


def test_a_run_without_a_round_begins_with_the_weights_given(tmp_path: Path) -> None:
    adam(tmp_path / "run")  # stopped before the first round
    begin(adam(tmp_path / "run"), 1)
    assert Run.load(tmp_path / "run").rounds == (1,)


def test_without_resume_a_folder_with_a_run_is_refused_as_before(tmp_path: Path) -> None:
    begin(adam(tmp_path / "run"), 1)
    with pytest.raises(RunError, match="resume=True"):
        observe(FedAdam(), run_dir=tmp_path / "run")


def probe() -> tuple[torch.Tensor, torch.Tensor]:
    samples = samples_of(9, 60)
    return samples.inputs, samples.labels


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda to: observe(FedAvg(), **to), "its strategy is 'FedAdam', here it is 'FedAvg'"),
        (
            lambda to: observe(FedAdam(), options=RecorderOptions(seed=4), **to),
            "its seed is 0, here it is 4",
        ),
        (
            lambda to: observe(FedAdam(), model=build_net(), probe=probe(), **to),
            r"its classes is \[\], here it is \['0', '1', '2'\]",
        ),
    ],
)
def test_another_strategy_seed_or_model_is_refused_and_harms_nothing(
    other: Callable[[dict[str, Any]], Strategy], words: str, tmp_path: Path
) -> None:
    begin(adam(tmp_path / "run"), 1)
    with pytest.raises(RunError, match=words):
        other({"run_dir": tmp_path / "run", "resume": True})
    begin(adam(tmp_path / "run"), 2)
    assert Run.load(tmp_path / "run").rounds == (1, 2)


def test_the_same_weights_in_another_network_are_another_run(tmp_path: Path) -> None:
    folder, net = tmp_path / "run", build_net()
    observe(
        FedAvg(), model=net, probe=probe(), run_dir=folder
    ).fedcircuit_hooks.recorder.store.close()
    other = copy.deepcopy(net)
    (name, _) = next((n, m) for n, m in other.named_modules() if isinstance(m, nn.ReLU))
    setattr(other.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], nn.Tanh())
    again = partial(observe, FedAvg(), probe=probe(), run_dir=folder, resume=True)
    with pytest.raises(
        RunError, match=r"its network has '.*ReLU\(\)' where this one has '.*Tanh\(\)'"
    ):
        again(model=other)
    again(model=net)


def test_a_run_with_circuits_asks_for_model_and_probe(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made = observe(FedAvg(), model=build_net(), probe=probe(), run_dir=folder)
    made.fedcircuit_hooks.recorder.store.close()
    with pytest.raises(RunError, match="observed with a model and a probe: give both"):
        observe(FedAvg(), run_dir=folder, resume=True)


def test_a_network_is_printed_without_addresses() -> None:
    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return f"f={object()}"

    assert printed(Odd()) == "Odd(f=<object object>)"


def test_weights_of_another_network_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    begin(adam(tmp_path / "run"), 1)
    wide = {**plain_weights(), "bias": np.zeros(8, np.float32)}
    strategy = adam(tmp_path / "run")
    with pytest.raises(PreflightError, match=r"'bias' is \(3,\) in the run and \(8,\) here"):
        strategy.start(InProcessGrid(drifting_app(), N), arrays_of(wide), num_rounds=2)


def test_the_run_of_a_study_is_left_to_its_own_command(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", {"config": {"training": {}}, "name": "FedAvg"}).close()
    with pytest.raises(RunError, match="fedcircuit resume"):
        observe(FedAvg(), run_dir=tmp_path / "run", resume=True)


def test_resume_finds_the_offset_itself_and_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume=True needs run_dir"):
        observe(FedAvg(), resume=True)
    with pytest.raises(ValueError, match="round_offset itself"):
        observe(
            FedAvg(),
            run_dir=tmp_path / "run",
            resume=True,
            options=RecorderOptions(round_offset=1),
        )


def test_a_strategy_inside_another_one_is_not_resumed_from_other_weights(tmp_path: Path) -> None:
    def inside() -> Strategy:
        inner = observe(FedAvg(), run_dir=tmp_path / "run", resume=True)
        return flower.DifferentialPrivacyServerSideFixedClipping(
            inner, noise_multiplier=0.1, clipping_norm=5.0, num_sampled_clients=N
        )

    begin(inside(), 1)
    with pytest.raises(PreflightError, match="observe the outer one"):
        begin(inside(), 2)


class Scheduled(FedAvg):
    """A strategy with a ``start`` and a ``configure_train`` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[int] = []

    def configure_train(self, server_round, arrays, config, grid):  # type: ignore[no-untyped-def]
        self.rounds.append(server_round)
        return super().configure_train(server_round, arrays, config, grid)

    def start(self, grid, initial_arrays, num_rounds=3, note=""):  # type: ignore[no-untyped-def]
        return super().start(grid, initial_arrays, num_rounds)


def test_a_strategy_with_a_start_of_its_own_is_resumed_too(tmp_path: Path) -> None:
    grid, arrays = InProcessGrid(drifting_app(), N), arrays_of(plain_weights())
    for total in (1, 3):
        strategy = observe(Scheduled(), run_dir=tmp_path / "run", resume=True)
        strategy.start(grid, arrays, num_rounds=total, note="x")
    assert strategy.rounds == [2, 3]
    assert Run.load(tmp_path / "run").rounds == (1, 2, 3)


def legacy_run(folder: Path, rounds: int) -> None:
    initial = ndarrays_to_parameters(list(initial_weights().values()))
    strategy = observe(
        legacy.FedAvgM(server_momentum=0.6, initial_parameters=initial, fraction_evaluate=0.0),
        run_dir=folder,
        resume=True,
        param_names=list(initial_weights()),
    )
    start_grid(
        grid=InProcessGrid(numpy_app(), N),
        server=Server(client_manager=SimpleClientManager(), strategy=strategy),
        config=ServerConfig(num_rounds=rounds),
    )


def numpy_app():  # type: ignore[no-untyped-def]
    from flwr.clientapp import ClientApp

    from fedcircuit.clients.sparse_client import SparseClient
    from fedcircuit.learning.training.local_training import LocalTraining

    def client_fn(context):  # type: ignore[no-untyped-def]
        partition = int(context.node_config["partition-id"])
        training = LocalTraining(epochs=1, batch_size=8, lr=0.1)
        return SparseClient(
            build_net(), samples_of(partition), training, n_classes=3, client=partition
        ).to_client()

    return ClientApp(client_fn=client_fn, mods=[numpyclient_mod])


def test_a_legacy_strategy_goes_on_for_as_many_rounds_as_it_is_asked(tmp_path: Path) -> None:
    legacy_run(tmp_path / "whole", 3)
    legacy_run(tmp_path / "parts", 1)
    legacy_run(tmp_path / "parts", 2)
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")


def test_what_it_goes_on_from_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin(adam(tmp_path / "run"), 2)
    with caplog.at_level(logging.INFO, logger="fedcircuit"):
        adam(tmp_path / "run")
    assert "2 rounds are recorded, the next is round 3" in caplog.text
