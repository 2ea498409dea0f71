"""Many rounds with many clients in one process: memory, bytes on disk and seconds a round.

    python experiments/reliability/endurance.py [--rounds 200] [--clients 50] [--out FOLDER]

Digits, a small network with circuits in every round. A slope is that of a straight line through
the rounds after the first tenth, with the 95 % interval of ordinary least squares. Memory is told
twice: what is in use (asked for and not given back), and what is resident, of which the allocator
keeps some for later. Exit code 1 if memory in use grows: the interval lies above 0.02 MiB a round
(resident memory, and 0.1, where the system cannot tell what is in use); or if seconds a round grow
by more than a fifth from the first half to the second (medians), or a round is not recorded.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress, t

from fedcircuit import Run
from fedcircuit.app.config import parse_study
from fedcircuit.app.study import run_study
from fedcircuit.records.rounds import RoundRecord

GROWTH = 0.02  # MiB a round in use
GROWTH_RESIDENT = 0.1
SLOWING = 1.2


def main() -> int:
    """Run, measure, and say whether anything grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--out", type=Path, help="new run folder; left out: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endurance-") as temporary:
        path = arguments.out or Path(temporary) / "run"
        memory, marks = federate(path, arguments.rounds, arguments.clients)
        n_recorded = len(Run.load(path).rounds)
        sizes = np.array([size_of(path, number) for number in range(1, n_recorded + 1)])
    return judge(memory, np.diff(marks), sizes, arguments.rounds)


def federate(path: Path, rounds: int, clients: int) -> tuple[NDArray[np.float64], list[float]]:
    """Memory in MiB after every round, resident and in use ``[rounds, 2]``, and the clock.

    The clock is that before the first round and after every one.
    """
    study = {
        "name": "endurance",
        "partition": {"kind": "iid", "clients": clients},
        "model": {"name": "mlp", "widths": [64, 32]},
        "training": {"rounds": rounds, "epochs": 1, "sparsity": {"target": 0.9}},
        "circuits": {"controls": 6},
    }
    memory: list[tuple[float, float]] = []
    marks: list[float] = []

    def note(record: RoundRecord) -> None:
        marks.append(time.perf_counter())
        if record.round > 0:
            memory.append((resident(), in_use()))

    run_study(parse_study(study, where="endurance.py"), path, on_round=note)
    return np.array(memory), marks


def resident() -> float:
    """Memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class _Mallinfo2(ctypes.Structure):
    _fields_ = [  # as ctypes wants it
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def in_use() -> float:
    """Memory in MiB that was asked for and not given back; NaN without glibc 2.33 or newer.

    What is resident beyond it is kept by the allocator for later.
    """
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return float("nan")
    ask.restype = _Mallinfo2
    info = ask()
    return float(info.uordblks + info.hblkhd) / 2**20


def size_of(path: Path, number: int) -> int:
    """Bytes of a round: its arrays, and its share of the lines."""
    lines = (path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    return (path / "rounds" / f"{number:04d}.safetensors").stat().st_size + len(lines[number])


def slope(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Slope a round after the first tenth of them, and its 95 % interval."""
    kept = values[len(values) // 10 :]
    line = linregress(np.arange(len(kept)), kept)
    half = float(line.stderr * t.ppf(0.975, len(kept) - 2))
    return float(line.slope), float(line.slope) - half, float(line.slope) + half


def judge(
    memory: NDArray[np.float64],
    seconds: NDArray[np.float64],
    sizes: NDArray[np.int64],
    rounds: int,
) -> int:
    """Print the figures; 1 where something grows or is missing."""
    half = len(seconds) // 2
    early, late = (float(np.median(part)) for part in (seconds[:half], seconds[half:]))
    grow, low_size, high_size = slope(sizes.astype(np.float64))
    print(f"rounds recorded: {len(sizes)} of {rounds}")
    growing = []
    for what, values, limit in (
        ("resident", memory[:, 0], GROWTH_RESIDENT), ("in use", memory[:, 1], GROWTH),
    ):  # fmt: skip
        centre, low, high = slope(values)
        growing.append(low > limit)
        print(f"memory {what}: {values[0]:.1f} MiB after round 1, {values[-1]:.1f} after the last; "
              f"slope {centre:+.4f} MiB a round ({low:+.4f} to {high:+.4f})")  # fmt: skip
    grows = growing[0] if np.isnan(memory[:, 1]).any() else growing[1]
    print(f"seconds a round: {early:.2f} in the first half, {late:.2f} in the second (medians)")
    print(f"bytes a round: {np.median(sizes):,.0f} (median); slope {grow:+.0f} "
          f"({low_size:+.0f} to {high_size:+.0f})")  # fmt: skip
    bad = grows or late > SLOWING * early or len(sizes) != rounds
    print("grows" if bad else "flat")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
