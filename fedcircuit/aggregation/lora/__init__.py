"""Merging low-rank adapters (LoRA): ways to average a layer's two factors over the clients."""

from fedcircuit.aggregation.lora.merging import (
    FactorPair,
    Merged,
    MergeMode,
    merge,
    merge_factors,
    merge_freeze_a,
    merge_product,
)

__all__ = [
    "FactorPair",
    "MergeMode",
    "Merged",
    "merge",
    "merge_factors",
    "merge_freeze_a",
    "merge_product",
]
