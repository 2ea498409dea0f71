"""Budgets under which a pass holds a few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from fedcircuit.circuits.circuit import Site
from fedcircuit.circuits.masking.memory import Memory
from fedcircuit.circuits.search.protocol import Task


def scarce(memory: Memory, rows: int) -> Memory:
    """The least budget with which so many rows share a pass that is differentiated."""
    row = 4 * memory.largest + 16 * memory.n_units + memory.made + 3 * memory.sites
    found = replace(memory, budget=2 * rows * row)
    assert found.rows(graph=True) == rows
    return found


def in_parts(task: Task, model: nn.Module, sites: Sequence[Site], rows: int) -> Task:
    """The task with memory for so many rows."""
    return replace(task, memory=scarce(task.memory_of(model, sites), rows))
