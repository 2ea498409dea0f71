"""What the layers in the tables of a run are called; the module path stands beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from fedcircuit.circuits import Site
from fedcircuit.circuits.models import RESERVED, Names, model_names
from fedcircuit.records.files import Array, RunError

PATH = "path"  # column beside a name: the module, or the tensor, it stands for
NAMED_COLUMNS = ("layer", "site")  # columns that hold module paths on disk

Weights = Callable[[], dict[str, Array]]  # reads them


class LayerNames:
    """Names of the layers of a run.

    Earlier versions recorded no names: then the weights tell what kind of layer each is.

    Parameters
    ----------
    sites
        The table ``sites`` as it stands on disk; None where there is none.
    weights
        Reads the weights of a round. They are read only where the table does not suffice.
    """

    def __init__(self, sites: pd.DataFrame | None, weights: Weights) -> None:
        rows = pd.DataFrame({"site": []}) if sites is None else sites
        rows = rows.drop_duplicates("site", keep="last")  # earlier rounds may lack names
        paths = [str(path) for path in rows["site"]]
        kinds = _texts(rows, "kind")
        self._sites = list(zip(paths, kinds, strict=True))
        self._recorded = dict(zip(paths, _texts(rows, "name"), strict=True))
        self._weights = weights
        self._whole: Names | None = None

    @property
    def names(self) -> Names:
        """Of sites and of all other layers that have weights."""
        if self._whole is None:
            try:
                axes = {name: values.ndim for name, values in self._weights().items()}
            except RunError:  # the tables can be read without the weights
                axes = {}
            self._whole = model_names(self._sites, axes, self._recorded)
        return self._whole

    def of(self, path: str) -> str:
        """Name of a module, or of a tensor in one; its path where nothing else is known."""
        if path in RESERVED:
            return path
        return self._recorded.get(path) or self.names(path)

    def called(self, sites: Sequence[Site]) -> tuple[Site, ...]:
        """The sites with what they are called, where that was not recorded."""
        if all(site.called for site in sites):
            return tuple(sites)
        kinds = self.names.kinds
        return tuple(
            replace(site, kind=kinds.get(site.name, ""), called=self.of(site.name))
            for site in sites
        )

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table with names in its column ``layer`` or ``site``, and ``path`` right beside it.

        Figures over all layers have an empty path. A table without such a column, or with numbers
        in it, comes back as it is.
        """
        for column in NAMED_COLUMNS:
            if column not in frame or PATH in frame or not len(frame):
                continue
            if not all(isinstance(path, str) for path in frame[column].unique()):
                continue
            names = {path: self.of(path) for path in frame[column].unique()}
            paths = frame[column].map(lambda path: "" if path in RESERVED else path)
            at = list(frame.columns).index(column)
            frame = frame.assign(**{column: frame[column].map(names)})
            frame.insert(at + 1, PATH, paths)
        return frame.drop(columns="name") if "site" in frame and "name" in frame else frame


def _texts(rows: pd.DataFrame, column: str) -> list[str]:
    if column not in rows:
        return [""] * len(rows)
    return ["" if pd.isna(value) else str(value) for value in rows[column]]
