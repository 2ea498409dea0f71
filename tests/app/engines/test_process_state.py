"""A client in this process leaves grad mode, dtype, threads, folder and warnings as they were."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedcircuit.app.engines.grid import InProcessGrid


def state() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads(), Path.cwd(),
        list(warnings.filters),
    )  # fmt: skip


@pytest.mark.parametrize("raises", [False, True])
def test_what_a_client_changes_is_put_back(raises: bool) -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 3)
        os.chdir("/")
        warnings.simplefilter("ignore")
        if raises:
            raise RuntimeError("boom")
        return Message(RecordDict(), reply_to=message)

    grid, before = InProcessGrid(app, 1), state()
    (reply,) = grid.send_and_receive([Message(RecordDict(), grid.get_node_ids()[0], "train")])

    assert reply.has_error() is raises
    assert state() == before
