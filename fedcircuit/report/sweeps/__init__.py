"""A sweep compared: its table, its figure, its page."""

from fedcircuit.report.sweeps.measures import FIGURES, Figure, runs_table
from fedcircuit.report.sweeps.page import write_sweep_report
from fedcircuit.report.sweeps.statistics import bca_interval, holm, paired_p
from fedcircuit.report.sweeps.tables import Compared, compared
from fedcircuit.report.sweeps.words import sweep_text

__all__ = [
    "Compared",
    "FIGURES",
    "Figure",
    "bca_interval",
    "compared",
    "holm",
    "paired_p",
    "runs_table",
    "sweep_text",
    "write_sweep_report",
]
