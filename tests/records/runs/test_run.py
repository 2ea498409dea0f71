"""A run read back: typed frames, arrays, circuits, and errors that say what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from record_examples import a_round, files_of, identical

from fedcircuit.circuits.circuit import Site
from fedcircuit.records.files.read_errors import RunError, UnknownTableError
from fedcircuit.records.rounds import ClientRecord, Failure, Observation, RoundRecord, Table
from fedcircuit.records.rounds.client_weights import Storage
from fedcircuit.records.runs import Run, RunStore

NAN = float("nan")


def run_of(tmp_path: Path, *records: RoundRecord, storage: Storage | None = None) -> Run:
    manifest = {"name": "<b>run</b>", "class_names": ["cat", "dog"], "seed": 0}
    with RunStore.create(tmp_path / "run", manifest, storage) as store:
        for record in records:
            store.append(record)
    return Run.load(tmp_path / "run")


def seen(number: int, **tables: Table) -> RoundRecord:
    return RoundRecord(number, {}, observations={"eye": Observation(tables)})


def test_a_table_is_a_frame_over_all_rounds_with_typed_columns(tmp_path: Path) -> None:
    columns = ("client", "class", "iou", "verdict", "constant", "size")
    run = run_of(
        tmp_path,
        RoundRecord(0, {}),
        seen(
            1, overlap=Table(columns, (("a", 0, 0.25, None, True, 3), ("b", 1, NAN, "x", False, 4)))
        ),
        seen(2),
        seen(
            3,
            overlap=Table(
                columns, (("c", 2, float("inf"), None, True, None), ("d", 2, 1, None, True, 7))
            ),
        ),
    )
    frame = run.table("overlap")
    assert list(frame) == ["round", *columns]
    assert frame["round"].tolist() == [1, 1, 3, 3]
    assert {name: frame[name].dtype.kind for name in ("round", "class", "iou", "size")} == {
        "round": "i",
        "class": "i",
        "iou": "f",
        "size": "f",  # an absent size is NaN
    }
    assert frame["constant"].dtype == np.bool_
    np.testing.assert_array_equal(frame["iou"], [0.25, NAN, np.inf, 1])
    np.testing.assert_array_equal(frame["size"], [3, 4, NAN, 7])
    assert frame["verdict"].isna().tolist() == [True, False, True, True]
    assert frame["client"].tolist() == ["a", "b", "c", "d"]


def test_columns_that_come_and_go_are_missing_where_they_were_not(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        seen(0, t=Table(("a",), ((1,),))),
        seen(1, t=Table(("a", "b"), ((2, "x"),))),
        seen(2, t=Table(("a", "b"))),
        seen(3, t=Table(("b",), (("y",),))),
    )
    frame = run.table("t")
    np.testing.assert_array_equal(frame["a"], [1, 2, NAN])
    assert frame["b"].isna().tolist() == [True, False, False]


def test_integers_and_floats_join_to_floats_and_large_integers_stay_exact(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        seen(0, t=Table(("x", "n"), ((1, 2**80),))),
        seen(1, t=Table(("x", "n"), ((0.5, 1),))),
    )
    frame = run.table("t")
    assert frame["x"].dtype == np.float64
    assert frame["n"].tolist() == [2**80, 1]


def test_two_observers_may_use_one_table_name(tmp_path: Path) -> None:
    table = Table(("x",), ((1,),))
    observations = {
        "eye": Observation({"t": table, "own": table}),
        "ear": Observation({"t": Table(("x",), ((2,),))}),
    }
    run = run_of(tmp_path, RoundRecord(0, {}, observations=observations))
    assert run.table_names == ("eye/t", "own", "ear/t")
    assert run.table("ear/t")["x"].tolist() == [2]


def test_an_unknown_table_names_the_nearest(tmp_path: Path) -> None:
    run = run_of(tmp_path, a_round(0), a_round(1))
    with pytest.raises(UnknownTableError) as caught:
        run.table("overlaps")
    assert str(caught.value) == f"{run.path} has no table 'overlaps'; did you mean 'overlap'?"
    with pytest.raises(KeyError):
        run.table("overlaps")
    with pytest.raises(RunError, match="it has sites, models, overlap"):
        run.table("zzz")


def test_a_run_without_rounds_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    assert run.rounds == ()
    assert run.table_names == ()
    for frame in (run.metrics, run.seconds, run.failures, run.clients, run.evaluations):
        assert len(frame) == 0
        assert frame["round"].dtype == np.int64
    assert run.partition is None
    with pytest.raises(RunError, match="no round is recorded yet"):
        run.table("overlap")
    with pytest.raises(RunError, match="it has no rounds yet"):
        run.weights(0)
    assert "rounds" in run._repr_html_()


def test_weights_and_circuits_come_back(tmp_path: Path) -> None:
    run = run_of(tmp_path, RoundRecord(0, a_round(0).weights), a_round(1))
    assert run.rounds == (1,)
    assert run.class_names == ("cat", "dog")
    assert run.clients_of(1) == ("0", "1")
    assert identical(run.weights(0), a_round(0).weights)
    assert identical(run.client_weights(1, "1"), a_round(1).clients[1].weights)
    assert identical(run.record(1), a_round(1))
    stack = run.masks(1)
    assert stack is not None
    assert stack.sites == (Site("conv", 16, 1, "relu"), Site("fc", 5, -1, "fc"))
    assert stack.models == ("global", "0", "1")
    arrays = a_round(1).observations["circuits"].arrays
    bits = np.unpackbits(arrays["masks"], axis=-1)[..., :21].astype(bool)
    assert torch.equal(stack.masks, torch.from_numpy(bits))
    assert torch.equal(stack.found, torch.from_numpy(arrays["found"]))
    assert run.masks(0) is None
    assert run.observed(0, "circuits") == {}


def test_sites_without_axis_and_output_are_read_where_they_stand(tmp_path: Path) -> None:
    record = a_round(0)
    seen_there = record.observations["circuits"]
    sites = Table(("site", "n_units"), (("conv", 16), ("fc", 5)))
    observation = Observation({**seen_there.tables, "sites": sites}, seen_there.arrays)
    run = run_of(tmp_path, replace(record, observations={"circuits": observation}))
    stack = run.masks(0)
    assert stack is not None
    assert stack.sites == (Site("conv", 16, 1, "conv"), Site("fc", 5, 1, "fc"))


def test_weights_that_are_not_kept_are_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path, a_round(0), storage=Storage("none"))
    with pytest.raises(RunError, match=r"keeps no client weights: its storage\.updates is none"):
        run.client_weights(0, "0")
    with pytest.raises(RunError, match="client '7' has no part in round 0; clients: 0, 1"):
        run.client_weights(0, "7")
    with pytest.raises(RunError, match="no round 5; it has rounds 0 to 0"):
        run.weights(5)


def test_differences_are_read_as_weights(tmp_path: Path) -> None:
    sent = {"w": np.linspace(0, 1, 900, dtype=np.float32)}
    client = ClientRecord("a/b", 3, {"w": sent["w"] + np.float32(0.25)})
    run = run_of(
        tmp_path, RoundRecord(0, sent), RoundRecord(1, sent, (client,)),
        storage=Storage("delta-fp16"),
    )  # fmt: skip
    stored = run.client_weights(1, "a/b")["w"]
    np.testing.assert_array_equal(stored, client.weights["w"])  # 1/4 is exact in half precision


def test_metrics_never_take_the_place_of_our_columns(tmp_path: Path) -> None:
    said = {"round": 99, "client": 7, "num_examples": 8, "metrics.round": 5, "recall": [0.5, NAN]}
    run = run_of(
        tmp_path,
        RoundRecord(0, {}),
        RoundRecord(1, {}, (ClientRecord("a", 3, {}, said),), metrics={"round": 98}),
    )
    frame = run.clients
    assert frame[["round", "client", "num_examples"]].to_numpy().tolist() == [[1, "a", 3]]
    assert frame["metrics.round"].tolist() == [5]  # the client's own name stays
    assert frame["metrics.metrics.round"].tolist() == [99]
    assert frame["metrics.client"].tolist() == [7]
    assert frame["metrics.num_examples"].tolist() == [8]
    np.testing.assert_array_equal(frame["recall"][0], [0.5, NAN])
    assert run.metrics.to_dict("list") == {"round": [1], "metrics.round": [98]}


def test_numbers_of_rounds_clients_and_stages_are_frames(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        RoundRecord(0, {}, seconds={"record": 9.0}),
        RoundRecord(
            1,
            {},
            clients=(
                ClientRecord("0", 5, {}, {"loss": NAN}),
                ClientRecord("1", 6, {}, {"accuracy": 0.5}),
            ),
            metrics={"loss": 0.5, "best": float("-inf")},
            failures=(Failure("2", "shape", "too small"),),
            observer_errors={"eye": "ValueError: x"},
            seconds={"train": 1.5, "observe:eye": 0.5},
        ),
        RoundRecord(2, {}, metrics={"loss": NAN}),
    )
    assert run.metrics["round"].tolist() == [1, 2]
    np.testing.assert_array_equal(run.metrics["loss"], [0.5, NAN])
    np.testing.assert_array_equal(run.metrics["best"], [-np.inf, NAN])
    np.testing.assert_array_equal(run.seconds["observe:eye"], [0.5, NAN])
    assert run.failures.to_dict("list") == {
        "round": [1], "client": ["2"], "kind": ["shape"], "reason": ["too small"],
    }  # fmt: skip
    assert run.observer_errors.to_dict("list") == {
        "round": [1], "observer": ["eye"], "error": ["ValueError: x"],
    }  # fmt: skip
    with pytest.raises(UnknownTableError, match=r"observers eye failed: see run.observer_errors"):
        run.table("validity")
    assert run.clients["num_examples"].tolist() == [5, 6]
    np.testing.assert_array_equal(run.clients["accuracy"], [NAN, 0.5])


def test_what_is_kept_beside_the_rounds_is_read(tmp_path: Path) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        store.append(a_round(0))
        store.append(a_round(1))
        store.add_evaluation(1, {"loss": 0.5})
        store.add_evaluation(0, {"loss": 0.75})
        store.add_evaluation(1, {"accuracy": 0.25})
        store.add_evidence(a_round(2), "singular")
        store.write_partition({"kind": "iid"})
        run = Run.load(store.path)
    assert run.evaluations["round"].tolist() == [0, 1]
    np.testing.assert_array_equal(run.evaluations["accuracy"], [NAN, 0.25])
    assert run.evidence[["round", "error"]].to_numpy().tolist() == [[2, "singular"]]
    assert run.partition == {"kind": "iid"}


def test_a_run_is_read_while_it_is_written_and_stays_as_loaded(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    store.append(a_round(0))
    store.append(a_round(1))
    run = Run.load(store.path)
    store.append(a_round(2))
    store.add_evaluation(2, {"loss": 0.5})
    with (store.path / "rounds.jsonl").open("ab") as lines:
        lines.write(b'{"round":3,"metrics":{"lo')  # a line in the making
    before = files_of(store.path)
    assert run.rounds == (1,)
    assert (
        run.metrics["round"].tolist() == run.table("overlap")["round"].unique()[1:].tolist() == [1]
    )
    assert len(run.evaluations) == 0
    assert run.refresh().rounds == (1, 2)
    assert len(run.refresh().evaluations) == 1
    assert files_of(store.path) == before
    store.append(a_round(3))
    assert run.refresh().rounds == (1, 2, 3)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder: it has no manifest\.json"):
        Run.load(tmp_path)


def test_a_line_changed_by_hand_is_named(tmp_path: Path) -> None:
    path = run_of(tmp_path, a_round(0), a_round(1), a_round(2)).path
    lines = (path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (path / "rounds.jsonl").write_bytes(lines[0] + b'{"round":1,"metr\n' + lines[2])
    with pytest.raises(RunError, match=r"rounds\.jsonl, line 2 \(round 1\) is damaged"):
        Run.load(path).metrics.head()


def test_a_notebook_shows_the_run_with_its_names_escaped(tmp_path: Path) -> None:
    run = run_of(tmp_path, a_round(0), a_round(1))
    shown = run._repr_html_()
    assert "&lt;b&gt;run&lt;/b&gt;" in shown
    assert "<b>run" not in shown
    assert "sites, models, overlap" in shown
    assert "0.1" in shown  # the accuracy of round 1
    assert repr(run) == f"Run({str(run.path)!r}, 1 rounds)"


def test_the_files_of_a_run_need_nothing_but_json_and_safetensors(tmp_path: Path) -> None:
    run = run_of(tmp_path, a_round(0), a_round(1))
    line = json.loads((run.path / "rounds.jsonl").read_text().splitlines()[1])
    cells = line["observations"]["circuits"]["overlap"]["cells"]
    frame = run.table("overlap")
    assert cells["iou"] == frame["iou"][frame["round"] == 1].tolist()
