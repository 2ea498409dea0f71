"""SGD and Adam on the CPU, step for step and bit for bit those of ``torch.optim``.

The classes of ``torch.optim`` import torch's compiler when the first one is made, which takes
longer than a small federation trains, and every worker process pays it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


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
        for parameter in self.parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            if self.weight_decay:
                gradient = gradient.add(parameter, alpha=self.weight_decay)
            self._change(parameter, gradient)

    def _change(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        raise NotImplementedError


class SGD(_Steps):
    """Stochastic gradient descent; with momentum m the direction is ``b = m b + g``.

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

    def _change(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        if self.momentum:
            own = self.state.setdefault(parameter, {})
            if "momentum_buffer" in own:
                own["momentum_buffer"].mul_(self.momentum).add_(gradient)
            else:
                own["momentum_buffer"] = gradient.clone()
            gradient = own["momentum_buffer"]
        parameter.add_(gradient, alpha=-self.lr)


class Adam(_Steps):
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980).

    Parameters
    ----------
    parameters
        To be changed, on the CPU.
    lr, weight_decay
        As in ``torch.optim.Adam``, whose defaults the rest has.
    """

    betas = (0.9, 0.999)
    eps = 1e-8

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)

    def _change(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        own = self.state.setdefault(parameter, {})
        if not own:
            own["step"] = torch.tensor(0.0)
            own["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            own["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        own["step"] += 1
        step, (beta1, beta2) = own["step"].item(), self.betas
        own["exp_avg"].lerp_(gradient, 1 - beta1)
        own["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (1 - beta2**step) ** 0.5
        denominator = (own["exp_avg_sq"].sqrt() / scale).add_(self.eps)
        size = self.lr / (1 - beta1**step)
        parameter.addcdiv_(own["exp_avg"], denominator, value=-size)


def adam(parameters: Sequence[nn.Parameter], *, lr: float, weight_decay: float = 0.0) -> Optimizer:
    """Adam: ours on the CPU, torch's elsewhere (on a GPU it changes all parameters at once)."""
    kind = Adam if on_cpu(parameters) else torch.optim.Adam
    return kind(parameters, lr=lr, weight_decay=weight_decay)


def sgd(
    parameters: Sequence[nn.Parameter], *, lr: float, momentum: float, weight_decay: float
) -> Optimizer:
    """SGD: ours on the CPU, torch's elsewhere."""
    kind = SGD if on_cpu(parameters) else torch.optim.SGD
    return kind(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


def on_cpu(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether all parameters are real dense numbers on the CPU."""
    return all(p.device.type == "cpu" and not p.is_complex() for p in parameters)
