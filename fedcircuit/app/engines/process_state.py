"""What client code may change in the process that it shares with the server, put back after it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept_process_state() -> Iterator[None]:
    """Keep grad mode, default dtype, threads, folder and warnings as they are outside the block.

    Random states are not among them: everything of ours draws from generators of its own.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    threads, folder, filters = torch.get_num_threads(), os.getcwd(), list(warnings.filters)  # noqa: PTH109  # as it is put back
    try:
        yield
    finally:
        if torch.is_grad_enabled() != grad:
            torch.set_grad_enabled(grad)
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if os.getcwd() != folder:  # noqa: PTH109
            os.chdir(folder)
        if list(warnings.filters) != filters:
            warnings.filters[:] = filters  # type: ignore[index]
