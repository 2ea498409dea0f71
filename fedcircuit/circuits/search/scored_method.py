"""Methods that score units and leave the size of a circuit to a rule of its own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from fedcircuit.circuits import Site
from fedcircuit.circuits.search.protocol import Discovery, Meter, Sizing, Task, absent_reasons
from fedcircuit.circuits.search.searched_model import SearchedModel, SearchingMethod
from fedcircuit.circuits.search.size_rules import Faithful
from fedcircuit.circuits.search.top_units import mass_rule
from fedcircuit.ranges import require_between

NO_UNIT = "no unit separates the class from the others"


class Scorer(Protocol):
    """Says how important every unit is for every class."""

    @property
    def name(self) -> str:
        """Name in configurations and records."""
        ...

    @abstractmethod
    def scores(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Tensor:
        """Scores ``[classes, units]``, larger is more important.

        The caller has put the model in eval mode and frozen its parameters, and discards the
        rows of classes that cannot be contrasted; these may be NaN.
        """
        ...


class SizeRule(Protocol):
    """Makes circuits of scores: how many of the best units are taken."""

    def __call__(
        self,
        scores: Tensor,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Sizing:
        """Masks ``[classes, units]``; all False in the rows whose scores are NaN."""
        ...


@dataclass(frozen=True)
class Mass:
    """The fewest units that hold a share of the positive score mass; no forward pass.

    Parameters
    ----------
    share
        Share of the positive score mass that a circuit holds, in (0, 1].

    Raises
    ------
    ValueError
        If the share is out of range.
    """

    share: float = 0.9

    def __post_init__(self) -> None:
        require_between("(0, 1]", "size rule 'mass'", share=self.share)

    def __call__(
        self,
        scores: Tensor,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Sizing:
        """Masks by `fedcircuit.circuits.search.mass_rule`, without curves."""
        masks = mass_rule(scores.nan_to_num(0.0), sites, share=self.share)
        return Sizing(masks, (None,) * len(scores))


SIZE_RULES: dict[str, type[SizeRule]] = {"faithful": Faithful, "mass": Mass}


def default_size() -> SizeRule:
    """The size rule of every scored method that is given none."""
    return Faithful()


def size_rule(value: object) -> SizeRule:
    """The size rule of a configuration: ``"mass"``, or ``{"kind": "faithful", "loss": 0.1}``.

    A value that is a rule already is given back.

    Raises
    ------
    ValueError
        If the kind or an option is unknown.
    """
    if callable(value):
        return value
    options = dict(value) if isinstance(value, Mapping) else {"kind": value}
    kind = options.pop("kind", None)
    if kind not in SIZE_RULES:
        raise ValueError(
            f"the kind of a size rule must be one of {tuple(SIZE_RULES)}, got {kind!r}"
        )
    known = tuple(field.name for field in fields(SIZE_RULES[kind]))  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            raise ValueError(f"size rule {kind!r} has no option {option!r}; known: {known}")
    made: SizeRule = SIZE_RULES[kind](**options)
    return made


def size_options(rule: SizeRule) -> dict[str, object]:
    """The plain form of a rule of `SIZE_RULES`: what `size_rule` makes it of."""
    for kind, known in SIZE_RULES.items():
        if isinstance(rule, known):
            return {"kind": kind, **asdict(rule)}  # type: ignore[call-overload]
    raise ValueError(f"{type(rule).__name__} is none of the named size rules {tuple(SIZE_RULES)}")


def reasons_for(
    found: Tensor, absent: Sequence[str], why: str | Sequence[str] = NO_UNIT
) -> tuple[str, ...]:
    """For every class why no circuit was found, empty where one was.

    Parameters
    ----------
    found
        ``[classes]`` bool.
    absent
        Why a class cannot be contrasted, empty where it can.
    why
        Why none was found of one that can, for all classes or for each.
    """
    each = (why,) * len(absent) if isinstance(why, str) else why
    rows = zip(absent, found.tolist(), each, strict=True)
    return tuple(reason or ("" if has else none) for reason, has, none in rows)


@dataclass(frozen=True)
class ScoredMethod(SearchingMethod):
    """A discovery method: units scored by one part, circuits cut by another.

    Parameters
    ----------
    scorer
        Scores of every unit for every class.
    size
        Makes circuits of them.
    """

    scorer: Scorer
    size: SizeRule

    @property
    def name(self) -> str:
        """Name of the scorer."""
        return self.scorer.name

    def search(self, searched: SearchedModel) -> Discovery:
        """Circuits of all classes; none for classes that cannot be contrasted."""
        absent = absent_reasons(searched.samples.counts(searched.n_classes))
        known, none = torch.tensor([not reason for reason in absent]), (None,) * len(absent)
        masks, scores = searched.nothing()
        sizing = Sizing(masks, none)
        if bool(known.any()):
            scores[known] = self.scorer.scores(*searched.parts).to(scores)[known]
            sizing = self.size(scores, *searched.parts)
        found = sizing.masks.any(1) & known
        return Discovery(
            searched.sites,
            sizing.masks & found.unsqueeze(1),
            found,
            scores,
            reasons_for(found, absent),
            searched.meter.cost(),
            none,
            sizing.curves,
        )


class Scored(Scorer, SearchingMethod):
    """Base of the methods that score units: their circuits are cut by their own size rule.

    A method is a frozen dataclass with a ``name`` and a field ``size``; its other fields are its
    options.
    """

    name: ClassVar[str]  # in configurations and records
    size: SizeRule

    def search(self, searched: SearchedModel) -> Discovery:
        """Circuits of all classes."""
        return ScoredMethod(self, self.size).search(searched)


class UnitScored(Scored):
    """Base of our own methods: what `Scored` is, given all that a method is given as one."""

    @abstractmethod
    def unit_scores(self, searched: SearchedModel) -> Tensor:
        """Scores ``[classes, units]``, see `Scorer`."""

    def scores(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        task: Task,
        generator: torch.Generator,
        meter: Meter,
    ) -> Tensor:
        """Scores ``[classes, units]``, see `Scorer`."""
        return self.unit_scores(SearchedModel(model, tuple(sites), task, generator, meter))
