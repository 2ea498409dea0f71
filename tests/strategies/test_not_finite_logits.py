"""Weights that are finite and logits that are not: never a class, always a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array
from flwr.serverapp.strategy import FedAvg
from observing_helpers import run
from toy_federation import build_net, samples_of

from fedcircuit.records.rounds.round_record import NOT_FINITE_LOGITS
from fedcircuit.records.runs.run import Run
from fedcircuit.report.page.page import write_report
from fedcircuit.report.page.sections import verdicts
from fedcircuit.report.tables import counts as tables
from fedcircuit.report.tables.verdict_text import headline
from fedcircuit.strategies.observing import observe

PROBE = samples_of(9, 60)


class NegativeVariance(FedAvg):
    """Gives batch norm a variance below zero in round 2, as server-side momentum can."""

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        arrays, metrics = super().aggregate_train(server_round, replies)
        if server_round == 2 and arrays is not None:
            arrays["1.running_var"] = Array(np.full(5, -1.0, np.float32))
        return arrays, metrics


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("not-finite") / "run"
    strategy = observe(
        NegativeVariance(fraction_evaluate=0.0),
        model=build_net(),
        probe=(PROBE.inputs, PROBE.labels),
        run_dir=path,
    )
    run(strategy, rounds=2)
    return Run.load(path)


def test_the_model_is_named_once_with_the_number_of_samples(recorded: Run) -> None:
    failures = recorded.failures
    assert failures[["round", "client", "kind"]].to_numpy().tolist() == [
        [2, "global", NOT_FINITE_LOGITS]
    ]
    assert failures["reason"][0].startswith("the model's logits are NaN or infinite for ")


def test_its_accuracy_and_recalls_are_undefined(recorded: Run) -> None:
    table = recorded.table("accuracy")
    assert table.loc[table["round"] == 1, "recall"].notna().all()
    assert table.loc[table["round"] == 2, ["recall", "fpr", "loss"]].isna().all(axis=None)


def test_its_status_is_not_finite_and_no_client_is_judged_by_it(recorded: Run) -> None:
    validity = recorded.table("validity")
    last = validity[(validity["round"] == 2) & (validity["model"] == "global")]
    assert set(last["status"]) == {"not_finite"}
    judged = recorded.table("verdicts")
    assert judged.loc[judged["round"] == 2, "verdict"].isna().all()


def test_the_report_says_it(recorded: Run, tmp_path: Path) -> None:
    text = headline(recorded)
    assert "The global model of round 2 has no accuracy: its logits are NaN or infinite." in text
    assert "Logits were not finite in 1 model." in text
    page = write_report(recorded, tmp_path / "report.html").read_text()
    assert "not measured: its logits are not finite" in page


def test_a_client_whose_logits_are_not_finite_has_a_word_of_its_own(recorded: Run) -> None:
    counts = tables.verdict_counts(recorded)
    assert counts["not_finite"].tolist() == [0, 0]  # the clients' own are finite
    assert set("".join(line for _, line in verdicts(recorded)["letters"]["2"])) <= set("vuna")
