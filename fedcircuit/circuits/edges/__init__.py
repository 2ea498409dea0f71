"""Circuits made of edges: what each unit reads of each unit of the layer before it."""

from fedcircuit.circuits.edges.checks import EdgeCheck
from fedcircuit.circuits.edges.circuit import EdgeCircuit, EdgeLayer
from fedcircuit.circuits.edges.discover import EdgeDiscovery, edge_circuits
from fedcircuit.circuits.edges.layers import existing_edges, find_edge_layers, layer_references
from fedcircuit.circuits.edges.overlap import EdgeOverlap, edge_iou, edge_overlaps, induced_edge_iou
from fedcircuit.circuits.edges.paths import on_path
from fedcircuit.circuits.edges.reduced import edge_logits
from fedcircuit.circuits.edges.scores import edge_effects, edge_scores

__all__ = [
    "EdgeCheck",
    "EdgeCircuit",
    "EdgeDiscovery",
    "EdgeLayer",
    "EdgeOverlap",
    "edge_circuits",
    "edge_effects",
    "edge_iou",
    "edge_logits",
    "edge_overlaps",
    "edge_scores",
    "existing_edges",
    "find_edge_layers",
    "induced_edge_iou",
    "layer_references",
    "on_path",
]
