"""A run folder: written, read, looked at again, verified."""

from fedcircuit.records.runs import run
from fedcircuit.records.runs.folder import LOOK, MANIFEST, ROUNDS, RunFolder
from fedcircuit.records.runs.frames import Frames
from fedcircuit.records.runs.looks import Look, look_names, look_path, seal_of
from fedcircuit.records.runs.run import CIRCUITS, Run
from fedcircuit.records.runs.store import RunStore
from fedcircuit.records.runs.verification import as_text, verify_run

__all__ = [
    "CIRCUITS",
    "Frames",
    "LOOK",
    "Look",
    "MANIFEST",
    "ROUNDS",
    "Run",
    "RunFolder",
    "RunStore",
    "as_text",
    "look_names",
    "look_path",
    "run",
    "seal_of",
    "verify_run",
]
