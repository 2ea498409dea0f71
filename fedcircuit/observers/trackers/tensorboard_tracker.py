"""Numbers of every round for TensorBoard, in event files on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedcircuit.observers.trackers.tracking import require_installed, round_numbers
from fedcircuit.records.rounds import Observation, RoundView


class TensorBoardTracker:
    """Writes the numbers of every round into a folder: ``tensorboard --logdir FOLDER``.

    Give it as the last of ``observers``: it passes on what those before it saw. A run that is
    resumed goes on in the same folder; what was written of rounds that are run again is replaced.

    Parameters
    ----------
    folder
        Of the event files; it is made when the first round comes.
    class_names
        By class index.

    Raises
    ------
    ImportError
        If TensorBoard is not installed.
    """

    name = "tensorboard"

    def __init__(self, folder: Path | str, class_names: Sequence[str] = ()) -> None:
        require_installed(self.name, "tensorboard", "tensorboard")
        self._folder, self._class_names = Path(folder), tuple(class_names)
        self._writer: Any = None

    def __call__(self, view: RoundView) -> Observation:
        """Write one round to disk."""
        if self._writer is None:
            self._writer = self._open(view.round)
        for name, value in round_numbers(view, self._class_names).items():
            self._writer.add_scalar(name, value, view.round)
        self._writer.flush()
        return Observation()

    def _open(self, first: int | None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self._folder, purge_step=first)

    def finish(self, report: Path | None = None) -> None:
        """Copy the report beside the event files, name it under Text, and close."""
        if report is not None:
            self._writer = self._writer or self._open(None)
            copy = shutil.copy(report, self._folder / "report.html")
            self._writer.add_text("report", f"the report of this run: {Path(copy).absolute()}")
        if self._writer is not None:
            self._writer.close()
        self._writer = None
