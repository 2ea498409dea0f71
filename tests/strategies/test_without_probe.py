"""A server without data: circuits come from the clients, and what cannot be known is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flwr.serverapp.strategy import FedAvg, Strategy
from observing_helpers import outcome, run
from toy_federation import N_CLASSES, N_INPUTS, SortedGrid, build_net, toy_app

from fedcircuit import CircuitFedAvg, Run, observe
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.clients.circuits import ClientCircuits
from fedcircuit.report.page.page import write_report
from fedcircuit.report.tables.verdict_text import headline

SETTINGS = CircuitSettings(controls=2)
EXAMPLE = torch.zeros(1, N_INPUTS)
N = 3


def grid() -> SortedGrid:
    return SortedGrid(toy_app(circuits=ClientCircuits(SETTINGS)), N)


def observed(path: Path) -> Strategy:
    return observe(
        FedAvg(fraction_evaluate=0.0),
        model=build_net(),
        example=EXAMPLE,
        discover_on="clients",
        circuits=SETTINGS,
        run_dir=path,
    )


def own(path: Path) -> Strategy:
    return CircuitFedAvg(
        fraction_evaluate=0.0,
        model=build_net(),
        example=EXAMPLE.numpy(),
        discover_on="clients",
        circuits=SETTINGS,
        run_dir=path,
    )


@pytest.mark.parametrize("make", [observed, own])
def test_circuits_of_the_clients_are_recorded_and_reported(tmp_path: Path, make: object) -> None:
    path = tmp_path / "run"

    run(make(path), grid(), rounds=2)  # type: ignore[operator]

    recorded = Run.load(path)
    assert recorded.observer_errors.empty
    assert recorded.class_names == tuple(map(str, range(N_CLASSES)))
    assert set(recorded.table("models")["model"]) == {"0", "1", "2"}
    masks = recorded.masks(2)
    assert masks is not None
    assert masks.found.any()
    overlap = recorded.table("client_overlap")
    both = overlap[(overlap["round"] == 2) & (overlap["layer"] == "all")]
    assert set(zip(both["client_a"], both["client_b"], strict=True)) <= {
        ("0", "1"), ("0", "2"), ("1", "2"),
    }  # fmt: skip
    assert len(both) > 0
    assert "verdicts" not in recorded.table_names
    told = headline(recorded)
    assert "a verdict needs labelled samples on the server" in told
    mine = recorded.table("validity")
    mine = mine[(mine["round"] == 2) & (mine["status"] != "absent")]
    valid = (mine["status"] == "valid").sum()
    assert f"In round 2, {valid} of {len(mine)} circuits that clients looked for" in told
    assert "no two clients have a valid circuit of the same class" in told
    assert write_report(recorded).stat().st_size > 10_000


def test_what_is_computed_stays_the_same_bit_for_bit(tmp_path: Path) -> None:
    bare = outcome(run(FedAvg(fraction_evaluate=0.0), grid()))

    assert outcome(run(observed(tmp_path / "run"), grid())) == bare


def test_a_client_that_sends_no_circuits_is_named(tmp_path: Path) -> None:
    run(observed(tmp_path / "run"), SortedGrid(toy_app(), N), rounds=1)

    skipped = Run.load(tmp_path / "run").table("skipped")
    assert set(skipped["client"]) == {"0", "1", "2"}
    assert set(skipped["reason"]) == {"the client sent no circuits"}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"model": build_net()}, "give probe; or, where the server has none, an example"),
        ({"model": build_net(), "example": EXAMPLE}, "discover_on='clients'"),
        ({"model": build_net(), "discover_on": "clients"}, "an example input"),
        ({"example": EXAMPLE, "discover_on": "clients"}, "circuits need a model"),
        ({"model": build_net(), "discover_on": "both"}, "'server' or 'clients', got 'both'"),
    ],
)
def test_what_does_not_make_sense_together_is_refused(
    tmp_path: Path, given: dict[str, object], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        observe(FedAvg(), run_dir=tmp_path / "run", **given)  # type: ignore[arg-type]

    assert not (tmp_path / "run").exists()
