"""From a configuration to a federation that has run, or is looked at again."""

from typing import TYPE_CHECKING

from fedcircuit.app.study.data import PartitionedData, dataset_of, partition_of, source_of
from fedcircuit.app.study.federation import (
    checked_study,
    new_run_path,
    resume_run,
    run_study,
    study_of,
)
from fedcircuit.app.study.looking import look
from fedcircuit.app.study.memory import forgotten, kept_by_clients
from fedcircuit.app.study.parts import (
    ModelFactory,
    Study,
    build_study,
    circuit_settings,
    local_training,
)
from fedcircuit.app.study.round_text import round_line

__all__ = [
    "round_line",
    "ModelFactory",
    "PartitionedData",
    "Study",
    "build_study",
    "checked_study",
    "circuit_settings",
    "dataset_of",
    "forgotten",
    "kept_by_clients",
    "local_training",
    "look",
    "new_run_path",
    "partition_of",
    "resume_run",
    "run_study",
    "source_of",
    "study_of",
]

if not TYPE_CHECKING:
    from fedcircuit.moved import old_names

    __getattr__ = old_names(__name__)
