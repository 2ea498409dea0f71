"""LIVAR's table derived anew: which importances deserve weight, judged on runs held out.

The paper (arXiv 2507.06813) read its table off Shapley values; the code that made it is not public.
Here it is fitted on proxy federations of which the loss of any merge can be had, and compared with
the published constants and with uniform weights on data sets that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcircuit.aggregation.layers.importance_table import (
    A_QUANTILES,
    B_QUANTILES,
    PUBLISHED,
    cells,
    shares_of,
    two_factors,
)

Floats = NDArray[np.float64]
STRENGTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.95)  # largest deviation from the base weight, as a share


@dataclass(frozen=True)
class ProxyRun:
    """A small federation after local training, of which any merge can be measured.

    Parameters
    ----------
    dataset
        Whole data sets are held out, by this name.
    a, b
        ``[clients, layers]``, path importance of both factors.
    loss
        The loss of the merge with weights ``[clients, layers]``, whose columns sum to 1.

    Raises
    ------
    ValueError
        If the importances are no two finite matrices of one shape, with two clients or more.
    """

    dataset: str
    a: Floats
    b: Floats
    loss: Callable[[Floats], float] = field(repr=False)

    def __post_init__(self) -> None:
        a, b = np.asarray(self.a, np.float64), np.asarray(self.b, np.float64)
        fits = a.shape == b.shape and a.ndim == 2 and a.size and len(a) > 1
        if not fits or not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError(
                f"importances of {self.dataset!r} must be finite, of one shape [clients, layers] "
                f"and of two clients or more, got {a.shape} and {b.shape}"
            )


@dataclass(frozen=True)
class HeldOut:
    """Mean losses on the runs of a data set by three tables, the fitted one made without it."""

    dataset: str
    fitted: float
    published: float
    uniform: float


@dataclass(frozen=True)
class ImportanceFit:
    """A table of raw weights, and what it is worth.

    Parameters
    ----------
    table
        ``[3, 3]`` for :func:`~.importance_table.two_factors`, mean 1; rows by b, columns by a.
    contributions
        ``[3, 3]``, mean ``phi_A + phi_B`` of the cell, in the units of the fitted effect (minus the
        change of the loss by a client's weight in a layer, divided by its spread within each run);
        0 for a cell into which no pair falls.
    strength
        Which of ``STRENGTHS`` was best on the runs it was fitted on; 0 is uniform weights.
    held_out
        One for each data set.
    """

    table: Floats
    contributions: Floats
    strength: float
    held_out: tuple[HeldOut, ...]

    @property
    def beats_uniform(self) -> bool:
        """Whether its loss is lower than that of uniform weights on every data set held out."""
        return all(held.fitted < held.uniform for held in self.held_out)

    @property
    def verdict(self) -> str:
        """In a sentence whether the table, and the published one, beat uniform weights."""
        n = len(self.held_out)
        fitted = sum(held.fitted < held.uniform for held in self.held_out)
        published = sum(held.published < held.uniform for held in self.held_out)
        word = "beats" if self.beats_uniform else "does not beat"
        return (
            f"the fitted table {word} uniform weights: its loss is lower on {fitted} of {n} data "
            f"sets held out, that of the published table on {published} of {n}"
        )


def fit_importance(
    runs: Sequence[ProxyRun], *, draws: int = 64, ridge: float = 1e-3, seed: int = 0
) -> ImportanceFit:
    """Fit the table on all runs, and judge tables that were fitted without one data set each.

    In every run weights of clients are drawn per layer from Dir(1), ``draws`` times, and a ridge
    regression of the loss on them gives the marginal effect of each (client, layer). A pooled
    regressor of these effects on the ranks of both importances gives exact Shapley values, whose
    means over the cells of the table are added to uniform weights, as strongly as is best on the
    runs that it was fitted on.

    Parameters
    ----------
    runs
        Of two data sets or more.
    draws
        Merges measured in every run.
    ridge
        Penalty, relative to the variance of a drawn weight times ``draws``.
    seed
        Of the draws and the regressor.

    Raises
    ------
    ValueError
        If there is only one data set, there are fewer than two draws, the ridge is not positive,
        or a loss is not finite.
    """
    names = sorted({run.dataset for run in runs})
    if len(names) < 2:
        raise ValueError(f"whole data sets are held out: give runs of two or more, got {names}")
    if draws < 2 or ridge <= 0:
        raise ValueError(f"draws must be >= 2 and ridge > 0, got {draws} and {ridge}")
    effects = [
        marginal_effects(run, draws=draws, ridge=ridge, rng=np.random.default_rng([seed, index]))
        for index, run in enumerate(runs)
    ]
    held = []
    for name in names:
        known = [(r, e) for r, e in zip(runs, effects, strict=True) if r.dataset != name]
        table, _, _ = _table(known, seed)
        unseen = [run for run in runs if run.dataset == name]
        losses = [_mean_loss(unseen, own) for own in (table, PUBLISHED, np.ones((3, 3)))]
        held.append(HeldOut(name, *losses))
    table, contributions, strength = _table(list(zip(runs, effects, strict=True)), seed)
    return ImportanceFit(table, contributions, strength, tuple(held))


def marginal_effects(
    run: ProxyRun, *, draws: int, ridge: float, rng: np.random.Generator
) -> Floats:
    """``[clients, layers]``, minus the change of a run's loss by each weight; by ridge regression.

    Raises
    ------
    ValueError
        If a loss is not finite.
    """
    clients, layers = np.shape(run.a)
    weights = rng.dirichlet(np.ones(clients), size=(draws, layers)).transpose(0, 2, 1)
    losses = np.array([run.loss(own) for own in weights])
    if not np.isfinite(losses).all():
        raise ValueError(f"a loss of a run of {run.dataset!r} is not finite; leave the run out")
    x = weights.reshape(draws, -1)
    x = x - x.mean(axis=0)  # with the losses less their mean: a fit with an intercept
    spread = (clients - 1) / (clients**2 * (clients + 1))  # the variance of a weight under Dir(1)
    penalty = ridge * draws * spread * np.eye(x.shape[1])
    slopes = np.linalg.solve(x.T @ x + penalty, x.T @ (losses - losses.mean()))
    effects: Floats = -slopes.reshape(clients, layers)
    return effects


def shapley_of_two(values: ArrayLike) -> tuple[Floats, Floats]:
    """Exact Shapley values of both features, with independent marginals.

    ``phi_A = 1/2 [(f(a, b) - E f(A, b)) + (E f(a, B) - E f(A, B))]``, and so for B; together they
    are ``f - E f``.

    Parameters
    ----------
    values
        ``[n_a, n_b]``, f on the grid of all values of A and of B, each equally likely.

    Returns
    -------
    tuple
        Two arrays of the shape of ``values``.
    """
    f = np.asarray(values, np.float64)
    over_a, over_b, mean = f.mean(axis=0, keepdims=True), f.mean(axis=1, keepdims=True), f.mean()
    return 0.5 * ((f - over_a) + (over_b - mean)), 0.5 * ((f - over_b) + (over_a - mean))


def _table(known: Sequence[tuple[ProxyRun, Floats]], seed: int) -> tuple[Floats, Floats, float]:
    """Raw weights ``[3, 3]``, the contributions behind them, and their strength."""
    from sklearn.ensemble import GradientBoostingRegressor  # takes about a second

    ranks_a = np.concatenate([_ranks(run.a) for run, _ in known])
    ranks_b = np.concatenate([_ranks(run.b) for run, _ in known])
    effects = np.concatenate([_scaled(own).ravel() for _, own in known])
    forest = GradientBoostingRegressor(random_state=seed, n_estimators=100, max_depth=2)
    forest.fit(np.column_stack([ranks_a, ranks_b]), effects)
    grid_a, grid_b = np.unique(ranks_a), np.unique(ranks_b)
    pairs = np.stack(np.meshgrid(grid_a, grid_b, indexing="ij"), axis=-1).reshape(-1, 2)
    phi_a, phi_b = shapley_of_two(forest.predict(pairs).reshape(len(grid_a), len(grid_b)))
    at = np.searchsorted(grid_a, ranks_a), np.searchsorted(grid_b, ranks_b)
    both = (phi_a + phi_b)[at]
    rows = np.concatenate([cells(np.asarray(run.b), B_QUANTILES).ravel() for run, _ in known])
    columns = np.concatenate([cells(np.asarray(run.a), A_QUANTILES).ravel() for run, _ in known])
    total, counts = np.zeros((3, 3)), np.zeros((3, 3))
    np.add.at(total, (rows, columns), both)
    np.add.at(counts, (rows, columns), 1.0)
    contributions = total / np.maximum(counts, 1.0)
    largest = float(np.abs(contributions).max())
    unit = contributions / largest if largest > 0 else contributions
    runs = [run for run, _ in known]
    losses = [_mean_loss(runs, 1.0 + strength * unit) for strength in STRENGTHS]
    strength = STRENGTHS[int(np.argmin(losses))]
    table = 1.0 + strength * unit
    return table / table.mean(), contributions, strength


def _ranks(importance: ArrayLike) -> Floats:
    """Ranks of all (client, layer) pairs of a run in (0, 1], equal ones the same."""
    from scipy.stats import rankdata  # takes half a second

    flat = np.asarray(importance, np.float64).ravel()
    ranks: Floats = rankdata(flat) / len(flat)
    return ranks


def _scaled(effects: Floats) -> Floats:
    """Effects of a run, less the mean of each layer (only differences count), by their spread."""
    centred: Floats = effects - effects.mean(axis=0)
    spread = float(centred.std())
    return centred / spread if spread > 0 else centred


def _mean_loss(runs: Sequence[ProxyRun], table: Floats) -> float:
    losses = []
    for run in runs:
        raw = two_factors(np.asarray(run.a, np.float64), np.asarray(run.b, np.float64), table)
        losses.append(run.loss(shares_of(raw)))
    return float(np.mean(losses))
