"""What would fail in every round is refused before the first one, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from observing_helpers import run
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from toy_federation import (
    N_CLASSES,
    N_INPUTS,
    SortedGrid,
    build_net,
    initial_weights,
    samples_of,
    toy_app,
)

from fedcircuit import CircuitFedAvg, observe

PROBE = samples_of(9, 30)
Labelled = tuple[Any, Any]


def changed(inputs: Tensor, place: int, value: float) -> Tensor:
    inputs = inputs.clone()
    inputs.view(-1)[place] = value
    return inputs


def without_class(index: int) -> Labelled:
    kept = PROBE.labels != index
    return PROBE.inputs[kept], PROBE.labels[kept]


def one_of_class(index: int) -> Labelled:
    kept = PROBE.labels != index
    kept[(~kept).nonzero()[0]] = True
    return PROBE.inputs[kept], PROBE.labels[kept]


PROBES: dict[str, tuple[Labelled, str]] = {
    "NaN": ((changed(PROBE.inputs, 7, torch.nan), PROBE.labels), "1 of 66 inputs of the probe"),
    "all infinite": ((torch.full_like(PROBE.inputs, torch.inf), PROBE.labels), "66 of 66 inputs"),
    "missing class": (without_class(1), "fewer than 2 samples of class 1"),
    "one sample of a class": (one_of_class(2), "fewer than 2 samples of class 2"),
    "label too high": ((PROBE.inputs, PROBE.labels + 1), r"must lie in 0\.\.2 .* got 1\.\.3"),
    "negative label": ((PROBE.inputs, PROBE.labels - 1), r"got -1\.\.1"),
    "halves of labels": ((PROBE.inputs, PROBE.labels + 0.5), "labels must be whole numbers"),
    "one-hot labels": (
        (PROBE.inputs, nn.functional.one_hot(PROBE.labels)), r"got \(66, 3\); one-hot labels",
    ),
    "too few labels": ((PROBE.inputs, PROBE.labels[:9]), r"for the probe's 66 inputs, got \(9,\)"),
    "empty": ((PROBE.inputs[:0], PROBE.labels[:0]), "the probe has no samples"),
    "other shape": (
        (PROBE.inputs[:, :4], PROBE.labels), r"does not take inputs of shape \(66, 4\) \(probe\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", [CircuitFedAvg, lambda **o: observe(FedAvg(), **o)])
@pytest.mark.parametrize("name", PROBES)
def test_a_probe_that_cannot_be_used_is_refused(
    name: str, make: Callable[..., Any], tmp_path: Path
) -> None:
    probe, words = PROBES[name]

    with pytest.raises(ValueError, match=words) as raised:
        make(model=build_net(), probe=probe, run_dir=tmp_path / "run")

    assert len(str(raised.value)) < 1000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [np.asarray, torch.Tensor.tolist, lambda x: x.double()])
def test_what_is_merely_convenient_is_taken(kind: Callable[[Tensor], Any]) -> None:
    probe = (kind(PROBE.inputs), kind(PROBE.labels))
    strategy = observe(FedAvg(), model=build_net(), probe=probe)
    assert getattr(strategy, "fedcircuit_observed", False)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_models_of_other_types_are_observed(kind: torch.dtype) -> None:
    strategy = observe(
        FedAvg(), model=build_net().to(kind), probe=(PROBE.inputs.to(kind), PROBE.labels)
    )
    assert getattr(strategy, "fedcircuit_observed", False)


def test_a_dataset_or_a_loader_is_a_probe() -> None:
    dataset = TensorDataset(PROBE.inputs, PROBE.labels)
    for probe in (dataset, DataLoader(dataset, batch_size=16)):
        strategy = observe(FedAvg(), model=build_net(), probe=probe)
        assert getattr(strategy, "fedcircuit_observed", False)
    with pytest.raises(ValueError, match=r"a probe is \(inputs, labels\)"):
        observe(FedAvg(), model=build_net(), probe=PROBE.inputs)


def spoilt(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(net.parameters())[0, 0] = float("nan")
    return net


MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "DataParallel": (lambda: nn.DataParallel(build_net()), "DataParallel: give the network inside"),
    "compiled": (lambda: torch.compile(build_net()), "OptimizedModule: give the network before"),
    "meta": (lambda: build_net().to("meta"), "on the device 'meta' and has no values"),
    "NaN": (lambda: spoilt(build_net()), r"'0\.weight' of the model holds NaN or infinity"),
    "a function": (lambda: build_net, r"must be a torch\.nn\.Module, got function"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_used_is_refused(name: str, tmp_path: Path) -> None:
    make, words = MODELS[name]
    with pytest.raises(ValueError, match=words):
        observe(
            FedAvg(), model=make(), probe=(PROBE.inputs, PROBE.labels), run_dir=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


class Counting(SortedGrid):
    """Counts the messages of rounds."""

    n_sent = 0

    def push_messages(self, messages: Any) -> list[str]:
        asked = list(messages)
        self.n_sent += sum(m.metadata.message_type == "train" for m in asked)
        return super().push_messages(asked)


def wider() -> nn.Module:
    return nn.Sequential(
        nn.Linear(N_INPUTS, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, N_CLASSES)
    )


WEIGHTS: dict[str, tuple[Callable[[], nn.Module], Callable[[dict], Any], str]] = {
    "NaN": (
        build_net, lambda w: w["0.weight"].__setitem__((0, 0), np.nan), "initial weights holds NaN",
    ),
    "another model": (wider, lambda w: None, r"0\.weight is \(5, 6\), the model's \(7, 6\)"),
    "one layer more": (
        lambda: nn.Sequential(*build_net(), nn.Linear(3, 3)), lambda w: None,
        r"missing \['4\.weight', '4\.bias'\]",
    ),
    "no head": (
        build_net, lambda w: [w.pop(k) for k in list(w) if k.startswith("3.")],
        r"missing \['3\.weight', '3\.bias'\].* clients keep these for themselves",
    ),
    "no batch norm": (
        build_net, lambda w: [w.pop(k) for k in list(w) if k.startswith("1.")],
        r"missing \['1\.weight', '1\.bias', '1\.running_mean'.* for themselves",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", [CircuitFedAvg, lambda **o: observe(FedAvg(), **o)])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_the_models_are_refused_before_anything_is_sent(
    name: str, make: Callable[..., Any]
) -> None:
    model, change, words = WEIGHTS[name]
    weights = {key: np.array(values) for key, values in initial_weights().items()}
    change(weights)
    grid = Counting(toy_app(), 3)
    strategy = make(model=model(), probe=(PROBE.inputs, PROBE.labels))

    with pytest.raises(ValueError, match=words):
        run(strategy, grid, weights=weights)

    assert grid.n_sent == 0
