"""Every kind of data set with a small example, for the documentation and for doctor."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class DataExample:
    """A kind of data set.

    Parameters
    ----------
    name
        As in ``data.name``.
    files
        What has to be there.
    yaml
        Keys of a study.
    needs
        Modules that are not always installed.
    """

    name: str
    files: str
    yaml: str
    needs: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Those of the modules that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)


_IDX = "`{}/raw/train-images-idx3-ubyte` and its three companions, each plain or as `.gz`"

EXAMPLES = (
    DataExample("digits", "none: the images are part of scikit-learn", "data: {name: digits}"),
    DataExample("mnist", _IDX.format("MNIST"), "data: {name: mnist, root: data, pool: 2}"),
    DataExample(
        "fashion-mnist", _IDX.format("FashionMNIST"), "data: {name: fashion-mnist, root: data}"
    ),
    DataExample(
        "cifar10",
        "`cifar-10-batches-py/` as it is packed",
        "data: {name: cifar10, root: data, train_limit: 10000}",
    ),
    DataExample(
        "cifar100", "`cifar-100-python/` as it is packed", "data: {name: cifar100, root: data}"
    ),
    DataExample(
        "parquet",
        "`train.parquet` or its shards `train-00000-of-00002.parquet`, there or in `data/`, or "
        "`train/*.parquet`; the same for `test`",
        "data: {name: parquet, root: femnist, label: character, test_share: 0.2}\n"
        "partition: {kind: natural, column: writer_id, clients: 100}",
        ("pyarrow", "PIL"),
    ),
    DataExample(
        "image-folder",
        "`train/CLASS/*.png` and `test/CLASS/*.png` (or `val`, `valid`, `validation`), or with "
        "`test_share` `CLASS/*.png`",
        "data: {name: image-folder, root: photos, colour: true, background: white}",
        ("PIL",),
    ),
    DataExample(
        "csv",
        "`train.csv` and `test.csv` (or `.csv.gz`) with a line of column names, or one file as "
        "`root`",
        "data: {name: csv, root: patients.csv, label: outcome, test_share: 0.25}\n"
        "partition: {kind: natural, column: hospital}\n"
        "model: {name: mlp}",
    ),
    DataExample(
        "npz",
        "one `.npz` with `x_train`, `y_train`, `x_test`, `y_test` or, as MedMNIST, `train_images`, "
        "`train_labels` and so on; or `train.npz` and `test.npz` with `x` and `y`",
        "data: {name: npz, root: pathmnist.npz, test_split: val}",
    ),
    DataExample(
        "leaf",
        "`train/*.json` and `test/*.json` with `users`, `num_samples` and `user_data`, there or in "
        "`data/`",
        "data: {name: leaf, root: femnist}\npartition: {kind: natural, column: user}",
    ),
    DataExample(
        "szt",
        "none: all patterns of 12 bits",
        "data: {name: szt, test_share: 0}\nmodel: {name: mlp}",
    ),
)
