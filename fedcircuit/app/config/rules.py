"""What a study says of rules that mend its strategy's average: the schema of `strategy.rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from fedcircuit.aggregation import COMES_WITH, Control, ControlKind, Rule, named
from fedcircuit.app.config.data import Section

_OFF = (None, False, 0.0)
_OF_CIRCUITS = ("permuted-circuits", "all-units")  # controls that need circuits
BY_CLIENTS = "circuits.discover_on: clients"  # circuits that reach the rules


class RuleConfig(Section):
    """A rule that mends the average; its name alone will do."""

    name: str = Field(description="Such as `ccvr`; [Mend](mend.md) has the table of rules.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the rule.")
    every: int = Field(1, ge=1, description="Mend in every n-th round.")
    last_only: bool = Field(False, description="Mend after the last round of the study alone.")
    control: ControlKind | None = Field(
        None,
        description="The rule as its own control: the units of circuits permuted, circuits of all "
        "units, or labels of the probe permuted.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_made(self) -> RuleConfig:
        if self.last_only and self.every != 1:
            raise ValueError("every and last_only exclude each other: give one of them")
        self.rule()
        self._check_control()
        return self

    def _check_control(self) -> None:
        """Refuse a control that changes what the rule does not read: it would be the rule."""
        if self.control is None:
            return
        needs = {part for need in named.NEEDS[self.name] for part in need.split("|")}
        what = "masks" if self.control in _OF_CIRCUITS else "probe"
        if what not in needs:
            changed = "circuits" if what == "masks" else "a probe"
            raise ValueError(
                f"control {self.control} belongs to rules that read {changed}, {self.name!r} does "
                "not, so it would be its own control"
            )

    def rule(self) -> Rule:
        """The rule itself.

        Raises
        ------
        ValueError
            If there is none of this name, or it does not take the options.
        """
        try:
            made = named.rule(self.name, **self.options)
        except TypeError as error:  # an option of another type
            raise ValueError(f"rule {self.name!r}: {error}") from error
        return made if self.control is None else Control(made, self.control)


def require_supplied(
    rules: Sequence[RuleConfig], training: Mapping[str, Any], *, circuits_by_clients: bool
) -> None:
    """Refuse rules whose clients would not say what they, or their controls, need.

    Parameters
    ----------
    rules
        Of the study.
    training
        Its section ``training``.
    circuits_by_clients
        Whether clients find and send circuits.

    Raises
    ------
    ValueError
        If there is one, with the key to set.
    """
    for config in rules:
        control = f" as {config.control}" if config.control in _OF_CIRCUITS else ""
        for need in (*named.NEEDS[config.name], *(["masks"] if control else [])):
            option = BY_CLIENTS if need == "masks" else COMES_WITH.get(need, "")
            section, _, key = option.partition(":")[0].partition(".")
            said = circuits_by_clients if need == "masks" else training.get(key) not in _OFF
            if section in ("training", "circuits") and not said:
                raise ValueError(
                    f"strategy.rules: {config.name}{control} needs what clients say with {option}"
                )
