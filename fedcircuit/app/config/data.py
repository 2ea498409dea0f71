"""What a study says of its data and who holds them: sections of the YAML schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedcircuit.learning.sources import Background, DatasetName

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of a configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Which data set, and how much of it."""

    name: DatasetName = Field(
        "digits",
        description="Data set; digits needs no files and no network. szt does not either: all "
        "4,096 patterns of 12 bits, as -1 and 1, in two classes by a rule of the kind of arXiv "
        "1703.00810. Examples of each: see [data](data.md).",
    )
    root: str | None = Field(
        None,
        description="Folder of the data; else the environment variable FEDCIRCUIT_DATA, "
        "else the default cache folder. A single file for csv, npz and parquet.",
    )
    train_limit: int | None = Field(
        None, gt=0, description="Use a seeded, class-stratified subset of this many samples."
    )
    test_limit: int | None = Field(None, gt=0, description="The same for the test samples.")
    download: bool = Field(False, description="Allow torchvision to download what is missing.")
    pool: int | None = Field(
        None, ge=1, description="Average-pool every image by this factor: 2 makes 28x28 to 14x14."
    )
    test_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Share held out for tests where the data have one split only, in the mix of "
        "the classes, drawn by the seed. szt: 0.2 if left out; 0: all patterns are both training "
        "and test samples, as the whole of a known distribution.",
    )
    test_split: str | None = Field(
        None,
        description="Split that tests are made on, such as validation; left out: test, or else "
        "validation, valid, val or dev.",
    )
    image: str | None = Field(
        None, description="Column (npz: array) of the images; left out: the usual names."
    )
    label: str | None = Field(None, description="Column (npz: array) of the labels; the same.")
    features: tuple[str, ...] | None = Field(
        None,
        description="Columns that are the inputs of a table; left out: all but the label and "
        "columns.",
    )
    columns: tuple[str, ...] = Field(
        (),
        description="Further columns that are no inputs; the one that a partition is made by need "
        "not be named here.",
    )
    classes: tuple[str | int, ...] | None = Field(
        None,
        description="The classes in their order: names, or of whole numbers the values that are "
        "classes. Left out: names in the metadata of the label's own column; else whole numbers "
        "are the classes 0, 1, ..., and text is sorted.",
    )
    colour: bool | None = Field(
        None,
        description="true: all images in three channels; false: in one; left out: in three where "
        "any of them has colour.",
    )
    background: Background | None = Field(
        None, description="What transparent pixels are laid on; left out: they are refused."
    )
    shape: tuple[int, ...] | None = Field(
        None,
        min_length=2,
        max_length=3,
        description="Height and width (and channels) of the images that rows of numbers are.",
    )
    standardise: bool = Field(
        True,
        description="Numbers that are no pixels: by mean and sd of the training samples, each "
        "column of a table by its own.",
    )

    @model_validator(mode="after")
    def _fits_name(self) -> DataConfig:
        for key, names in _BELONGS_TO.items():
            value = getattr(self, key)
            if self.name in names or value == type(self).model_fields[key].default:
                continue
            if (key, value) == ("test_share", 0.2):
                continue  # the default in the manifests of earlier runs, where it did nothing
            raise ValueError(f"{key} belongs to {', '.join(names)}; the data set is {self.name!r}")
        return self


_TABLES = ("csv", "npz", "leaf", "parquet")
_FILES = ("parquet", "image-folder", "csv", "npz", "leaf")
_BELONGS_TO: dict[str, tuple[str, ...]] = {
    "test_share": (*_FILES, "szt"),
    "test_split": _FILES,
    "image": ("parquet", "npz"),
    "label": ("parquet", "csv", "npz"),
    "features": ("parquet", "csv"),
    "columns": _TABLES,
    "classes": _FILES,
    "colour": ("parquet", "image-folder"),
    "background": ("parquet", "image-folder"),
    "shape": _TABLES,
    "standardise": _TABLES,
}


class PartitionConfig(Section):
    """Who holds what."""

    kind: Literal[
        "iid", "sorted", "classes", "dirichlet", "quantity", "low-data", "natural", "flwr-datasets"
    ] = Field(
        "iid",
        description="iid: equal random parts; sorted: equal parts of the samples sorted by label; "
        "classes: by class map; dirichlet: label skew; quantity: size skew; low-data: few images a "
        "client, each with a label mix of its own; natural: one client for each value of a column, "
        "such as the writer; flwr-datasets: any partitioner of that package "
        "(`pip install 'fedcircuit[data]'`).",
    )
    clients: int | None = Field(
        None,
        gt=0,
        description="Number of clients; not with classes, where the map says it. natural: left "
        "out, all values; fewer, so many of them, drawn by the seed.",
    )
    column: str | None = Field(
        None,
        description="For natural: the column whose values are the clients, such as writer_id; user "
        "for leaf.",
    )
    classes: tuple[tuple[int, ...], ...] | None = Field(
        None,
        description="For kind classes: the classes of each client; a shared class is "
        "given in full to each of its owners.",
    )
    alpha: float | None = Field(
        None,
        gt=0,
        description="For dirichlet, quantity and low-data: concentration; smaller is more skew.",
    )
    samples: int | None = Field(
        None, ge=1, description="For low-data: training images of each client, such as 100."
    )
    min_samples: int = Field(10, ge=1, description="Redraw until every client has this many.")
    personal_test: int | None = Field(
        None,
        ge=1,
        description="Test images each client gets, in the label mix of its training images: every "
        "client's own model is measured on them after training, and the global model after "
        "averaging. Left out: neither.",
    )
    partitioner: str | None = Field(
        None, description="For flwr-datasets: the class, such as PathologicalPartitioner."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="For flwr-datasets: the class's arguments besides the number of clients, "
        "the label column and the seed, such as num_classes_per_partition.",
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _fits_kind(self) -> PartitionConfig:
        if self.kind == "classes":
            if not self.classes:
                raise ValueError("kind 'classes' needs classes, such as [[0, 1, 2], [3, 4, 5]]")
            if self.clients not in (None, len(self.classes)):
                raise ValueError(
                    f"clients is {self.clients}, but classes lists {len(self.classes)} clients; "
                    "leave clients out"
                )
        elif self.classes is not None:
            raise ValueError(f"classes belongs to kind 'classes', the kind is {self.kind!r}")
        if (self.kind == "natural") != (self.column is not None):
            raise ValueError(
                "kind 'natural' needs column, whose values are the clients, such as writer_id"
                if self.column is None
                else f"column belongs to kind 'natural', the kind is {self.kind!r}"
            )
        if self.kind not in ("classes", "natural") and self.clients is None:
            raise ValueError(f"kind {self.kind!r} needs clients, the number of clients")
        if self.kind in ("dirichlet", "quantity", "low-data") and self.alpha is None:
            raise ValueError(f"kind {self.kind!r} needs alpha > 0, such as 0.3")
        if (self.kind == "low-data") != (self.samples is not None):
            raise ValueError(
                "kind 'low-data' needs samples, the images of each client, such as 100"
                if self.samples is None
                else f"samples belongs to kind 'low-data', the kind is {self.kind!r}"
            )
        if self.kind == "flwr-datasets" and self.partitioner is None:
            raise ValueError(
                "kind 'flwr-datasets' needs partitioner, such as PathologicalPartitioner"
            )
        if self.kind != "flwr-datasets" and (self.partitioner is not None or self.options):
            raise ValueError(
                f"partitioner and options belong to kind 'flwr-datasets', the kind is {self.kind!r}"
            )
        return self
