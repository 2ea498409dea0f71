"""Circuits made of edges: what each unit reads of each unit of the layer before it."""

from fedcircuit.circuits.edges.edge_checks import EdgeCheck
from fedcircuit.circuits.edges.edge_circuit import EdgeCircuit, EdgeLayer, split_by_layer
from fedcircuit.circuits.edges.edge_discovery import EdgeDiscovery, edge_circuits
from fedcircuit.circuits.edges.edge_layers import existing_edges, find_edge_layers, layer_references
from fedcircuit.circuits.edges.edge_overlap import (
    EdgeOverlap,
    edge_iou,
    edge_overlaps,
    induced_edge_iou,
)
from fedcircuit.circuits.edges.edge_paths import on_path
from fedcircuit.circuits.edges.reduced_model import edge_logits
from fedcircuit.circuits.edges.scoring import edge_effects, edge_scores

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
    "split_by_layer",
]
