"""Rules against drift: what clients that train long, or towards their own data, do to the mean."""

from fedcircuit.aggregation.drift.feddyn import FedDyn
from fedcircuit.aggregation.drift.fednova import FedNova
from fedcircuit.aggregation.drift.scaffold import Scaffold

__all__ = ["FedDyn", "FedNova", "Scaffold"]
