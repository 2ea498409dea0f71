"""Verdicts on the clients' recorded circuits in another model than the one the run went on with.

The clients' circuits and their checks are those of the record; only the new model's are looked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from fedcircuit.app.mending.known import Known
from fedcircuit.app.mending.measuring import digest
from fedcircuit.circuits.checks import (
    Candidates,
    Status,
    Validity,
    check_circuits,
    checked_model,
)
from fedcircuit.circuits.models import fast_copy, searching
from fedcircuit.circuits.overlap import ALL_LAYERS, Side, paired_overlaps
from fedcircuit.circuits.round import (
    GLOBAL,
    CircuitSettings,
    Clock,
    Search,
    circuit_functions,
    load_weights,
)
from fedcircuit.circuits.verdicts import CircuitFunction, Judgement, Verdict, verdict
from fedcircuit.learning import Weights
from fedcircuit.records.runs import Run

UNDECIDED = "undecided"
OUTCOMES = (*(str(one) for one in Verdict), UNDECIDED)
_CIRCUITS = "circuits"  # name of the observer whose tables and arrays these are
_WITHOUT_CIRCUITS = (Status.ABSENT, Status.NOT_FINITE, Status.NOT_LEARNED)  # decide a verdict
_FIELDS = {one.name for one in fields(Validity)}
_TEXT = ("status", "reason", "size", "constant")  # of Validity; all else is a number


@dataclass(frozen=True)
class ClientCircuits:
    """The valid circuits of the clients in a recorded round, one row each.

    Parameters
    ----------
    owners
        ``[rows]``, client and class.
    masks, live
        ``[rows, units]`` bool: the circuit, and units of the client that can carry anything.
    checks
        ``[rows]``, as they were recorded.
    """

    owners: tuple[tuple[str, int], ...]
    masks: Tensor
    live: Tensor
    checks: tuple[Validity, ...]


def client_circuits(run: Run, number: int, clients: Sequence[str]) -> ClientCircuits | None:
    """Valid circuits of these clients in a round; None where the record holds no circuits."""
    stack, live = run.masks(number), run.observed(number, _CIRCUITS).get("live")
    names = {f"{_CIRCUITS}/validity", "validity"} & set(run.table_names)
    if stack is None or live is None or not names:
        return None
    table = run.table(min(names, key=len))
    known = table[(table["round"] == number) & table["model"].isin(clients)]
    rows = [(str(row["model"]), _validity(row)) for row in known.to_dict(orient="records")]
    classes = [int(c) for c in known["class"]]
    kept = [
        (client, c, checks)
        for (client, checks), c in zip(rows, classes, strict=True)
        if checks.status is Status.VALID and client in stack.models
    ]
    places = torch.tensor([stack.models.index(client) for client, _, _ in kept], dtype=torch.int64)
    chosen = torch.tensor([c for _, c, _ in kept], dtype=torch.int64)
    return ClientCircuits(
        tuple((client, c) for client, c, _ in kept),
        stack.masks[places, chosen],
        torch.from_numpy(live)[places],
        tuple(checks for _, _, checks in kept),
    )


def _validity(row: Mapping[Any, Any]) -> Validity:
    """Checks as they were recorded; numbers alone are needed of what was measured."""
    numbers: dict[str, Any] = {
        name: nan if value is None else float(value)
        for name, value in row.items()
        if name in _FIELDS and name not in _TEXT
    }
    return Validity(Status(row["status"]), str(row["reason"] or ""), **numbers)


@dataclass
class Judge:
    """Judges models of one round against the clients' recorded circuits.

    Parameters
    ----------
    known
        Network, probe and settings of the run.
    number
        The round: draws are those that the run made for its global model.
    clients
        Their circuits.
    """

    known: Known
    number: int
    clients: ClientCircuits
    _found: dict[str, Counter[str]] = field(default_factory=dict)

    def counted(self, weights: Weights) -> Mapping[str, int]:
        """How many valid circuits of clients are what in the model with these weights."""
        key = digest(weights)
        if key not in self._found:
            verdicts = [found for found, _ in self.judged(weights)]
            self._found[key] = Counter(UNDECIDED if v is None else str(v) for v in verdicts)
        return {outcome: self._found[key][outcome] for outcome in OUTCOMES}

    @searching()
    def judged(self, weights: Weights) -> list[Judgement]:
        """The verdict on every client's circuit, and why, in the order of ``clients``.

        Raises
        ------
        ValueError
            If the circuits are not of this network.
        """
        clients, settings = self.clients, self._settings
        if not clients.owners:
            return []
        probe, seed = self.known.probe, self.known.seed
        assert probe is not None  # there are no settings without it
        model = fast_copy(self.known.model, probe.checking.inputs[:2])
        load_weights(model, weights)
        search = Search.of(model, probe, settings, seed, self.number, Clock())
        n_units = sum(site.n_units for site in search.sites)
        if clients.masks.shape[1] != n_units:
            raise ValueError(
                f"the recorded circuits of round {self.number} are of {clients.masks.shape[1]} "
                f"units, the model has {n_units}: give the model that the run was observed with"
            )
        classes = torch.tensor([c for _, c in clients.owners])
        whole = _whole_model(model, search)
        mine = [whole[c] for c in classes.tolist()]
        if all(one.status in _WITHOUT_CIRCUITS for one in mine):  # nothing to look for
            return [
                verdict(checks, one, CircuitFunction(), None, settings.verdict)
                for checks, one in zip(clients.checks, mine, strict=True)
            ]
        own, subject = search.examine(model, GLOBAL, thorough=False)
        every = torch.ones(len(classes), dtype=torch.bool)
        functions = circuit_functions(subject, clients.masks, every, tasks=classes)
        overlaps = paired_overlaps(
            Side(clients.masks, every, clients.live),
            Side(own.masks[classes], own.found[classes], own.live),
            search.sites,
        )
        result = []
        for row, (checks, function) in enumerate(zip(clients.checks, functions, strict=True)):
            layers = overlaps.at(row)
            overlap = None if layers is None else layers[ALL_LAYERS]
            one = own.validity[int(classes[row])]
            result.append(verdict(checks, one, function, overlap, settings.verdict))
        return result

    @property
    def _settings(self) -> CircuitSettings:
        assert self.known.circuits is not None  # the caller asks only where verdicts are wanted
        return self.known.circuits


def _whole_model(model: nn.Module, search: Search) -> tuple[Validity, ...]:
    """What the model does with every class, whatever its circuits."""
    probe, sites = search.probe, search.sites
    subject = checked_model(model, sites, probe.checking, None, n_classes=probe.n_classes)
    none = torch.zeros(probe.n_classes, sum(site.n_units for site in sites), dtype=torch.bool)
    nothing = Candidates(none, none.any(1))
    return check_circuits(subject, nothing, search.settings.checks(), torch.Generator())
