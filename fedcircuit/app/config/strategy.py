"""What a study says of aggregation: the section `strategy` of the YAML schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fedcircuit.aggregation import LipsSettings, lips
from fedcircuit.app.config.data import Section
from fedcircuit.app.config.rules import RuleConfig


class LipsConfig(Section):
    """Masked downloads around the strategy (LIPS, arXiv 2506.00932)."""

    period: int = Field(
        LipsSettings.period, ge=1, description="Mask the download every so many rounds."
    )
    d0: float = Field(
        LipsSettings.d0, gt=0, le=1, description="Share kept in the first masked round; 1: off."
    )
    schedule: lips.Schedule = Field(
        LipsSettings.schedule,
        description="How the share grows to 1 over the run; const: not at all.",
    )
    score: lips.Score = Field(
        LipsSettings.score,
        description="What is kept: the largest weights, the largest products of weight and the "
        "client's own last gradient, any, or the smallest weights; the last two are controls.",
    )
    scope: lips.Scope = Field(
        LipsSettings.scope,
        description="Whether each layer keeps the share, or all of them together.",
    )
    side: lips.Side | None = Field(
        None, description="Who masks; left out: the server, and the clients for sensitivity."
    )
    reset: lips.Reset = Field(
        LipsSettings.reset, description="What other entries become: zero, or their initial values."
    )
    sync_bn: bool = Field(
        LipsSettings.sync_bn, description="False: every client keeps its own batch norm and biases."
    )
    personalised_eval: bool = Field(
        LipsSettings.personalised_eval,
        description="Clients measure the model they trained on their personal test images.",
    )
    layers: tuple[str, ...] | None = Field(
        None, description="Weights that may be masked; left out: all but the first and the last."
    )


class StrategyConfig(Section):
    """The aggregation on the server."""

    name: Literal[
        "fedavg",
        "fedavgm",
        "fedprox",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "fedmedian",
        "fedtrimmedavg",
        "krum",
        "multikrum",
        "bulyan",
        "qfedavg",
    ] = Field("fedavg", description="A strategy of Flower; all of them are observed alike.")
    fraction_train: float = Field(
        1.0, gt=0, le=1, description="Share of the clients that train in a round."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of Flower's class."
    )
    lips: LipsConfig | None = Field(None, description="Left out: plain downloads.")
    rules: tuple[RuleConfig, ...] = Field(
        (), description="Rules that mend the average, one after the other: `[livar-head, ccvr]`."
    )
