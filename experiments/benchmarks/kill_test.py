"""Kill a process that records rounds, at random moments, and count what is lost.

    python experiments/benchmarks/kill_test.py --kills 200

A child process appends rounds (global weights, three clients, tables, strategy state) and reports
each through a pipe once ``append`` has returned. The parent sends SIGKILL at a random moment, opens
the run again, compares every round bit for bit with what was appended, and appends the next one.
The last line says how many complete rounds were lost; the exit code is 1 if it is not 0.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcircuit.records.rounds import ClientRecord, Observation, RoundRecord, Table
from fedcircuit.records.runs import RunStore


@dataclass
class Tally:
    """What came of the kills."""

    kills: int = 0
    reported: int = 0  # rounds whose append had returned
    lost: int = 0  # of those, not readable or not identical
    unreported: int = 0  # complete on disk, killed before the report
    torn_lines: int = 0  # killed while a line was written
    incomplete: int = 0  # killed between arrays and line, or while arrays were written
    resumed: int = 0  # runs that took the next round afterwards


def example(number: int) -> RoundRecord:
    """Round ``number``; the same on every call."""
    rng = np.random.default_rng(number)

    def weights(share: float) -> dict[str, np.ndarray]:
        kernel = rng.standard_normal((64, 32, 3, 3)).astype(np.float32)
        kernel[rng.random(kernel.shape) >= share] = 0
        return {"weight": kernel, "steps": np.array(number, dtype=np.int64)}

    rows = tuple((str(i % 3), i, round(float(rng.random()), 6)) for i in range(600))
    return RoundRecord(
        round=number,
        weights=weights(0.5),
        clients=tuple(ClientRecord(str(i), 10 + i, weights(0.05)) for i in range(3)),
        observations={"circuits": Observation({"overlap": Table(("client", "n", "iou"), rows)})},
        state={"momentum": rng.standard_normal(1000)},
    )


def identical(first: RoundRecord, second: RoundRecord) -> bool:
    """Equality bit for bit of what :func:`example` fills in."""
    return (
        first.round == second.round
        and _bits(first) == _bits(second)
        and first.observations["circuits"].tables == second.observations["circuits"].tables
    )


def _bits(record: RoundRecord) -> list[tuple[str, str, bytes]]:
    groups = {"": record.weights, "state": record.state}
    groups |= {client.client: client.weights for client in record.clients}
    return [
        (group, f"{name} {values.dtype} {values.shape}", values.tobytes())
        for group, arrays in groups.items()
        for name, values in arrays.items()
    ]


def append_until_killed(path: Path, report: int) -> None:
    """What the child does: it never returns."""
    store = RunStore.open(path)
    while True:
        number = len(store.rounds())
        store.append(example(number))
        os.write(report, b"%d\n" % number)


def kill_once(path: Path, wait: float, tally: Tally) -> None:
    """Start a child on a run, kill it ``wait`` seconds after its first sign of life, look."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():  # Python 3.12 warns of threads; the child starts none
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            append_until_killed(path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        reported = [int(line) for line in pipe.read().split()]
    tally.kills += 1
    tally.reported += len(reported)
    leftovers = list((path / "rounds").glob(".*.tmp"))
    torn = len(list(path.glob("rounds.jsonl.torn-*")))
    with RunStore.open(path) as store:
        rounds = store.rounds()
        tally.torn_lines += len(list(path.glob("rounds.jsonl.torn-*"))) - torn
        next_arrays = path / "rounds" / f"{len(rounds):04d}.safetensors"
        tally.incomplete += bool(leftovers) or next_arrays.exists()
        whole = [number for number in rounds if identical(store.read(number), example(number))]
        tally.lost += len(set(reported) - set(whole)) + len(set(rounds) - set(whole))
        tally.unreported += bool(reported) and len(rounds) - 1 > max(reported)
        store.append(example(len(rounds)))
        tally.resumed += identical(store.read(len(rounds)), example(len(rounds)))


def kill_many(folder: Path, kills: int, seed: int, runs_of: int = 10) -> Tally:
    """Kill children at random moments; a new run after every ``runs_of`` kills."""
    tally, rng = Tally(), random.Random(seed)
    for number in range(kills):
        path = folder / f"run-{number // runs_of}"
        if number % runs_of == 0:
            RunStore.create(path, {"name": "kill"}).close()
        kill_once(path, rng.uniform(0.0, 0.12), tally)
    return tally


def main() -> int:
    """Kill, print the tally, and fail if a complete round was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_many(Path(folder), options.kills, options.seed)
    print(
        f"{tally.kills} kills, {tally.reported} rounds reported as recorded, "
        f"{tally.unreported} more complete but killed before the report; "
        f"{tally.incomplete} kills left an incomplete round, {tally.torn_lines} a torn line; "
        f"{tally.resumed} of {tally.kills} runs went on with the next round"
    )
    print(f"complete rounds lost: {tally.lost}")
    return int(tally.lost > 0 or tally.resumed < tally.kills)


if __name__ == "__main__":
    sys.exit(main())
