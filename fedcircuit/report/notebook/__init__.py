"""A run as people hold it in a notebook."""

from fedcircuit.report.notebook.loaded_run import Run

__all__ = [
    "Run",
]
