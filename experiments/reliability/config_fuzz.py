"""Studies spoilt on purpose: each is refused in a few short lines, or runs; never a traceback.

    python experiments/reliability/config_fuzz.py [--tries 600] [--seed 0]

Every try spoils a good study (values, keys, nesting, lengths, bytes of the file, --set options) and
asks the real command line for its partition, or, where strategy.options were spoilt, to run it.
Exit code 1 if one ends in a traceback, or in a message of more than 1,000 characters.
"""

from __future__ import annotations

import argparse
import copy
import io
import random
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from fedcircuit.app.commands import cli

MOST = 1_000
GOOD: dict[str, Any] = {
    "name": "fuzz",
    "seed": 1,
    "partition": {"kind": "dirichlet", "clients": 3, "alpha": 1.0},
    "model": {"name": "mlp", "widths": [8]},
    "training": {"rounds": 1, "epochs": 1, "lr": 0.1, "sparsity": {"target": 0.5}},
    "strategy": {"name": "fedavg", "options": {}},
    "circuits": {"enabled": False},
}
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 10**30, 10**4000, 1e308, float("nan"), float("inf"), -0.0, "",
    "x" * 900_000, "\x00", "\U0001f600", "mlp", [], [[[]]], list(range(100_000)), {},
    {"a": {"b": 1}}, {"x" * 100_000: 1}, ["iid"], "2026-11-27", 3.5, b"bytes", {1: 2}, {True: 0},
)  # fmt: skip
TEXTS: tuple[bytes, ...] = (
    b"", b"[1, 2]", b"7", b"a: b: c", b"\ta: 1", b"\xff\xfe\x00", b"a: 1\na: 2\n", b"{" * 20_000,
    b"[" * 20_000 + b"]" * 20_000, b"? [1, 2]\n: 3\n", b"!!python/object:os.system x", b"*a",
    b"%YAML 9\n---\n", b"a: &a [1]\nb: &b [*a, *a]\nname: [*b, *b, *b]", b"name: x\n---\nname: y\n",
    b"a: " + b"9" * 10_000, b"<<: 3\n", b"\x00" * 100, b"name: !!binary x", b"x: 0o9\ny: 1_0__",
    b"k" * 2_000_000, b"seed: 2026-13-45\n", b"name: !!timestamp x\n", b"a: &a {b: *a}\n",
)  # fmt: skip
SETS = (
    "", "=", "a", "a=", ".=1", "a..b=1", "training=", "training.rounds.x=1", "name.y=2", "seed=[",
    "training.rounds=1e3", ".".join("a" * 5_000) + "=1", "x" * 100_000 + "=1",
    "seed=" + "9" * 9_000, "model.widths=" + "[" * 3_000, "strategy.options.beta=x",
    "circuits.enabled=maybe",
)  # fmt: skip
KEYS = ("roundz", "Seed", "x" * 10_000, "a.b", "", 3, None)
OPTIONS = (
    "eta", "etta", "beta", "min_train_nodes", "fraction_train", "q", "train_metrics_aggr_fn",
    "num_malicious_nodes", "x" * 1_000,
)  # fmt: skip


def main() -> int:
    """Spoil, ask, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tally = fuzz(arguments.tries, arguments.seed)
    for outcome, count in sorted(tally.items()):
        print(f"{count:5}  {outcome}")
    return int(any(outcome.startswith("BAD") for outcome in tally))


def fuzz(tries: int, seed: int) -> Counter[str]:
    """How many tries ended in which way."""
    rng, tally = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number in range(tries):
            outcome, said = called(spoilt(Path(folder), rng))
            tally[outcome] += 1
            if outcome.startswith("BAD"):
                print(f"try {number}: {outcome}: {said[-300:]!r}", flush=True)
    return tally


def spoilt(folder: Path, rng: random.Random) -> list[str]:
    """A command with a spoilt study or option."""
    path, study = folder / "study.yaml", copy.deepcopy(GOOD)
    command, more = "partition", []
    kind = rng.choice(["value", "value", "bytes", "key", "strategy", "text", "set"])
    if kind in ("value", "bytes"):
        holder, key = rng.choice(spots_of(study))
        holder[key] = rng.choice(VALUES)
    elif kind == "key":
        holder, _ = rng.choice([s for s in spots_of(study) if isinstance(s[0], dict)])
        holder[rng.choice(KEYS)] = rng.choice(VALUES)
    elif kind == "strategy":
        command, more = "run", ["--out", str(folder / f"run-{rng.random()}")]
        study["strategy"]["name"] = rng.choice(["fedavg", "fedadam", "krum", "fedtrimmedavg"])
        study["strategy"]["options"] = {rng.choice(OPTIONS): rng.choice(VALUES)}
    elif kind == "set":
        more = ["--set", rng.choice(SETS)]
    text = yaml.safe_dump(study, allow_unicode=True).encode()
    if kind == "text":
        text = rng.choice(TEXTS)
    elif kind == "bytes":
        some = bytearray(text[:100_000])
        some[rng.randrange(len(some))] = rng.randrange(256)
        text = bytes(some)
    path.write_bytes(text)
    return [command, str(path), *more]


def spots_of(one: Any) -> list[tuple[Any, Any]]:
    """Every place in nested values, as holder and key."""
    found: list[tuple[Any, Any]] = []
    items = one.items() if isinstance(one, dict) else enumerate(one)
    for key, value in items:
        found.append((one, key))
        if isinstance(value, (dict, list)):
            found += spots_of(value)
    return found


def called(command: list[str]) -> tuple[str, str]:
    """How the real command line ended, and what it said."""
    output = io.StringIO()
    sys.argv = ["fedcircuit", *command]
    try:
        with redirect_stdout(output), redirect_stderr(output):
            cli.main()
    except SystemExit as end:
        said = output.getvalue()
        if not end.code:
            return "accepted", said
        return ("BAD long message" if len(said) > MOST else "refused in words"), said
    except BaseException as error:  # noqa: BLE001  # a traceback, for a person
        return f"BAD {type(error).__name__}", f"{error}"
    return "accepted", output.getvalue()


if __name__ == "__main__":
    sys.exit(main())
