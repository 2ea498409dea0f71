import pytest
import torch
from torch import nn
from torch.nn import functional

from fedcircuit.circuits.methods.fedmi import FedMI
from fedcircuit.circuits.search.protocol import Task
from fedcircuit.circuits.sites.finding import find_sites
from fedcircuit.learning.networks.models import build_model
from fedcircuit.learning.training.local_training import LocalTraining, train_local
from fedcircuit.samples import Samples


def problem() -> tuple[nn.Module, Samples]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(20)
    inputs = 0.3 * torch.randn(60, 1, 8, 8, generator=generator)
    for index in range(3):
        inputs[labels == index, 0, 2 * index : 2 * index + 2] += 1.0
    samples = Samples(inputs, labels)
    model = build_model("simple-cnn", (1, 8, 8), 3, seed=0, widths=(6, 8))
    train_local(
        model, samples, LocalTraining(epochs=10, batch_size=20, optimizer="adam", lr=0.01),
        n_classes=3, seed=0,
    )  # fmt: skip
    return model, samples


def reference_gates(model: nn.Module, samples: Samples, target: int, steps: int) -> torch.Tensor:
    """The published procedure written out for this one network, without hooks."""
    generator = torch.Generator().manual_seed(7 + target)
    first, second = torch.full((6,), 2.0), torch.full((8,), 2.0)
    gates = [first.requires_grad_(), second.requires_grad_()]
    optimizer = torch.optim.Adam(gates, lr=0.1)

    def hard(gate: torch.Tensor) -> torch.Tensor:
        soft = torch.sigmoid(gate)
        return ((gate > 0).float() - soft.detach() + soft).reshape(1, -1, 1, 1)

    for _ in range(steps):
        order = torch.randperm(60, generator=generator)
        rows = order[:256][samples.labels[order[:256]] == target]
        x = model[2](torch.relu(model[0](samples.inputs[rows]) * hard(gates[0])))
        x = model[5](torch.relu(model[3](x) * hard(gates[1])))
        logits = model[7](torch.flatten(x, 1))
        loss = functional.cross_entropy(logits, torch.full((len(rows),), target))
        loss = loss + 0.01 * (torch.sigmoid(gates[0]).sum() + torch.sigmoid(gates[1]).sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cat([gate.detach() for gate in gates])


def run(method: FedMI) -> object:
    model, samples = problem()
    sites = find_sites(model, samples.inputs)
    return method(model, sites, Task(samples, 3, None), torch.Generator().manual_seed(7))


def test_gates_equal_the_published_procedure_written_out() -> None:
    model, samples = problem()

    found = run(FedMI(steps=40))

    for index in range(3):
        expected = reference_gates(model, samples, index, 40)
        assert torch.allclose(found.scores[index], expected, atol=1e-4)
        assert torch.equal(found.masks[index], expected > 0)


def test_all_gates_reach_zero_together_at_step_twenty() -> None:
    open_units = [int(run(FedMI(steps=steps, classes=(0,))).masks[0].sum()) for steps in (18, 21)]

    assert open_units[0] == 14  # every gate still open: each step moves each by about lr
    assert open_units[1] < 14


def test_classes_not_asked_for_are_no_empty_circuits() -> None:
    alone, together = run(FedMI(steps=5, classes=(1,))), run(FedMI(steps=5))

    assert alone.found.tolist() == [False, True, False]
    assert alone.reasons == ("not asked for", "", "not asked for")
    assert torch.equal(alone.scores[1], together.scores[1])


def test_a_model_without_convolutions_is_refused() -> None:
    model = build_model("mlp", (1, 8, 8), 3, seed=0)
    _, samples = problem()

    with pytest.raises(ValueError, match="gates convolution channels; the model has none"):
        FedMI()(model, find_sites(model, samples.inputs), Task(samples, 3, None),
                torch.Generator())  # fmt: skip
