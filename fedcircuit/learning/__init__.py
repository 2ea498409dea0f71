"""Sparse networks and how a client trains them: models, sparsity, data, partitions."""
