"""The trackers of a study: made before its first round, given the report after its last."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedcircuit.app.config import StudyConfig, TrackerConfig
from fedcircuit.observers.trackers import MlflowTracker, TensorBoardTracker, Tracker, WandbTracker
from fedcircuit.records.files import in_short
from fedcircuit.records.runs import Run
from fedcircuit.report.page import write_report

logger = logging.getLogger(__name__)


def study_trackers(
    config: StudyConfig, path: Path, class_names: Sequence[str] = ()
) -> list[Tracker]:
    """The trackers that a study asks for; nothing is written yet.

    Parameters
    ----------
    config, path
        The study and its run folder.
    class_names
        By class index.

    Raises
    ------
    ImportError
        If a library is missing; the command that installs it is named.
    """
    return [_tracker(one, config.name, path, class_names) for one in config.trackers]


def _tracker(config: TrackerConfig, study: str, path: Path, class_names: Sequence[str]) -> Tracker:
    folder = Path(config.folder) if config.folder else path / "trackers" / config.name
    if config.name == "tensorboard":
        return TensorBoardTracker(folder, class_names)
    if config.name == "wandb":
        return WandbTracker(
            folder, class_names, project=config.project, run_name=study, mode=config.mode
        )
    return MlflowTracker(
        folder, class_names, project=config.project, run_name=study, uri=config.uri
    )


@contextmanager
def tracked(trackers: Sequence[Tracker], path: Path) -> Iterator[None]:
    """Close the trackers afterwards, with the report where all rounds are there.

    What fails in them is logged: the rounds are recorded already.
    """
    report = None
    try:
        yield
        if trackers:
            report = write_report(Run.load(path))
    finally:
        for tracker in trackers:
            _finish(tracker, report)


def _finish(tracker: Tracker, report: Path | None) -> None:
    try:
        tracker.finish(report)
    except Exception as error:  # noqa: BLE001  # of somebody else's library
        logger.warning("tracker %s could not be closed: %s", tracker.name, in_short(error))
