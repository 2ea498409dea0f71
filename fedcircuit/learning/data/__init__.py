"""Data sets as tensors in memory."""

from typing import TYPE_CHECKING

from fedcircuit.learning.data.datasets import Dataset, Reader, load_dataset, stratified_subset
from fedcircuit.learning.data.torchvision_files import import_torchvision, missing_files

__all__ = [
    "Dataset",
    "Reader",
    "import_torchvision",
    "load_dataset",
    "missing_files",
    "stratified_subset",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
