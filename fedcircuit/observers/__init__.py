"""What is looked at after every aggregation: each observer turns a round into tables."""

from fedcircuit.observers.evaluation import EvaluationObserver
from fedcircuit.observers.inertia import InertiaObserver
from fedcircuit.observers.information import InformationObserver, information_of_run
from fedcircuit.observers.looking import ANEW, Asked, look_again

__all__ = [
    "ANEW",
    "Asked",
    "EvaluationObserver",
    "InertiaObserver",
    "InformationObserver",
    "information_of_run",
    "look_again",
]
