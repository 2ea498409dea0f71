"""Flower's nodes: who is there, who is who, who is drawn."""

from fedcircuit.strategies.nodes.grids import GridView, OrderedGrid
from fedcircuit.strategies.nodes.identities import Roster
from fedcircuit.strategies.nodes.sampling import seeded_sampling
from fedcircuit.strategies.nodes.waiting import NodeWait, wait_for_nodes

__all__ = [
    "GridView",
    "NodeWait",
    "OrderedGrid",
    "Roster",
    "seeded_sampling",
    "wait_for_nodes",
]
