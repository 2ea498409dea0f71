"""SGD and Adam on the CPU by the functions of ``torch.optim``, without its classes.

Making an object of a class of ``torch.optim`` imports torch's compiler, which takes longer than a
small federation trains, and every worker process pays it again. The functions do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_step
from torch.optim.sgd import sgd as sgd_step


class Optimizer(Protocol):
    """What training needs of an optimiser; those of ``torch.optim`` have it as well."""

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """What is kept of every parameter: tensors by slot."""
        ...

    def zero_grad(self) -> None:
        """Forget all gradients."""
        ...

    def step(self) -> None:
        """Change the parameters that have a gradient."""
        ...


class _Steps:
    """Parameters, their state, and the loop over them."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = tuple(parameters)
        self.lr, self.weight_decay = lr, weight_decay
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        trained: list[Tensor] = [p for p in self.parameters if p.grad is not None]
        if trained:
            self._change(trained, [p.grad for p in trained if p.grad is not None])

    def _change(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        raise NotImplementedError


class SGD(_Steps):
    """Stochastic gradient descent, ``torch.optim.sgd.sgd``.

    Parameters
    ----------
    parameters
        To be changed, on the CPU.
    lr, momentum, weight_decay
        As in ``torch.optim.SGD``.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def _change(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        own = [self.state.get(parameter, {}) for parameter in parameters]
        kept: list[Tensor | None] = [slots.get("momentum_buffer") for slots in own]
        sgd_step(
            parameters, gradients, kept, foreach=False, fused=False, has_sparse_grad=False,
            weight_decay=self.weight_decay, momentum=self.momentum, lr=self.lr, dampening=0.0,
            nesterov=False, maximize=False,
        )  # fmt: skip
        for parameter, buffer in zip(parameters, kept, strict=True):
            if buffer is not None:
                self.state[parameter] = {"momentum_buffer": buffer}


class Adam(_Steps):
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980), ``torch.optim.adam.adam``.

    Parameters
    ----------
    parameters
        To be changed, on the CPU.
    lr, weight_decay
        As in ``torch.optim.Adam``, whose defaults the rest has.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)

    def _change(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        for parameter in parameters:
            if not self.state.get(parameter):
                self.state[parameter] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }
        own = [self.state[parameter] for parameter in parameters]
        adam_step(
            parameters, gradients, [slots["exp_avg"] for slots in own],
            [slots["exp_avg_sq"] for slots in own], [], [slots["step"] for slots in own],
            foreach=False, fused=False, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.lr,
            weight_decay=self.weight_decay, eps=1e-8, maximize=False,
        )  # fmt: skip


def adam(parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float = 0.0) -> Optimizer:
    """Adam: the function on the CPU, the class elsewhere (a GPU changes all parameters at once)."""
    kind = Adam if on_cpu(parameters) else torch.optim.Adam
    return kind(parameters, lr=lr, weight_decay=weight_decay)


def sgd(
    parameters: Sequence[nn.Parameter], *, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """SGD: the function on the CPU, the class elsewhere."""
    kind = SGD if on_cpu(parameters) else torch.optim.SGD
    return kind(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


def on_cpu(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether all parameters are real dense numbers on the CPU."""
    return all(p.device.type == "cpu" and not p.is_complex() for p in parameters)
