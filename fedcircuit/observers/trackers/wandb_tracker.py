"""Numbers of every round for Weights & Biases, on this machine unless asked otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fedcircuit.observers.trackers.tracking import kept_id, require_installed, round_numbers
from fedcircuit.records.rounds import Observation, RoundView


class WandbTracker:
    """Logs the numbers of every round as a run of Weights & Biases.

    Offline, nothing leaves this machine: ``wandb sync FOLDER/wandb/offline-run-*`` sends it later.
    Give it as the last of ``observers``: it passes on what those before it saw. A run that is
    resumed goes on under the same identity, which is kept in the folder.

    Parameters
    ----------
    folder
        Of the run's files and its identity; it is made when the first round comes.
    class_names
        By class index.
    project, run_name
        As Weights & Biases shows them.
    mode
        ``"online"`` sends every round at once, to where ``wandb login`` said.

    Raises
    ------
    ImportError
        If Weights & Biases is not installed.
    ValueError
        If there is no such mode.
    """

    name = "wandb"

    def __init__(
        self,
        folder: Path | str,
        class_names: Sequence[str] = (),
        *,
        project: str = "fedcircuit",
        run_name: str | None = None,
        mode: Literal["offline", "online"] = "offline",
    ) -> None:
        require_installed(self.name, "wandb", "wandb")
        if mode not in ("offline", "online"):
            raise ValueError(f"mode must be 'offline' or 'online', got {mode!r} (wandb tracker)")
        self._folder, self._class_names = Path(folder), tuple(class_names)
        self._project, self._run_name, self._mode = project, run_name, mode
        self._run: Any = None

    def __call__(self, view: RoundView) -> Observation:
        """Log one round."""
        run = self._opened()
        numbers = round_numbers(view, self._class_names)
        run.log({"round": view.round, **numbers}, step=view.round)
        return Observation()

    def _opened(self) -> Any:
        if self._run is not None:
            return self._run
        if self._mode == "offline":  # read when it is imported
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        identity = kept_id(self._folder, "wandb-run-id")
        settings = wandb.Settings(
            mode=self._mode,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
        )
        self._run = wandb.init(
            project=self._project,
            name=self._run_name,
            id=identity,
            resume="allow",
            dir=str(self._folder),
            settings=settings,
        )
        return self._run

    def finish(self, report: Path | None = None) -> None:
        """Add the report to the run's files, and close it."""
        if report is not None:
            run = self._opened()
            copy = shutil.copy(report, run.dir)  # a file elsewhere would become a link
            run.save(copy, base_path=run.dir, policy="now")
        if self._run is not None:
            self._run.finish()
        self._run = None
