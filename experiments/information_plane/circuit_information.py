"""Is there more information in a circuit's units than in random units, verdict by verdict?

For every client and class of recorded runs: what the units of the client's circuit tell, in the
client's model and in the global model that came of it, about whether a sample is of the class;
against random units of equal number at every site, drawn among live ones. Samples are test samples
outside the probe, so no circuit was found on them. Values are means over client and class in every
run, then mean ± standard deviation over runs; "below" is the share of random sets with a lower
value, 0.5 by chance. Give one run for every seed, three or more.

    python experiments/information_plane/circuit_information.py RUN [RUN ...] [--data FOLDER]

Where circuits are large, units of all sites together tell a class whichever they are:
``--last-site`` looks at those next to the head alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from fedcircuit import Run
from fedcircuit.analysis.estimators import Float64Array, InformationSettings, Int64Array
from fedcircuit.analysis.information import (
    About,
    BoolArray,
    RandomUnits,
    circuit_information,
    masks_of,
    unit_values,
)
from fedcircuit.app.config import parse_study
from fedcircuit.app.study import build_study
from fedcircuit.circuits import CircuitStack
from fedcircuit.learning import Weights, derived_seed, generator, set_weights

NONE = "no valid circuit"
ORDER = ("preserved", "relocated", "degraded", "collapsed", NONE)
COLUMNS = ("client, circuit", "client, random", "client, below",
           "global, circuit", "global, random", "global, below")  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """A model to load weights into, and the labelled samples it is read on."""

    model: nn.Module
    inputs: torch.Tensor
    labels: Int64Array

    @classmethod
    def of(cls, run: Run, data: str | None, samples: int) -> Pool:
        """The model and test samples of a run's own configuration."""
        config = run.manifest["config"]
        if config is None:
            raise SystemExit(f"{run.path} was not recorded by 'fedcircuit run': no configuration")
        overrides = [] if data is None else [f"data.root={data}"]
        study = build_study(parse_study(config, overrides, where=f"the configuration of {run}"))
        order = torch.randperm(len(study.test), generator=generator(study.config.seed, "pool"))
        test = study.test.take(order[:samples])
        return cls(study.model(), test.inputs, test.labels.numpy())

    def values(self, weights: Weights, circuits: CircuitStack) -> Float64Array:
        """Values of all units under these weights, ``[n, units]``."""
        set_weights(self.model, weights)
        return unit_values(self.model, circuits.sites, self.inputs)


@dataclass(frozen=True)
class Asked:
    """What is measured: about what, in which sites' units, against how many random sets."""

    about: About
    last_site: bool
    sets: int


def measured(run: Run, number: int, pool: Pool, asked: Asked) -> pd.DataFrame:
    """A row for every client and class with a circuit: verdict, and information in both models."""
    circuits = run.masks(number)
    if circuits is None:
        raise SystemExit(f"{run.path} has no circuits in round {number}")
    live = run.observed(number, "circuits").get("live")
    average = pool.values(run.weights(number), circuits)
    verdicts = verdicts_of(run, number)
    rows = []
    for client in circuits.models[1:]:
        index = circuits.models.index(client)
        kept = circuits.masks[index].clone()
        if asked.last_site:
            kept[:, : -circuits.sites[-1].n_units] = False
        masks = masks_of(kept, circuits.found[index])
        own = pool.values(run.client_weights(number, client), circuits)
        seed = derived_seed(int(run.manifest["seed"]), "circuit-information", number, index)
        found = []
        for values, row in ((own, index), (average, 0)):
            among: BoolArray | None = None if live is None else live[row].astype(np.bool_)
            found.append(circuit_information(
                values, pool.labels, masks, circuits.sites, InformationSettings(folds=3),
                control=RandomUnits(asked.sets, among, seed), about=(asked.about,),
            ))  # fmt: skip
        for here, there in zip(*found, strict=True):
            if masks[here.class_index] is None:
                continue
            numbers = (here.value, here.random_mean, here.random_below,
                       there.value, there.random_mean, there.random_below)  # fmt: skip
            verdict = verdicts.get((client, here.class_index), NONE)
            rows.append({"verdict": verdict, "units": here.n_units,
                         **dict(zip(COLUMNS, numbers, strict=True))})  # fmt: skip
    return pd.DataFrame(rows, columns=["verdict", "units", *COLUMNS])


def verdicts_of(run: Run, number: int) -> dict[tuple[str, int], str]:
    """The verdicts of a round by client and class; those without one are left out."""
    table = run.table("verdicts")
    known = table[(table["round"] == number) & table["verdict"].notna()]
    return {
        (str(client), int(index)): str(verdict)
        for client, index, verdict in zip(
            known["client"], known["class"], known["verdict"], strict=True
        )
    }


def lines(pairs: pd.DataFrame) -> Iterator[str]:
    """The table in Markdown, from rows with the run they are of."""
    yield "| verdict | runs | pairs | units | " + " | ".join(COLUMNS) + " |"
    yield "|---|---|---|---|" + "---|" * len(COLUMNS)
    for verdict in ORDER:
        rows = pairs[pairs["verdict"] == verdict]
        if rows.empty:
            continue
        means = rows.groupby("run")[["units", *COLUMNS]].mean()
        cells = [f"{means[c].mean():.3f} ± {means[c].std():.3f}" for c in COLUMNS]
        yield (f"| {verdict} | {len(means)} | {len(rows)} | {means['units'].mean():.1f} | "
               + " | ".join(cells) + " |")  # fmt: skip


def main() -> None:
    """One table over all runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", help="folder of the data, where not the one in the run")
    parser.add_argument("--round", type=int, help="of every run; the last if not given")
    parser.add_argument("--samples", type=int, default=1000, help="test samples to read units on")
    parser.add_argument("--sets", type=int, default=20, help="random sets for every circuit")
    parser.add_argument("--about", choices=("class", "label"), default="class")
    parser.add_argument("--last-site", action="store_true", help="only units next to the head")
    args = parser.parse_args()
    asked = Asked(args.about, args.last_site, args.sets)
    torch.set_num_threads(1)
    frames = []
    for path in args.runs:
        run = Run.load(path)
        number = args.round or run.rounds[-1]
        pool = Pool.of(run, args.data, args.samples)
        frame = measured(run, number, pool, asked)
        shares = np.bincount(pool.labels) / len(pool.labels)
        print(
            f"{path}: round {number}, {len(frame)} circuits of clients, {len(pool.labels)} samples"
        )
        print(f"  shares of classes {shares.min():.3f} to {shares.max():.3f}")
        frames.append(frame.assign(run=str(path)))
    where = "the last site's units" if args.last_site else "units of all sites"
    print(f"\nInformation about the {args.about} in {where}, bits, held-out linear probe\n")
    print("\n".join(lines(pd.concat(frames))))


if __name__ == "__main__":
    main()
