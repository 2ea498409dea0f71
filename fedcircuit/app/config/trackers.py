"""What a study says of trackers of experiments: the schema of its entry ``trackers``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fedcircuit.app.config.data import Section


class TrackerConfig(Section):
    """A tracker of experiments; its name alone will do. None sends anything unless told to."""

    name: Literal["tensorboard", "wandb", "mlflow"] = Field(
        "tensorboard", description="Which; it needs the extra `trackers`."
    )
    folder: str | None = Field(
        None, description="Of its files; left out: `trackers/NAME` in the run's folder."
    )
    project: str = Field(
        "fedcircuit", min_length=1, description="Project of wandb, experiment of mlflow."
    )
    mode: Literal["offline", "online"] = Field(
        "offline", description="wandb: online sends every round to where `wandb login` said."
    )
    uri: str | None = Field(
        None, description="mlflow: a tracking server; left out: a data base in the folder."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _parts_fit(self) -> TrackerConfig:
        if self.mode != "offline" and self.name != "wandb":
            raise ValueError(f"mode is for wandb alone, this tracker is {self.name}")
        if self.uri is not None and self.name != "mlflow":
            raise ValueError(f"uri is for mlflow alone, this tracker is {self.name}")
        return self


def require_different(trackers: tuple[TrackerConfig, ...]) -> None:
    """Refuse a tracker that is named twice.

    Raises
    ------
    ValueError
        If there is one.
    """
    names = [tracker.name for tracker in trackers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"trackers: name each once, got {', '.join(twice)} twice")
