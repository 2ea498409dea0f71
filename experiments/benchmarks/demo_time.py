"""How long the demo and the start of other commands take, against another checkout.

Both run in turn, in new processes of this interpreter, with warm disk caches (the first run of each
is not counted), and whatever else the machine does hits both. With ``--study`` a study is run as
well: the same work by both. Prints medians, the smallest and the largest, and their ratio.

    git worktree add ../before 33cd353
    python experiments/benchmarks/demo_time.py --against ../before --repeats 5
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

HERE = Path(__file__).parents[2]
LIMIT = 0.4  # of the time before that the demo may take
CALL = (
    "import sys; sys.path.insert(0, sys.argv.pop(1))\nfrom fedcircuit.app.cli import main; main()"
)


def seconds(checkout: Path, arguments: Sequence[str], cwd: Path) -> tuple[float, float]:
    """Wall and processor seconds of a command of a checkout, from the process's start to its end.

    Raises
    ------
    RuntimeError
        If the command fails.
    """
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", CALL, str(checkout), *arguments]
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(arguments)} of {checkout} failed: {ran.stderr[-2000:]}")
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measured(
    checkouts: Sequence[Path], arguments: Sequence[str], repeats: int, cwd: Path
) -> list[list[tuple[float, float]]]:
    """Wall and processor seconds of each checkout, in turn; ``{}`` becomes a new folder's name."""
    found: list[list[tuple[float, float]]] = [[] for _ in checkouts]
    for number in range(-1, repeats):
        for which, checkout in enumerate(checkouts):
            name = f"out-{time.monotonic_ns()}"
            took = seconds(checkout, [part.replace("{}", name) for part in arguments], cwd)
            if number >= 0:
                found[which].append(took)
    return found


def told(what: str, found: list[list[tuple[float, float]]]) -> float:
    """Print a line for wall and one for processor seconds; the ratio of the wall medians."""
    ratios = []
    for index, kind in enumerate(("wall", "processor")):
        sides = [[took[index] for took in side] for side in found]
        texts = [f"{median(side):6.2f} ({min(side):.2f} to {max(side):.2f})" for side in sides]
        ratios.append(median(sides[0]) / median(sides[-1]))
        tail = f"  before {texts[1]}  ratio {ratios[-1]:.3f}" if len(found) > 1 else ""
        print(f"{what:<8} {kind:<9} now {texts[0]}{tail}", flush=True)
    return ratios[0]


def main() -> int:
    """Measure and print; 1 where the demo takes more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="folder of another checkout")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--study", type=Path, help="a study both shall run beside the demo")
    args = parser.parse_args()
    checkouts = [HERE] if args.against is None else [HERE, args.against.resolve()]
    with tempfile.TemporaryDirectory() as folder:
        cwd = Path(folder)
        ratio = told("demo", measured(checkouts, ["demo", "--out", "{}"], args.repeats, cwd))
        if args.study is not None:
            command = ["run", str(args.study.resolve()), "--out", "{}"]
            told("study", measured(checkouts, command, args.repeats, cwd))
        seconds(checkouts[-1], ["demo", "--out", "run"], cwd)
        told("report", measured(checkouts, ["report", "run"], args.repeats, cwd))
        told("--help", measured(checkouts, ["--help"], args.repeats, cwd))
    if args.against is None:
        return 0
    print(f"the demo takes {ratio:.3f} of the time before; limit {LIMIT}")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
