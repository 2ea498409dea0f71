"""What is noted of a round while it runs belongs to that round alone."""

from __future__ import annotations

from pathlib import Path

from toy_federation import initial_weights

from fedcircuit.records.rounds import Failure
from fedcircuit.records.runs import RunStore
from fedcircuit.strategies.recording import RoundRecorder


def test_notes_are_recorded_in_their_order_with_their_round_and_no_other(tmp_path: Path) -> None:
    weights = initial_weights()
    notes = [Failure("3", "guard", "it broke"), Failure("global", "rule", "cannot be used")]
    with RunStore.create(tmp_path / "run", {}) as store:
        recorder = RoundRecorder(store)
        for number in (1, 2):
            recorder.expect(number)
            recorder.begin(weights, {})
            for note in notes if number == 1 else []:
                recorder.note(note)
            recorder.finish(weights, {}, {})
        assert [store.read(number).failures for number in (1, 2)] == [tuple(notes), ()]
