"""The information plane of local models and their average, while the federation runs or later."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from fedcircuit.analysis.estimators import InformationSettings
from fedcircuit.analysis.information import (
    GAP_COLUMNS,
    PLANE_COLUMNS,
    ModelPlane,
    PlaneSettings,
    Spatial,
    mean_plane,
    model_plane,
    plane_gaps,
)
from fedcircuit.circuits.models import copied
from fedcircuit.circuits.sites import find_sites
from fedcircuit.learning import Weights, derived_seed, generator, set_weights
from fedcircuit.records.rounds import (
    GLOBAL,
    ClientRecord,
    Observation,
    RoundView,
    Table,
    table_to_json,
)
from fedcircuit.records.runs import Frames, Run
from fedcircuit.samples import Samples

PLANE, GAP = "information", "information_gap"  # names of the tables


class InformationObserver:
    """Tables ``information`` and ``information_gap`` of the rounds it looks at; others are empty.

    ``information`` has a row for every model, hidden layer and estimate: model, layer, quantity,
    value, unit, estimator, setting, n, d, unique, saturated, null, accuracy. The models are
    ``global``, the average right after averaging; every client looked at, just before it; and
    ``mean of clients``, the mean of their rows. ``information_gap`` has a row a layer, the global
    model minus the mean of clients: layer, dIx, dIy, accuracy_gap, saturated. Where no client's
    weights are visible there are no rows of clients, and the gaps are NaN.

    All models are measured on the same samples, with the same splits and permutations.

    Parameters
    ----------
    model
        The architecture; it is copied.
    pool
        Labelled samples that no client trains on.
    settings
        Estimators and their settings.
    every
        Look at rounds divisible by this.
    rounds
        Look at these rounds instead, such as
        `fedcircuit.analysis.information.logarithmic_rounds` gives them.
    max_clients
        Look at a sample of this many clients, drawn from (seed, round) alone; None is all.
    seed
        Of that sample, of splits and permutations.
    spatial, output
        As in `fedcircuit.analysis.information.PlaneSettings`.

    Raises
    ------
    ValueError
        If a number is below 1, ``rounds`` is given beside another ``every`` than 1, the pool is
        empty, or the model has no hidden layer.
    """

    name = "information"
    needs_model = True

    def __init__(
        self,
        model: nn.Module,
        pool: Samples,
        settings: InformationSettings | None = None,
        *,
        every: int = 1,
        rounds: Collection[int] | None = None,
        max_clients: int | None = None,
        seed: int = 0,
        spatial: Spatial = "mean",
        output: bool = False,
    ) -> None:
        for label, value in (("every", every), ("max_clients", max_clients)):
            if value is not None and value < 1:
                raise ValueError(f"{label} must be >= 1, got {value} (information observer)")
        if rounds is not None and (every != 1 or min(rounds, default=0) < 1):
            raise ValueError(
                "rounds must be one or more numbers >= 1 and stand without every, got rounds "
                f"{sorted(rounds)} and every {every}"
            )
        if not len(pool):
            raise ValueError("the information plane needs a pool of samples, got none")
        self._model, self._pool = copied(model), pool
        self._settings = PlaneSettings(settings or InformationSettings(), spatial, output)
        self._every, self._rounds = every, None if rounds is None else frozenset(rounds)
        self._max_clients, self._seed = max_clients, seed
        self._sites = find_sites(self._model, pool.inputs[:2])

    def looks_at(self, number: int) -> bool:
        """Whether a round, 1-based, is one of those that are looked at."""
        return number % self._every == 0 if self._rounds is None else number in self._rounds

    def __call__(self, view: RoundView) -> Observation:
        """The plane of this round."""
        if not self.looks_at(view.round):
            return Observation()
        return self.observe(view.round, view.after, view.clients)

    def observe(self, number: int, after: Weights, clients: Sequence[ClientRecord]) -> Observation:
        """The plane of a round, due or not.

        Parameters
        ----------
        number
            The round, 1-based.
        after
            Global weights after it.
        clients
            All clients of the round, those without visible weights too.
        """
        average = self._plane(GLOBAL, after)
        local = [
            self._plane(record.client, record.weights) for record in self._chosen(number, clients)
        ]
        mean = mean_plane(local) if local else None
        planes = [average, *local, *([] if mean is None else [mean])]
        return Observation(
            {
                PLANE: Table(PLANE_COLUMNS, tuple(row for plane in planes for row in plane.cells)),
                GAP: Table(GAP_COLUMNS, tuple(gap.cells for gap in plane_gaps(average, mean))),
            }
        )

    def _plane(self, name: str, weights: Weights) -> ModelPlane:
        set_weights(self._model, weights)
        seed = derived_seed(self._seed, "information")  # for all, so that they share their splits
        return model_plane(name, self._model, self._pool, self._sites, self._settings, seed=seed)

    def _chosen(self, number: int, clients: Sequence[ClientRecord]) -> list[ClientRecord]:
        """Clients to look at, in the order given; the same ones for any order."""
        visible = {record.client: record for record in clients if record.weights}
        rng = generator(self._seed, number, "information clients")
        order = torch.randperm(len(visible), generator=rng).tolist()
        names = sorted(visible)
        sample = {names[index] for index in order[: self._max_clients]}
        return [record for name, record in visible.items() if name in sample]


@dataclass(frozen=True)
class InformationTables:
    """The information plane over the rounds looked at.

    Parameters
    ----------
    plane
        The table ``information`` of all rounds, the column ``round`` first.
    gaps
        The table ``information_gap``, likewise.
    """

    plane: pd.DataFrame
    gaps: pd.DataFrame


def information_of_run(
    run: Run,
    model: nn.Module,
    pool: Samples,
    settings: InformationSettings | None = None,
    *,
    every: int = 1,
    rounds: Collection[int] | None = None,
    max_clients: int | None = None,
    seed: int = 0,
    spatial: Spatial = "mean",
    output: bool = False,
) -> InformationTables:
    """The information plane from the weights of a run folder, whatever its strategy.

    With the arguments of the observer, and as many torch threads, the tables are exactly those
    that it records, to nine significant digits. A run that keeps no client weights
    (``storage.updates: none``) gives the rows of the global model alone, and gaps that are NaN;
    half-precision differences (``delta-fp16``) give those of the clients nearly.

    Parameters
    ----------
    run
        With at least one round that is looked at.
    model, pool, settings, every, rounds, max_clients, seed, spatial, output
        As in :class:`InformationObserver`.

    Raises
    ------
    ValueError
        As the observer does, and if it looks at none of the recorded rounds.
    RunError
        If a round cannot be read.
    """
    observer = InformationObserver(
        model, pool, settings, every=every, rounds=rounds, max_clients=max_clients, seed=seed,
        spatial=spatial, output=output,
    )  # fmt: skip
    numbers = [number for number in run.rounds if observer.looks_at(number)]
    if not numbers:
        raise ValueError(
            f"{run.path} has {len(run.rounds)} rounds, none of which is looked at: mend every or "
            "rounds"
        )
    frames = Frames()
    for number in numbers:
        record = run.record(number)
        seen = observer.observe(number, record.weights, record.clients)
        written = {name: table_to_json(table) for name, table in seen.tables.items()}
        frames.add(number, {observer.name: written})
    named = run.layer_names.named
    return InformationTables(named(frames.frame(PLANE)), named(frames.frame(GAP)))
