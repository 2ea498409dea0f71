"""Estimators of mutual information on Gaussians whose information is known, beside a reference.

Two tables in nats, printed as Markdown: x and y of D dimensions with independent coordinates of
correlation rho, and Kolchinsky-Tracey's bounds on Z = X + N(0, s2). Every cell is the mean over
seeds and, in brackets, the reference figure of an earlier run by other code (2,000 samples, one
seed). Then the largest differences. Estimators without training must reproduce the reference to
about three standard errors, or the script ends with status 1; critics depend on network and
training, so their differences are only shown.

    make validate-information
    python experiments/benchmarks/information_gaussians.py [--seeds 3] [--quick]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev

import numpy as np

from fedcircuit.analysis.estimators import (
    CriticSettings,
    Float64Array,
    InformationSettings,
    bin_codes,
    critic_information,
    entropy,
    kolchinsky_tracey_inputs,
    ksg_joint,
    ksg_pair,
)
from fedcircuit.learning import derived_seed, generator

SAMPLES = 2000
NATS = InformationSettings(unit="nats")
TRAINED = ("infonce", "mine", "smile")
COLUMNS = ("bin10", "bin30", "bin30 plug-in", "KSG sum", "KSG joint", *TRAINED)
NAN = math.nan
PAIRS: Mapping[tuple[int, float], tuple[float, ...]] = {
    (1, 0.0): (0.00, 0.06, 0.24, 0.00, -0.01, -0.01, -0.01, -0.01),
    (1, 0.5): (0.130, 0.190, NAN, 0.152, 0.152, 0.131, 0.131, 0.131),
    (1, 0.9): (0.697, 0.819, NAN, 0.786, 0.787, 0.816, 0.820, 0.819),
    (1, 0.99): (1.518, 1.845, NAN, 1.969, 1.969, 1.914, 1.922, 1.909),
    (5, 0.5): (8.06, 8.10, NAN, 0.694, 0.546, 0.336, 0.465, 0.433),
    (5, 0.9): (8.07, 8.10, NAN, 4.343, 2.950, 3.858, 3.983, 4.316),
    (20, 0.5): (8.10, 8.10, NAN, 3.037, 0.661, 1.252, 2.097, 1.426),
    (20, 0.9): (8.10, 8.10, NAN, 16.764, 3.041, 6.202, 9.565, 11.148),
}
BOUNDS: Mapping[tuple[int, float], tuple[float, float]] = {
    (1, 0.1): (0.986, 1.654),
    (5, 1.0): (1.063, 2.980),
    (20, 0.1): (7.601, 7.601),
    (20, 1.0): (4.174, 7.569),
}


@dataclass(frozen=True)
class Row:
    """One line of a table: what it is about, the truth, means and spreads, reference figures."""

    name: str
    truth: float
    tolerance: float
    found: tuple[tuple[float, ...], ...]  # [columns][seeds]
    reference: tuple[float, ...]

    def line(self) -> str:
        """The line in Markdown."""
        cells = [cell(values, old) for values, old in zip(self.found, self.reference, strict=True)]
        return f"| {self.name} | {self.truth:.3f} | " + " | ".join(cells) + " |"

    def differences(self) -> list[float]:
        """Mean less reference of every column; NaN where there is none."""
        return [mean(values) - old for values, old in zip(self.found, self.reference, strict=True)]


def cell(values: Sequence[float], reference: float) -> str:
    """Mean, spread over seeds, reference."""
    text = f"{mean(values):.3f}"
    if len(values) > 1:
        text += f" ± {stdev(values):.3f}"
    return text if math.isnan(reference) else f"{text} ({reference:g})"


def gaussians(d: int, rho: float, seed: int) -> tuple[Float64Array, Float64Array]:
    """x and y ``[n, d]``, standard normal, coordinate by coordinate of correlation rho."""
    rng = np.random.default_rng(derived_seed(seed, "pairs", d))
    x = rng.standard_normal((SAMPLES, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((SAMPLES, d))


def binned(x: Float64Array, y: Float64Array, bins: int, *, miller_madow: bool) -> float:
    """H(x) + H(y) - H(x, y) of equal-count codes, not clipped, as the reference has it."""
    settings = InformationSettings(bins=bins)
    codes = [bin_codes(values, settings, "binned-count") for values in (x, y)]
    counts = [
        np.unique(rows, axis=0, return_counts=True)[1].astype(np.int64)
        for rows in (*codes, np.concatenate(codes, axis=1))
    ]
    first, second, both = (entropy(count, miller_madow=miller_madow) for count in counts)
    return first + second - both


def estimates(d: int, rho: float, seed: int, critic: CriticSettings) -> list[float]:
    """Every column of the first table for one seed, in nats."""
    x, y = gaussians(d, rho, seed)
    settings = replace(NATS, critic=critic)
    return [
        binned(x, y, 10, miller_madow=True),
        binned(x, y, 30, miller_madow=True),
        binned(x, y, 30, miller_madow=False),
        sum(ksg_pair(x[:, j], y[:, j], NATS, seed=seed).value for j in range(d)),
        ksg_joint(x, y, NATS).value,
        *(
            critic_information(
                x, y, settings, method=method, generator=generator(seed, method)
            ).value
            for method in TRAINED
        ),
    ]


def pair_row(d: int, rho: float, seeds: int, critic: CriticSettings) -> Row:
    """A line of the first table."""
    found = [estimates(d, rho, seed, critic) for seed in range(seeds)]
    truth = d / 2 * math.log(1 / (1 - rho**2))
    # a dimension's standard error is about 1.5 / sqrt(n), in the reference's one seed too
    tolerance = max(0.15, 5 * math.sqrt(d / SAMPLES))
    by_column = tuple(zip(*found, strict=True))
    return Row(f"{d}, {rho:g}", truth, tolerance, by_column, PAIRS[d, rho])


def bound_row(d: int, variance: float, seeds: int) -> Row:
    """A line of the second table."""
    settings = replace(NATS, noise_variance=variance)
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(derived_seed(seed, "bounds", d))
        both = kolchinsky_tracey_inputs(rng.standard_normal((SAMPLES, d)), settings)
        found.append([estimate.value for estimate in both])
    truth = d / 2 * math.log(1 + 1 / variance)
    by_column = tuple(zip(*found, strict=True))
    return Row(f"{d}, {variance:g}", truth, 0.1, by_column, BOUNDS[d, variance])


def table(head: str, columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The table in Markdown, and one line of largest differences."""
    lines = [f"| {head} | truth | " + " | ".join(columns) + " |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    lines += [row.line() for row in rows]
    largest = []
    for j, column in enumerate(columns):
        by_row = [(abs(row.differences()[j]), row.name) for row in rows]
        size, name = max(found for found in by_row if not math.isnan(found[0]))
        largest.append(f"{column} {size:.3f} (at {name})")
    return [*lines, "", "Largest differences from the reference: " + ", ".join(largest) + "."]


def misses(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Columns without training that are not where the reference is."""
    return [
        f"{column} at {row.name}: {difference:+.3f}, allowed is {row.tolerance:.3f}"
        for row in rows
        for column, difference in zip(columns, row.differences(), strict=True)
        if column not in TRAINED and abs(difference) > row.tolerance
    ]


def main() -> int:
    """Print both tables; 1 where the reference is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, 150 steps of the critics")
    args = parser.parse_args()
    seeds = 1 if args.quick else args.seeds
    critic = CriticSettings(steps=150) if args.quick else CriticSettings()
    start = time.perf_counter()
    pairs = [pair_row(d, rho, seeds, critic) for d, rho in PAIRS]
    bounds = [bound_row(d, variance, seeds) for d, variance in BOUNDS]
    names = ("lower", "upper")
    print(
        f"{SAMPLES} samples, nats, seeds 0 to {seeds - 1}; log {SAMPLES} = {math.log(SAMPLES):.3f}."
    )
    print("In brackets the reference.\n")
    print("\n".join(table("D, rho", COLUMNS, pairs)), end="\n\n")
    print("Kolchinsky-Tracey, Z = X + N(0, s2):\n")
    print("\n".join(table("D, s2", names, bounds)), end="\n\n")
    missed = misses(COLUMNS, pairs) + misses(names, bounds)
    print("Not reproduced: " + "; ".join(missed) if missed else "All reproduced within tolerance.")
    print(f"{time.perf_counter() - start:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
