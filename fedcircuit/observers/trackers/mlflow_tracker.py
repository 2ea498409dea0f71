"""Numbers of every round for MLflow, in a data base on this machine unless asked otherwise."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedcircuit.observers.trackers.tracking import kept_id, require_installed, round_numbers
from fedcircuit.records.rounds import Observation, RoundView

MOST_METRICS = 1000  # MLflow takes no more at once


class MlflowTracker:
    """Logs the numbers of every round as a run of MLflow.

    Without ``uri`` they go to ``FOLDER/mlflow.db``, and nothing leaves this machine:
    ``mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`` shows them. Give it as the last of
    ``observers``: it passes on what those before it saw. A run that is resumed goes on under the
    same identity, which is kept in the folder.

    Parameters
    ----------
    folder
        Of the data base, the report and the run's identity; made when the first round comes.
    class_names
        By class index.
    project, run_name
        Experiment and run as MLflow shows them.
    uri
        A tracking server of your own.

    Raises
    ------
    ImportError
        If MLflow, or what it keeps its data base with, is not installed.
    """

    name = "mlflow"

    def __init__(
        self,
        folder: Path | str,
        class_names: Sequence[str] = (),
        *,
        project: str = "fedcircuit",
        run_name: str | None = None,
        uri: str | None = None,
    ) -> None:
        for module in ("mlflow", *(("sqlalchemy", "alembic") if uri is None else ())):
            package = "mlflow-skinny" if module == "mlflow" else module
            require_installed(self.name, module, package)
        self._folder, self._class_names = Path(folder), tuple(class_names)
        self._project, self._run_name, self._uri = project, run_name, uri
        self._client: Any = None
        self._run_id = ""

    def __call__(self, view: RoundView) -> Observation:
        """Log one round."""
        client = self._opened()
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, view.round)
            for name, value in round_numbers(view, self._class_names).items()
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            client.log_batch(self._run_id, metrics=metrics[start : start + MOST_METRICS])
        return Observation()

    def _opened(self) -> Any:
        if self._client is not None:
            return self._client
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # "Creating tables"
        folder = self._folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=self._uri or f"sqlite:///{folder / 'mlflow.db'}")
        if not (folder / "mlflow-run-id").is_file():
            kept_id(folder, "mlflow-run-id", self._new_run(client, folder))
        self._run_id = kept_id(folder, "mlflow-run-id")
        client.update_run(self._run_id, status="RUNNING")
        self._client = client
        return client

    def _new_run(self, client: Any, folder: Path) -> str:
        known = client.get_experiment_by_name(self._project)
        if known is not None:
            experiment = known.experiment_id
        else:
            place = None if self._uri else (folder / "artifacts").as_uri()
            experiment = client.create_experiment(self._project, artifact_location=place)
        return str(client.create_run(experiment, run_name=self._run_name).info.run_id)

    def finish(self, report: Path | None = None) -> None:
        """Add the report to the run's artifacts, and close it."""
        if report is not None:
            self._opened().log_artifact(self._run_id, str(report))
        if self._client is not None:
            self._client.set_terminated(self._run_id)
        self._client = None
