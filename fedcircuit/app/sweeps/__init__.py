"""Sweeps: whole federations of several arms, paired by seed, run and gone on with."""

from fedcircuit.app.sweeps.arms import parse_arms, parse_seeds
from fedcircuit.app.sweeps.one_run import Event
from fedcircuit.app.sweeps.planning import PAIRED, plan_sweep
from fedcircuit.app.sweeps.running import SweepError, run_sweep

__all__ = [
    "Event",
    "PAIRED",
    "SweepError",
    "parse_arms",
    "parse_seeds",
    "plan_sweep",
    "run_sweep",
]
