"""The circuits of one model: found on one half of the probe, checked on the other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedcircuit.circuits import OfClasses, Site
from fedcircuit.circuits.checks import (
    NOT_FOUND,
    Candidates,
    CheckedModel,
    Validity,
    check_circuits,
    checked_model,
)
from fedcircuit.circuits.masking import Memory, observed_reference
from fedcircuit.circuits.methods import Attribution
from fedcircuit.circuits.models import fast_copy, searching
from fedcircuit.circuits.probes import Probe, ProbeLike, fitted
from fedcircuit.circuits.round.sent_circuits import SentCircuits
from fedcircuit.circuits.round.settings import CircuitSettings
from fedcircuit.circuits.round.timing import Clock, stream
from fedcircuit.circuits.search import Discovery, Task, frozen, nothing_found
from fedcircuit.circuits.sites import find_sites
from fedcircuit.circuits.verdicts import CircuitFunction
from fedcircuit.html import block, table
from fedcircuit.logits import n_not_finite, not_finite_reason
from fedcircuit.samples import Samples


@dataclass(frozen=True)
class ModelCircuits(OfClasses):
    """The circuits of all classes of one model, with their checks.

    Parameters
    ----------
    model
        ``"global"`` or the client.
    sites
        Sites of the model.
    masks, found
        ``[classes, units]`` bool, and ``[classes]`` bool.
    reasons
        One for each class: why no circuit was found; meaningless where one was.
    scores
        ``[classes, units]`` float; None where a client sent circuits without scores.
    live
        ``[units]`` bool, units that can carry anything.
    validity
        One for each class, measured on the checking half of the probe.
    """

    model: str
    sites: tuple[Site, ...]
    masks: Tensor
    found: Tensor
    reasons: tuple[str, ...]
    scores: Tensor | None
    live: Tensor
    validity: tuple[Validity, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows: statuses with counts, and what each class's circuit does."""
        counts = Counter(str(one.status).replace("_", " ") for one in self.validity)
        told = ", ".join(f"{n} {status}" for status, n in counts.items())
        rows = [
            (c, str(one.status).replace("_", " "), one.size, one.balanced_accuracy,
             one.null_balanced_accuracy, one.full_recall, one.reason)
            for c, one in enumerate(self.validity)
        ]  # fmt: skip
        head = ("class", "status", "units", "balanced accuracy", "random circuits", "recall of "
                "the full model", "reason")  # fmt: skip
        return block(f"Circuits of {self.model}: {told}", table(head, rows))


@searching()
def circuits_of_model(
    model: nn.Module, probe: ProbeLike, settings: CircuitSettings | None = None, *, seed: int = 0
) -> ModelCircuits:
    """Find and check the circuits of all classes of one model.

    Parameters
    ----------
    model, probe
        As `fedcircuit.circuits.discovery.discover` takes them; the model is left as it came.
    settings, seed
        None takes the defaults; the seed is that of random controls and random methods.

    Raises
    ------
    ValueError
        If the model has no sites or does not fit the probe.
    """
    model, known = fitted(model, probe, seed)
    search = Search.of(model, known, settings or CircuitSettings(), seed, 0, Clock())
    return search.examine(fast_copy(model, known.checking.inputs[:2]), "model")[0]


@dataclass(frozen=True)
class Search:
    """What the search for circuits has in common for all models of a round."""

    sites: tuple[Site, ...]
    probe: Probe
    settings: CircuitSettings
    seed: int
    round: int
    clock: Clock
    memory: Memory | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        probe: Probe,
        settings: CircuitSettings,
        seed: int,
        round_: int,
        clock: Clock,
    ) -> Search:
        """A search in models of this architecture."""
        inputs = probe.checking.inputs
        sites = find_sites(model, inputs[:2])
        memory = Memory.of(model, sites, inputs, settings.memory_bytes)
        return cls(sites, probe, settings, seed, round_, clock, memory)

    def examine(
        self,
        model: nn.Module,
        name: str,
        *,
        sent: SentCircuits | None = None,
        thorough: bool = True,
    ) -> tuple[ModelCircuits, CheckedModel]:
        """Circuits of a model with their checks, and the model ready for further circuits.

        Parameters
        ----------
        model, name
            The model in its weights, and its identity: random draws depend on seed, round and
            identity alone.
        sent
            Circuits to check instead of searching for any.
        thorough
            False leaves out selective necessity, which no status and no verdict depends on.
        """
        n_classes, scores, again = self.probe.n_classes, None, None
        reasons = ("the client sent none",) * n_classes
        with self.clock.part("discovery"):
            task = self._task(model, self.probe.discovery, name)
            if sent is None:
                found = self._found(model, task, name)
                sent = SentCircuits(found.masks, found.found, None)
                scores, reasons = found.scores, found.reasons
                if self.settings.stability:
                    again = self._again(model, name)
        with self.clock.part("checks"):
            reference = task.reference
            if self.settings.ablation == "resample":  # partners belong to the samples they are for
                reference = self._task(model, self.probe.checking, name, "checks").reference
            subject = checked_model(
                model,
                self.sites,
                self.probe.checking,
                reference,
                n_classes=n_classes,
                batch=self.settings.batch,
                memory=self.memory,
            )
            validity = check_circuits(
                subject,
                Candidates(sent.masks, sent.found, scores if thorough else None, again),
                self.settings.checks(),
                stream(self.seed, self.round, name, "controls"),
            )
        explained = with_reasons(validity, reasons)
        circuits = ModelCircuits(
            name, self.sites, sent.masks, sent.found, reasons, scores, subject.live, explained
        )
        return circuits, subject

    def _again(self, model: nn.Module, name: str) -> Candidates:
        """Circuits of a second search, on the other half with another seed."""
        task = self._task(model, self.probe.checking, name, "again")
        found = self._found(model, task, name, "again")
        return Candidates(found.masks, found.found)

    def _found(self, model: nn.Module, task: Task, *name: str) -> Discovery:
        if task.seen is not None:
            bad = n_not_finite(task.seen.logits)
            if bad:
                why = not_finite_reason(bad, len(task.samples))
                return nothing_found(self.sites, task.n_classes, why)
        random = stream(self.seed, self.round, *name, "discovery")
        return self.settings.discovery()(model, self.sites, task, random)

    def _task(self, model: nn.Module, samples: Samples, *name: str) -> Task:
        """The samples, with the activations of ablated units on, or for, them."""
        # attribution differentiates this very pass, if memory allows to keep it
        graph = type(self.settings.discovery()) is Attribution
        with frozen(model):
            reference, seen = observed_reference(
                model,
                self.sites,
                samples,
                n_classes=self.probe.n_classes,
                ablation=self.settings.ablation,
                generator=stream(self.seed, self.round, *name, "partners"),
                graph=graph,
                memory=self.memory,
            )
        return Task(samples, self.probe.n_classes, reference, seen, self.memory)


def with_reasons(validity: Sequence[Validity], reasons: Sequence[str]) -> tuple[Validity, ...]:
    """The checks of every class; where no circuit was found also why."""
    return tuple(
        replace(one, reason=f"{one.reason}: {why}") if one.reason == NOT_FOUND and why else one
        for one, why in zip(validity, reasons, strict=True)
    )


def circuit_functions(
    subject: CheckedModel,
    masks: Tensor,
    chosen: Tensor,
    *,
    tasks: Tensor | None = None,
    negatives: int = 90,
) -> tuple[CircuitFunction, ...]:
    """Another model's circuits inside this model's weights, one result for each row.

    Parameters
    ----------
    subject
        The receiving model on the checking samples.
    masks, chosen
        ``[rows, units]`` bool, and ``[rows]`` bool: the circuits to run; the others are NaN, and
        so are all in a model whose logits are not finite.
    tasks
        ``[rows]`` int64, the class of each row, and of several models which (`CheckedModel`); None
        is one row for each class.
    negatives
        Most samples of other classes that a circuit runs on. With 25 samples of the class the
        error of the balanced accuracy is that of the recall: all 225 others in place of 90 would
        lower it by less than a tenth.
    """
    result = [CircuitFunction()] * len(masks)
    every = torch.arange(len(masks)) if tasks is None else tasks
    rows = (chosen & (subject.not_finite[subject.split(every)[0]] == 0)).nonzero().flatten()
    if len(rows):
        wanted = every[rows]
        measured = subject.measured(masks[rows], wanted, negatives=negatives)
        accuracy = measured.balanced_accuracy
        room = subject.known.balanced_accuracy[wanted] - 0.5
        normalised = torch.where(room > 0, (accuracy - 0.5) / room, math.nan)
        columns = measured.recall, measured.fpr, accuracy, normalised
        values = torch.stack(columns, dim=1).tolist()
        for row, value in zip(rows.tolist(), values, strict=True):
            result[row] = CircuitFunction(*value)
    return tuple(result)
