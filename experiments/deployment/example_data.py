"""Gives every SuperNode of a folder a part of scikit-learn's digits, in its own data folder.

    python example_data.py FOLDER

Each device holds neighbouring digits and shares some with the next. With data of your own, put
``train.npz`` and ``test.npz`` (``inputs [n, ...]`` float, ``labels [n]`` integers) there instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from fedcircuit import Samples
from fedcircuit.learning.data import load_dataset
from fedcircuit.learning.sources import DataSource

N_CLASSES = 10


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder that deploy.py prepare made")
    folder = parser.parse_args().folder / "nodes"
    if not folder.is_dir():
        sys.exit(f"error: {folder} is no folder; 'deploy.py prepare' makes it")
    nodes = sorted(folder.iterdir(), key=lambda path: int(path.name))
    digits = load_dataset(DataSource("digits"), seed=0)
    for index, node in enumerate(nodes):
        held = held_classes(index, len(nodes))
        data = node / "data"
        data.mkdir(exist_ok=True)
        for name, samples in (("train", digits.train), ("test", digits.test)):
            write_samples(data / f"{name}.npz", samples, held)
        print(f"{data}: digits {held.start} to {held.stop - 1}")


def held_classes(index: int, n_nodes: int) -> range:
    """The neighbouring classes that a device holds."""
    width = min(N_CLASSES, N_CLASSES // n_nodes + 1)
    first = index * (N_CLASSES - width) // max(1, n_nodes - 1)
    return range(first, first + width)


def write_samples(path: Path, samples: Samples, held: range) -> None:
    """Samples of some classes as a file that ``numpy.load`` reads."""
    mine = samples.take((samples.labels >= held.start) & (samples.labels < held.stop))
    np.savez(path, inputs=mine.inputs.numpy(), labels=mine.labels.numpy())


if __name__ == "__main__":
    main()
