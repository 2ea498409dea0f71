"""The circuits of every round: found, checked, compared, as tables and packed masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from fedcircuit.circuits.models import copied, evaluating, workable
from fedcircuit.circuits.probes import Probe
from fedcircuit.circuits.round import (
    CircuitSettings,
    Clock,
    RoundTask,
    SentCircuits,
    analyse_round,
    from_message,
    stream,
)
from fedcircuit.circuits.sites import find_sites
from fedcircuit.logits import logits_of
from fedcircuit.observers.circuits.circuit_tables import round_observation
from fedcircuit.observers.circuits.noise_ceiling import checked_ceilings, global_ceiling
from fedcircuit.observers.circuits.without_probe import (
    Architecture,
    Reported,
    unprobed_observation,
    with_hidden,
)
from fedcircuit.records.rounds import ClientRecord, Observation, RoundView


class CircuitObserver:
    """Finds, checks and compares circuits after the rounds it looks at.

    Tables: ``sites``, ``models``, ``validity``, ``function``, ``overlap``, ``class_swap``,
    ``verdicts``, ``seconds`` and ``skipped`` (who was left out and why); arrays: ``masks``,
    ``found``, ``live``, and ``scores`` on request. Other rounds give an empty observation.

    With ``ceiling``, or ``stability`` of the settings, there are two more: ``ceiling``, how far a
    second search agrees with the first, and ``corrected``, the overlaps relative to it.

    Without a probe nothing can be run, so only what clients sent is recorded: their circuits, the
    overlaps among them (``client_overlap``) and their own checks; a table ``unavailable`` names
    what is missing. So it is for clients whose weights secure aggregation hides.

    Parameters
    ----------
    model
        The architecture; it is copied.
    probe
        Labelled samples in two halves; None if the server has none (then ``discover_on`` must be
        ``"clients"`` and ``example`` is needed).
    settings
        How circuits are found, checked and judged.
    seed
        Of the sample of clients, of random circuits and of random methods.
    every
        Look at rounds divisible by this.
    max_clients
        Look at a sample of this many clients, drawn from (seed, round) alone; None is all. The
        global model is always looked at.
    time_budget
        Seconds after which no further client is begun; None is no limit. Which client comes
        first is drawn from (seed, round), so that it is not always the same one that is left out.
    discover_on
        ``"server"`` searches for every client's circuits on the probe; ``"clients"`` takes those
        the clients sent (``fedcircuit.circuits.round.sent_circuits``).
    example
        One input ``[1, ...]`` or more, where there is no probe.
    scores
        Record the discovery scores of every unit, as float16.
    ceiling
        Search the global model once more, with another seed and the other half of the probe. With
        ``stability`` of the settings every model is searched twice anyway, and this adds nothing.

    Raises
    ------
    ValueError
        If a number is out of range, neither probe nor example is given, or a ceiling is asked for
        where circuits are not searched for on a probe.
    """

    name = "circuits"
    needs_model = True

    def __init__(
        self,
        model: nn.Module,
        probe: Probe | None,
        settings: CircuitSettings,
        *,
        seed: int,
        every: int = 1,
        max_clients: int | None = None,
        time_budget: float | None = None,
        discover_on: Literal["server", "clients"] = "server",
        example: Tensor | None = None,
        scores: bool = False,
        ceiling: bool = False,
    ) -> None:
        for label, value in (("every", every), ("max_clients", max_clients)):
            if value is not None and value < 1:
                raise ValueError(f"{label} must be >= 1, got {value} (circuit observer)")
        if time_budget is not None and time_budget <= 0:
            raise ValueError(f"time_budget must be > 0 seconds, got {time_budget}")
        if discover_on not in ("server", "clients"):
            raise ValueError(f"discover_on must be 'server' or 'clients', got {discover_on!r}")
        if probe is None and (discover_on == "server" or example is None):
            raise ValueError(
                "without a probe circuits can only come from the clients: give "
                "discover_on='clients' and an example input, or a probe"
            )
        if ceiling and discover_on == "clients":
            raise ValueError(
                "a ceiling needs a search that can be repeated on the server's probe: leave "
                "ceiling out, or give discover_on='server' and a probe"
            )
        self._model = workable(copied(model))
        self._probe = probe
        self._settings = settings
        self._seed = seed
        self._every = every
        self._max_clients = max_clients
        self._time_budget = time_budget
        self._on_clients = discover_on == "clients"
        self._scores = scores
        self._with_ceiling = ceiling
        self._architecture = _architecture(self._model, probe, example)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; numbers where there is no probe to say them."""
        if self._probe is not None:
            return self._probe.class_names
        return tuple(str(index) for index in range(self._architecture.n_classes))

    def __call__(self, view: RoundView) -> Observation:
        """What is known of the circuits of this round."""
        if view.round % self._every:
            return Observation()
        order = self._order(view)
        chosen = [record for record in view.clients if record.client in order]
        hidden = [record for record in view.hidden if record.client in order]
        if self._probe is None:
            everyone = self._reported([*chosen, *hidden], view)
            return unprobed_observation(self._architecture, everyone)
        names = {record.client for record in chosen}
        seen = self._on_probe(view, chosen, [client for client in order if client in names])
        if not hidden:
            return seen
        return with_hidden(seen, self._architecture, self._reported(hidden, view))

    def _reported(self, clients: Sequence[ClientRecord], view: RoundView) -> Reported:
        return Reported(clients, *self._sent(clients), view.after)

    def _on_probe(
        self, view: RoundView, chosen: Sequence[ClientRecord], order: Sequence[str]
    ) -> Observation:
        """Circuits of the global model and of clients whose weights are there."""
        assert self._probe is not None
        sent, unreadable = self._sent(chosen) if self._on_clients else ({}, ())
        left_out = dict(unreadable)
        readable = [record for record in chosen if record.client not in left_out]
        task = RoundTask(
            self._settings,
            self._seed,
            view.round,
            time_budget=self._time_budget,
            order=[client for client in order if client not in left_out],
            sent=sent if self._on_clients else None,
        )
        result = analyse_round(
            self._model,
            view.after,
            {record.client: record.weights for record in readable},
            self._probe,
            task,
        )
        ceilings = checked_ceilings(result)
        if self._with_ceiling and not self._settings.stability:
            clock = Clock()
            with clock.part("ceiling"):
                ceilings = global_ceiling(self._model, view.after, self._probe, task, result)
            result = replace(result, seconds={**result.seconds, **clock.seconds})
        return round_observation(result, unreadable, scores=self._scores, ceilings=ceilings)

    def _order(self, view: RoundView) -> list[str]:
        """The clients to look at, in the order of work; the same for any order of replies."""
        clients = sorted(record.client for record in (*view.clients, *view.hidden))
        shuffled = torch.randperm(
            len(clients), generator=stream(self._seed, view.round, "sample of clients")
        )
        return [clients[index] for index in shuffled.tolist()[: self._max_clients]]

    def _sent(
        self, clients: Sequence[ClientRecord]
    ) -> tuple[dict[str, SentCircuits], tuple[tuple[str, str], ...]]:
        """Circuits the clients sent, and whose could not be read."""
        sent: dict[str, SentCircuits] = {}
        unreadable: list[tuple[str, str]] = []
        shape = self._architecture
        for record in clients:
            try:
                circuits = from_message(
                    record.extra, n_classes=shape.n_classes, n_units=shape.n_units
                )
            except ValueError as error:
                # one client's malformed message must not cost the others their analysis
                unreadable.append((record.client, f"its circuits cannot be read: {error}"))
                continue
            if circuits is not None:
                sent[record.client] = circuits
        return sent, tuple(unreadable)


def _architecture(model: nn.Module, probe: Probe | None, example: Tensor | None) -> Architecture:
    if probe is not None:
        example, n_classes = probe.checking.inputs[:1], probe.n_classes
    else:
        assert example is not None  # checked when the observer was made
        with evaluating(model), torch.no_grad():
            n_classes = logits_of(model, example[:1]).shape[-1]
    return Architecture(model, find_sites(model, example), example, n_classes)
