"""What a study says of rules that mend its strategy's average: the schema of `strategy.rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from fedcircuit import messages
from fedcircuit.aggregation import Control, ControlKind, Rule, named
from fedcircuit.app.config.data import Section

# Which key of a study makes clients say, or find, what a rule needs.
SUPPLIED_BY: Mapping[str, str] = {
    messages.CLASS_VARIANCES: "training.feature_variance",
    messages.PATH_IMPORTANCE: "training.path_importance",
    "masks": "circuits.discover_on",
}
_SUPPLYING: Mapping[str, object] = {  # values to give it, where true will not do
    "training.feature_variance": {},
    "circuits.discover_on": "clients",
}


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
        return self

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


def require_supplied(rules: Sequence[RuleConfig], keys: Mapping[str, Any]) -> None:
    """Refuse rules whose clients would not say what they need.

    Parameters
    ----------
    rules
        Of the study.
    keys
        The study's values of the keys in `SUPPLIED_BY`, false where clients will not.

    Raises
    ------
    ValueError
        If there is one, with the key to set.
    """
    for config in rules:
        for need in named.NEEDS[config.name]:
            key = SUPPLIED_BY.get(need)
            if key is not None and not keys[key]:
                value = _SUPPLYING.get(key, "true")
                raise ValueError(
                    f"strategy.rules: {config.name} needs what clients say with {key}: {value}"
                )
