"""Which data set, where its files are, and what a reader of files hands over."""

from fedcircuit.learning.sources.data_source import (
    DATASET_NAMES,
    Background,
    DatasetName,
    DataSource,
    data_root,
)
from fedcircuit.learning.sources.raw_data import (
    Array,
    Inputs,
    MissingDataError,
    RawData,
    RawSplit,
    Rows,
    row_of,
)

__all__ = [
    "Array",
    "Background",
    "DATASET_NAMES",
    "DataSource",
    "DatasetName",
    "Inputs",
    "MissingDataError",
    "RawData",
    "RawSplit",
    "Rows",
    "data_root",
    "row_of",
]
