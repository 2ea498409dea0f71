"""Faults done on purpose to a real deployment: processes killed, clients held, keys forged.

    python deployment_faults.py OUT [--tries 20] [--kinds node,straggler,...] [--shard 0/3]
                                [--nodes 3] [--rounds 3]
    python deployment_faults.py OUT --table

One deployment on the loopback address (SuperNodes, TLS, authentication, no data on the server)
serves all tries of a shard; shards run side by side, each with a deployment of its own.
Every try is a run of a few rounds with one fault at a random moment. It passes only if the run came
to its end by itself, all rounds are recorded, and every weight, circuit and table is, bit for bit,
what one process gives in which just those clients were lost that the record names. Tries done
already (lines of OUT/*.jsonl) are not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DEPLOYMENT = HERE.parent / "deployment"
sys.path.insert(0, str(DEPLOYMENT))

from check import free_ports  # noqa: E402
from forged import REFUSED, try_refusal  # noqa: E402
from layout import Deployment  # noqa: E402
from processes import FAULTS, memory  # noqa: E402
from reference import differences, run_in_process  # noqa: E402

from fedcircuit import Run  # noqa: E402

SECONDS_OF_A_ROUND = 15.0  # the moments of faults are spread over all rounds
ROUND_TIMEOUT = 45.0
LIMIT = 900.0  # for a try
KINDS = ("none", *FAULTS, *REFUSED)


@dataclass(frozen=True)
class Bench:
    """A deployment that is up, and what runs in one process gave."""

    deployment: Deployment
    folder: Path
    rounds: int

    def reference(self, lost: frozenset[tuple[int, str]]) -> Path:
        """An in-process run in which these replies, as (round, client), were lost."""
        name = "-".join(f"{number}.{client}" for number, client in sorted(lost)) or "undisturbed"
        path = self.folder / "references" / name
        if not (path / "report.html").exists():
            config = {
                "num-rounds": self.rounds, "run-dir": str(path), "evaluate": False,
                "min-nodes": self.deployment.n_nodes,
            }  # fmt: skip
            run_in_process(self.deployment, config, lost)
        return path


def main() -> int:
    """Do the tries that are left, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--shard", default="0/1", help="which part of the tries: 0/3, 1/3, 2/3")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    out: Path = arguments.out.absolute()
    if arguments.table:
        return table(out)
    shard, n_shards = map(int, arguments.shard.split("/"))
    wanted = [
        (kind, number)
        for number in range(arguments.tries)
        for kind in arguments.kinds.split(",")
        if number % n_shards == shard
    ]
    done = {(one["kind"], one["try"]) for one in results(out)}
    left = [one for one in wanted if one not in done]
    return work(out, left, arguments) if left else 0


def work(out: Path, left: list[tuple[str, int]], arguments: argparse.Namespace) -> int:
    """Start a deployment, do the tries, stop it."""
    shard, nodes, seed = arguments.shard.split("/")[0], arguments.nodes, arguments.seed
    folder = out / f"shard-{shard}-{time.strftime('%H%M%S')}"
    prepare = ["prepare", folder, "--nodes", str(nodes), "--port", str(free_ports(nodes + 1))]
    for command in (prepare, ["up", folder]):
        if command[0] == "up":
            subprocess.run([sys.executable, DEPLOYMENT / "example_data.py", folder], check=True)
        subprocess.run([sys.executable, DEPLOYMENT / "deploy.py", *command], check=True)
    bench = Bench(Deployment.load(folder), folder, arguments.rounds)
    failed = 0
    try:
        for kind, number in left:
            result = one_try(bench, kind, number, random.Random(f"{seed}:{kind}:{number}"))
            failed += not result["passed"]
            with (out / f"shard-{shard}.jsonl").open("a") as file:
                file.write(json.dumps({"kind": kind, "try": number, **result}) + "\n")
            print(kind, number, json.dumps(result)[:400], flush=True)
    finally:
        subprocess.run([sys.executable, DEPLOYMENT / "deploy.py", "stop", folder], check=True)
    return int(failed > 0)


def one_try(bench: Bench, kind: str, number: int, rng: random.Random) -> dict[str, object]:
    """One try: what came of it, ``passed`` among it."""
    begin = time.time()
    if kind in REFUSED:
        words, passed = try_refusal(kind, bench.deployment, number)
        return {"passed": passed, "words": words, "seconds": time.time() - begin}
    path = bench.folder / "runs" / f"{kind}-{number}"
    log = bench.folder / f"{kind}-{number}.log"
    config = {
        "num-rounds": bench.rounds, "run-dir": f"'{path}'", "evaluate": "false",
        "round-timeout": ROUND_TIMEOUT, "min-nodes": bench.deployment.n_nodes,
    }  # fmt: skip
    options = [f for key, value in config.items() for f in ("-c", f"{key}={value}")]
    command = [sys.executable, DEPLOYMENT / "deploy.py", "run", bench.deployment.folder, *options]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--attempts", "4"], stdout=file, stderr=file)
    moment = rng.uniform(0.0, SECONDS_OF_A_ROUND * bench.rounds)
    fault = FAULTS.get(kind)
    note = disturb(fault, process, path, moment, bench, rng) if fault is not None else "none"
    try:
        code: int | str = process.wait(LIMIT - (time.time() - begin))
    except subprocess.TimeoutExpired:
        process.kill()
        code = "over time"
    found = judged(bench, path, code)
    return {
        "passed": not found["wrong"], **found, "fault": note, "moment": round(moment, 1),
        "seconds": round(time.time() - begin, 1), "began": begin,
        "memory": memory(bench.deployment),
    }  # fmt: skip


def disturb(
    fault: Callable[[Deployment, random.Random], str],
    process: subprocess.Popen[bytes],
    path: Path,
    moment: float,
    bench: Bench,
    rng: random.Random,
) -> str:
    """Wait for the run to begin and the moment to come, then do it; what was done."""
    while not (path / "rounds.jsonl").exists() and process.poll() is None:
        time.sleep(0.1)
    end = time.monotonic() + moment
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
    if process.poll() is not None:
        return "the run was over"
    return fault(bench.deployment, rng)


def judged(bench: Bench, path: Path, code: int | str) -> dict[str, object]:
    """What is wrong with a run, and which replies were lost in it."""
    wrong = [] if code == 0 else [f"exit code {code}"]
    try:
        run = Run.load(path)
        lost = frozenset(
            (int(row["round"]), str(row["client"])) for _, row in run.failures.iterrows()
        )
        if run.rounds != tuple(range(1, bench.rounds + 1)):
            wrong.append(f"rounds {run.rounds}")
        else:
            wrong += differences(path, bench.reference(lost))
        if not (path / "report.html").exists():
            wrong.append("no report")
        seconds = run.seconds["train"].tolist()
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a run is a result
        return {"wrong": [*wrong, f"{type(error).__name__}: {error}"], "lost": [], "train": []}
    return {"wrong": wrong, "lost": sorted(lost), "train": [round(one, 1) for one in seconds]}


def results(out: Path) -> list[dict[str, object]]:
    """All tries done."""
    files = sorted(out.glob("shard-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def table(out: Path) -> int:
    """Print tries and passes by kind; 1 where one failed."""
    rows = results(out)
    print("| fault | tries | passed | with a client lost | median seconds |\n|---|---|---|---|---|")
    for kind in KINDS:
        mine = [one for one in rows if one["kind"] == kind]
        if mine:
            seconds = sorted(float(str(one["seconds"])) for one in mine)
            passed = sum(bool(one["passed"]) for one in mine)
            lost = sum(bool(one.get("lost")) for one in mine)
            print(
                f"| {kind} | {len(mine)} | {passed} | {lost} | {seconds[len(seconds) // 2]:.0f} |"
            )
    return int(not all(one["passed"] for one in rows))


if __name__ == "__main__":
    sys.exit(main())
