"""Flower apps of many kinds, each with the one line: two rounds, the same weights as without it.

Every file beside this one is a whole project. Without the line it is the same file but for two
lines: the import, and the call of ``observe``.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from digits import CLIENTS
from flwr.common import parameters_to_ndarrays

from fedcircuit import Run, simulate
from fedcircuit.app.engines.simulation import Simulation
from fedcircuit.strategies.preflight.checks import PreflightError

HERE = Path(__file__).parent
PROJECTS = {
    "quickstart": "FedAvg",
    "own_strategy": "Checkpointed",
    "numpy_legacy": "FedAvg",
    "own_batch_norm": "FedAvg",
    "private_training": "FedAvg",
    "lightning_style": "FedProx",
}
PARTIAL = {"own_batch_norm"}  # they exchange no whole network: rounds are recorded alone
IMPORT = "from fedcircuit import observe"


def source(name: str) -> list[str]:
    return (HERE / f"{name}.py").read_text(encoding="utf-8").splitlines()


def without(lines: list[str]) -> list[str]:
    """A project as it was before somebody observed it."""
    return [line for line in lines if line != IMPORT and " = observe(" not in line]


def project(name: str, lines: list[str]) -> ModuleType:
    module = ModuleType(name)
    exec(compile("\n".join(lines), str(HERE / f"{name}.py"), "exec"), vars(module))
    return module


def final(simulation: Simulation) -> list[tuple[str, str, bytes]]:
    """The final weights: names where there are any, dtypes, bits."""
    if simulation.legacy is not None:
        arrays = parameters_to_ndarrays(simulation.legacy.parameters)
        named = [(str(index), values) for index, values in enumerate(arrays)]
    else:
        named = [(name, a.numpy()) for name, a in simulation.state["final"].items()]
    return [(name, str(values.dtype), np.asarray(values).tobytes()) for name, values in named]


def simulated(name: str, lines: list[str], folder: Path) -> Simulation:
    folder.mkdir()
    app = project(name, lines)
    config = {"folder": str(folder / "run")}
    return simulate(app.server, app.client, clients=CLIENTS, run_config=config)


def test_every_project_is_tried() -> None:
    files = {path.stem for path in HERE.glob("*.py")} - {"digits", Path(__file__).stem}
    assert files == set(PROJECTS)


@pytest.mark.parametrize("name", PROJECTS)
def test_the_line_is_one_line_and_its_import(name: str) -> None:
    with_line = source(name)
    changed = [
        line[2:]
        for line in difflib.ndiff(without(with_line), with_line)
        if line.startswith(("+", "-"))
    ]
    assert len(changed) == 2
    assert changed[0] == IMPORT
    assert changed[1].strip().startswith("strategy = observe(strategy, ")


@pytest.mark.parametrize(("name", "strategy"), PROJECTS.items())
def test_two_rounds_give_the_same_bits_with_and_without_the_line(
    name: str, strategy: str, tmp_path: Path
) -> None:
    bare = simulated(name, without(source(name)), tmp_path / "bare")
    observed = simulated(name, source(name), tmp_path / "observed")
    assert bare.errors == observed.errors == ()
    assert len(final(bare)) > 1
    assert final(observed) == final(bare)
    assert not (tmp_path / "bare" / "run").exists()

    run = Run.load(tmp_path / "observed" / "run")
    assert run.manifest["name"] == strategy
    assert run.rounds == (1, 2)
    assert len(run.clients) == 2 * CLIENTS
    assert run.failures.empty
    assert run.observer_errors.empty
    if name in PARTIAL:
        assert "verdicts" not in run.table_names
        return
    verdicts = run.table("verdicts")
    assert set(verdicts["round"]) == {1, 2}
    assert set(verdicts["client"]) == set(run.clients["client"])
    assert set(run.table("accuracy")["round"]) == {1, 2}


def test_a_model_is_refused_where_no_whole_network_is_exchanged(tmp_path: Path) -> None:
    lines = [
        line.replace("observe(strategy,", "observe(strategy, model=model, probe=probe(),")
        for line in source("own_batch_norm")
    ]
    lines.insert(lines.index(IMPORT), "from digits import probe")
    with pytest.raises(PreflightError, match="clients keep these for themselves"):
        simulated("own_batch_norm", lines, tmp_path / "with-model")


def test_the_checkpoints_of_a_strategy_of_ones_own_are_the_same(tmp_path: Path) -> None:
    for kind, lines in (("a", without(source("own_strategy"))), ("b", source("own_strategy"))):
        simulated("own_strategy", lines, tmp_path / kind)
    names = sorted(path.name for path in (tmp_path / "a").glob("*.pt"))
    assert names
    assert sorted(path.name for path in (tmp_path / "b").glob("*.pt")) == names
