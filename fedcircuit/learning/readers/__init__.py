"""Readers of data in files: each hands over what it found, nothing is guessed."""

from fedcircuit.learning.readers import pictures
from fedcircuit.learning.readers.checks import inputs_of, require_labels, statistics
from fedcircuit.learning.readers.idx import read_idx, unfound_idx_files
from fedcircuit.learning.readers.image_folder import read_image_folder
from fedcircuit.learning.readers.leaf import read_leaf
from fedcircuit.learning.readers.npz import read_npz
from fedcircuit.learning.readers.parquet import read_parquet
from fedcircuit.learning.readers.tables import read_csv

__all__ = [
    "inputs_of",
    "pictures",
    "read_csv",
    "read_idx",
    "read_image_folder",
    "read_leaf",
    "read_npz",
    "read_parquet",
    "require_labels",
    "statistics",
    "unfound_idx_files",
]
