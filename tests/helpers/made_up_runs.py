"""Runs made up for the report, written by the real store: a story whose answers are known.

Three clients and four classes unless asked otherwise. Client 0's class 1 is preserved in round 1
and collapsed from round 2 on; client 1's class 1 has collapsed since round 1; the pair (2, 3) is
not learned, (2, 2) undiscovered; all others are preserved, but client 1's class 0 is degraded in
the last round. Circuits are random with a planted overlap (`made_up_overlaps`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
from made_up_overlaps import SITES, UNITS, overlap_tables
from numpy.typing import NDArray

from fedcircuit.records.rounds.manifest import build_manifest
from fedcircuit.records.rounds.round_record import (
    GLOBAL,
    Cell,
    ClientRecord,
    Failure,
    Observation,
    RoundRecord,
    Table,
)
from fedcircuit.records.runs.run import Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.report.tables.words import VERDICT_NAMES

NAMES = ("zebra", "</script>", "öde <b>", "cat & dog")  # as bad as class names can be


@dataclass(frozen=True)
class Story:
    """How large the made-up run is, and what it lacks."""

    rounds: int = 4
    clients: int = 3
    classes: int = 4
    seed: int = 0
    name: str = "made-up"
    alpha: float = 0.1
    circuits: bool = True
    accuracy: bool = True
    failures: bool = True
    every: int = 1
    probe: bool = True
    none_valid: bool = False
    measured_from: int = 1  # rounds before it have no q-values, no scores, no other classes
    ceiling: bool = False
    quality: float = 0.0  # added to every accuracy

    def word(self, client: int, index: int, number: int) -> str:
        """Verdict, or status where there is none."""
        if self.none_valid or (client, index) == (2, 3):
            return "not_learned"
        if (client, index) == (2, 2):
            return "undiscovered"
        if (client, index) == (0, 1):
            return "collapsed" if number >= 2 else "preserved"
        if (client, index) == (1, 1):
            return "collapsed"
        return "degraded" if (client, index, number) == (1, 0, self.rounds) else "preserved"

    def status(self, client: int, index: int, number: int) -> str:
        """Status of the client's circuit."""
        word = self.word(client, index, number)
        return "valid" if word in VERDICT_NAMES else word

    def class_names(self) -> tuple[str, ...]:
        """Bad names first, then numbers."""
        return (*NAMES, *(f"class-{i}" for i in range(4, self.classes)))[: self.classes]

    def global_accuracy(self, number: int) -> float:
        """Rises by 0.01 a round from 0.21."""
        return 0.2 + 0.01 * number + self.quality


def make_run(path: Path, story: Story | None = None) -> Run:
    """Write the run of a story and load it."""
    story = story or Story()
    config = {"seed": story.seed, "partition": {"kind": "dirichlet", "alpha": story.alpha}}
    manifest = build_manifest(
        story.name,
        config,
        seed=story.seed,
        class_names=story.class_names(),
        thresholds={"verdict": {"works": 0.8}},
    )
    with RunStore.create(path, manifest) as store:
        store.append(RoundRecord(0, _weights()))
        counts = [[10 * (i + j) for j in range(story.classes)] for i in range(story.clients)]
        store.write_partition({"kind": "dirichlet", "notes": [], "counts": counts})
        for number in range(1, story.rounds + 1):
            store.append(_record(story, number))
    return Run.load(path)


def _weights() -> dict[str, NDArray[np.generic]]:
    return {"w": np.zeros(2, dtype=np.float32)}


def _record(story: Story, number: int) -> RoundRecord:
    observations = {}
    if story.circuits and number % story.every == 0:
        seen = _circuits(story, number)
        observations["circuits"] = seen if story.probe else without_probe(seen)
    if story.accuracy:
        observations["evaluation"] = Observation({"accuracy": _accuracy(story, number)})
    failed = story.failures and number == 2
    return RoundRecord(
        number,
        _weights(),
        clients=tuple(ClientRecord(str(i), 10, _weights()) for i in range(story.clients)),
        observations=observations,
        failures=(Failure("7", "lost", "no reply in <time>"),) if failed else (),
        observer_errors={"inertia": "ValueError: too <early>"} if failed else {},
        seconds={"train": 1.25, "aggregate": 0.5, "observe:circuits": 0.25},
    )


def _accuracy(story: Story, number: int) -> Table:
    rows: list[tuple[Cell, ...]] = [(GLOBAL, -1, story.global_accuracy(number), nan, 99, 1.0)]
    rows += [
        (GLOBAL, c, nan if c == 2 else (number + c) / 100, 0.1, 9, nan)
        for c in range(story.classes)
    ]
    return Table(("model", "class", "recall", "fpr", "n", "loss"), tuple(rows))


def planted_masks(story: Story, number: int) -> NDArray[np.bool_]:
    """``[models, classes, units]``, the global model first; clients keep 3/4 of its units."""
    rng = np.random.default_rng([story.seed, number])
    shape = (story.classes, UNITS)
    average = rng.random(shape) < 0.3
    average[:, [0, 8, 24]] = True  # a unit in every layer: no empty circuit
    masks = [average]
    for _ in range(story.clients):
        kept = np.where(rng.random(shape) < 0.75, average, rng.random(shape) < 0.3)
        kept[:, [0, 8, 24]] = True
        masks.append(kept)
    return np.stack(masks)


def _circuits(story: Story, number: int) -> Observation:
    masks = planted_masks(story, number)
    models = (GLOBAL, *(str(i) for i in range(story.clients)))
    live = np.ones((len(models), UNITS), dtype=np.bool_)
    found = np.ones(masks.shape[:2], dtype=np.bool_)
    clients, classes = range(story.clients), range(story.classes)
    pairs = [(i, c) for i in clients for c in classes]
    tables = {
        "sites": Table(("site", "n_units", "live"), tuple((s, n, n) for s, n in SITES)),
        "models": Table(("model",), tuple((m,) for m in models)),
        "validity": _validity(story, number, masks),
        "verdicts": Table(
            ("client", "class", "verdict", "reason"),
            tuple(_verdict(story, i, c, number) for i, c in pairs),
        ),
        **overlap_tables(masks, newer=number >= story.measured_from, ceiling=story.ceiling),
        "function": Table(
            ("client", "class", "direction", "recall", "fpr", "balanced_accuracy", "normalised"),
            tuple(
                (str(i), c, direction, 0.5, 0.1, least + (i + c + number) / 50, 0.5)
                for i, c in pairs
                for direction, least in (("local_in_global", 0.5), ("global_in_local", 0.2))
            ),
        ),
    }
    arrays = {"masks": np.packbits(masks, axis=-1), "found": found, "live": live}
    return Observation(tables, arrays)


def without_probe(seen: Observation) -> Observation:
    """What is left where circuits come from clients alone: no global model, no verdicts."""
    validity, models = seen.tables["validity"], seen.tables["models"]
    tables = {
        "sites": seen.tables["sites"],
        "models": Table(models.columns, models.rows[1:]),
        "validity": Table(validity.columns, tuple(r for r in validity.rows if r[0] != GLOBAL)),
        "unavailable": Table(("part", "reason"), (("verdicts", "needs samples on the server"),)),
        "skipped": Table(("client", "reason"), (("9", "the client sent no circuits"),)),
    }
    return Observation(tables, {name: array[1:] for name, array in seen.arrays.items()})


def _verdict(story: Story, client: int, index: int, number: int) -> tuple[Cell, ...]:
    word = story.word(client, index, number)
    verdict = word if word in VERDICT_NAMES else None
    return (str(client), index, verdict, f"because <of> {word}")


def _validity(story: Story, number: int, masks: NDArray[np.bool_]) -> Table:
    columns = ("model", "class", "status", "reason", "size", "full_recall", "balanced_accuracy")
    rows: list[tuple[Cell, ...]] = []
    for row in range(story.clients + 1):
        model = GLOBAL if row == 0 else str(row - 1)
        for c in range(story.classes):
            status = "valid" if row == 0 else story.status(row - 1, c, number)
            size = int(masks[row, c].sum())
            own = 0.8 + row / 100 if status == "valid" else nan
            rows.append((model, c, status, f"why {status}", size, 0.5 + row / 10, own))
    return Table(columns, tuple(rows))
