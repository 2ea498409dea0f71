"""A run as people hold it in a notebook: its tables, its figures, and itself at a glance."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from fedcircuit.records.runs import run as recorded
from fedcircuit.report.notebook.glance import run_html, verdicts_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICTS = "verdicts"


class VerdictTable(pd.DataFrame):
    """The table ``verdicts`` of a run; a notebook shows the newest round as a grid.

    Whatever is computed from it is an ordinary frame.
    """

    _metadata: ClassVar[list[str]] = ["run"]
    run: recorded.Run | None = None

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _repr_html_(self) -> str:
        """The newest round: verdicts and statuses with counts, chance and accuracy beside."""
        if self.run is None:
            return pd.DataFrame(self).to_html(max_rows=20)
        return verdicts_html(self.run)


class Run(recorded.Run):
    """What a run had recorded when it was loaded, with its figures; make one with ``load``.

    Files are read when something is asked of them. A run may still be growing: ``refresh`` takes
    in what came since.
    """

    def plot(self, figure: str) -> Figure:
        """One of the report's figures, not known to pyplot: there is nothing to be closed.

        Parameters
        ----------
        figure
            ``accuracy``, ``class-recall``, ``overlap``, ``class-swap``, ``verdicts``,
            ``function``, ``sizes``, ``inertia`` or ``information``.

        Raises
        ------
        ValueError
            If there is no such figure, or the run recorded nothing to draw in it.
        """
        from fedcircuit.report.figures import FIGURES, paper_style  # loads seaborn

        if figure not in FIGURES:
            near = difflib.get_close_matches(str(figure), FIGURES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"unknown figure {figure!r}; {hint}known: {', '.join(FIGURES)}")
        with paper_style():
            drawn = FIGURES[figure](self)
        if drawn is None:
            raise ValueError(
                f"{self.path} recorded nothing to draw in {figure!r}; it has the tables "
                f"{', '.join(self.table_names) or 'of no observer'}"
            )
        return drawn[0]

    def table(self, name: str) -> pd.DataFrame:
        """A table of all rounds, the column ``round`` first; an undefined number is NaN.

        A ``layer`` or ``site`` is called as people do (``conv1``, ``fc1``, or its own name), with
        the module path beside it in ``path``. In a notebook the table ``verdicts`` shows the
        newest round as a grid.

        Raises
        ------
        UnknownTableError
            If no round has such a table; the nearest name is given. It is a KeyError too.
        """
        frame = super().table(name)
        if name != VERDICTS:
            return frame
        shown = VerdictTable(frame)
        shown.run = self
        return shown

    def _repr_html_(self) -> str:
        """What a notebook shows: what it is, what averaging did, accuracy and chance beside it."""
        return run_html(self)
