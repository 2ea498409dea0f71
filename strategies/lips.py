"""LIPS around any strategy: every few rounds clients start from a masked global model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import nn

from fedcircuit import messages
from fedcircuit.aggregation import Include, LipsSettings, lips
from fedcircuit.learning import Weights, derived_seed
from fedcircuit.strategies.message_api import ConfigEntry, put_in
from fedcircuit.wire import decoded


class LIPS(Strategy):
    """Transient sparsity in the download (arXiv 2506.00932), around another strategy.

    Every ``period`` rounds the entries of the middle layers with the lowest scores are set to zero
    in what clients receive. Training is dense, the aggregation is that of the wrapped strategy,
    and clients evaluate the dense global model. With ``d0=1`` nothing is changed, bit for bit.

    Parameters
    ----------
    strategy
        Any message-based strategy of Flower, observed or not.
    settings
        See :class:`fedcircuit.aggregation.LipsSettings`; its fields may be given as keywords
        instead: ``LIPS(FedAvg(), d0=0.3, score="random")``.
    model, include
        Which weights may be masked: those of the model's modules for which
        ``include(name, module)`` is true. Left out: all but the first and the last weight.
    layers
        Their names, instead of a model.
    n_rounds
        Rounds of the whole run, over which the density grows; left out: those of ``start``.
    seed
        Of random masks.
    initial
        Initial weights by name, for ``reset="init"``; left out: those of round 1.

    Raises
    ------
    TypeError
        If what is wrapped is no message-based strategy.
    ValueError
        If the settings are out of range, or contradict each other.
    """

    def __init__(
        self,
        strategy: Strategy,
        settings: LipsSettings | None = None,
        *,
        model: nn.Module | None = None,
        include: Include | None = None,
        layers: Iterable[str] | None = None,
        n_rounds: int | None = None,
        seed: int = 0,
        initial: Weights | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(strategy, Strategy):
            raise TypeError(
                "LIPS wraps message-based strategies (flwr.serverapp.strategy), got "
                f"{type(strategy).__module__}.{type(strategy).__qualname__}"
            )
        if (model is None) != (include is None):
            raise ValueError("give both model and include, or neither")
        if include is not None and layers is not None:
            raise ValueError("give include or layers, not both")
        self.strategy = strategy
        self.settings = replace(settings or LipsSettings(), **options)
        self.n_rounds = n_rounds
        self.seed = seed
        self._layers = None if layers is None else tuple(layers)
        if model is not None and include is not None:
            self._layers = lips.included_layers(model, include)
        # in a tuple: a dict would count as state that is recorded every round
        self._initial = None if initial is None else (dict(initial),)

    def __getattr__(self, name: str) -> Any:
        """Hooks and settings of the wrapped strategy, such as its minimum of nodes."""
        if name == "strategy":  # not there yet: an object that is being made or copied
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, *args: Any,
              **kwargs: Any) -> Result:  # fmt: skip
        """Run all rounds, which are those the density grows over unless ``n_rounds`` says it."""
        hooks = getattr(self, "fedcircuit_hooks", None)
        done = 0 if hooks is None else int(hooks.recorder.options.round_offset)
        self.expect_rounds(num_rounds + done)
        return super().start(grid, initial_arrays, num_rounds, *args, **kwargs)

    def expect_rounds(self, n_rounds: int) -> None:
        """Take the rounds of the whole run, if not given; a strategy inside is told too."""
        if self.n_rounds is None:
            self.n_rounds = n_rounds
        inner = getattr(self.strategy, "expect_rounds", None)
        if inner is not None:
            inner(n_rounds)

    def summary(self) -> None:
        """That of the wrapped strategy."""
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's messages, with masked weights where the round asks for it.

        Raises
        ------
        ValueError
            If the number of rounds is not known, or a layer is not among the weights.
        """
        sent = list(self.strategy.configure_train(server_round, arrays, config, grid))
        number = server_round + self._offset()
        if self.settings.reset == "zero":
            self._initial = None
        elif self._initial is None and number == 1:
            self._initial = ({name: decoded(array) for name, array in arrays.items()},)
        density = self._density(number)
        changed: Weights = {}
        if density < 1.0 and not self.settings.on_clients:
            changed = self._masked(number, density, arrays)
        put_in(sent, arrays, changed, self._said(number, density, arrays))
        return sent

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """That of the wrapped strategy."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's messages: the dense global model."""
        sent = list(self.strategy.configure_evaluate(server_round, arrays, config, grid))
        if not self.settings.sync_bn:
            put_in(sent, arrays, {}, {messages.LIPS_LOCAL: _local(arrays)})
        return sent

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """That of the wrapped strategy."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def _offset(self) -> int:
        """Rounds done before a resumed run, where the recorder is inside and counts them."""
        hooks = getattr(self.strategy, "fedcircuit_hooks", None)
        return 0 if hooks is None else int(hooks.recorder.options.round_offset)

    def _density(self, number: int) -> float:
        if self.n_rounds is None:
            raise ValueError(
                "LIPS does not know the number of rounds: call start(), or give n_rounds"
            )
        return self.settings.density(number, self.n_rounds)

    def layers_of(self, arrays: ArrayRecord) -> tuple[str, ...]:
        """Names of the tensors that may be masked.

        Raises
        ------
        ValueError
            If there is none, or one is not among the weights.
        """
        names = self._layers
        if names is None:
            names = lips.middle_layers({name: decoded(array) for name, array in arrays.items()})
        missing = [name for name in names if name not in arrays]
        if missing or not names:
            raise ValueError(
                f"LIPS has {'no such layers as ' + str(missing) if missing else 'no layers'} to "
                f"mask; the weights are {list(arrays)}: name some of them with layers"
            )
        return names

    def _masked(self, number: int, density: float, arrays: ArrayRecord) -> Weights:
        """The masked layers; all others are sent as they are."""
        settings = self.settings
        if settings.reset == "init" and self._initial is None:
            raise ValueError(
                "reset 'init' needs the initial weights, and round 1 is over: give initial"
            )
        weights = {name: decoded(arrays[name]) for name in self.layers_of(arrays)}
        rng = np.random.default_rng(derived_seed(self.seed, "lips", number))
        scored = lips.scores(weights, settings.score, rng=rng)
        kept = lips.kept_entries(scored, density, settings.scope)
        return lips.masked(weights, kept, None if self._initial is None else self._initial[0])

    def _said(self, number: int, density: float, arrays: ArrayRecord) -> dict[str, ConfigEntry]:
        """What the train config tells the clients."""
        settings = self.settings
        said: dict[str, ConfigEntry] = {messages.LIPS_DENSITY: density}
        if settings.on_clients:
            said[messages.LIPS_SCORE] = settings.score
            said[messages.LIPS_SCOPE] = settings.scope
            said[messages.LIPS_LAYERS] = list(self.layers_of(arrays))
            said[messages.LIPS_SEED] = derived_seed(self.seed, "lips", number)
        if not settings.sync_bn:
            said[messages.LIPS_LOCAL] = _local(arrays)
        if settings.personalised_eval:
            said[messages.PERSONAL_EVAL] = True
        return said


def _local(arrays: ArrayRecord) -> list[str]:
    return list(lips.local_tensors({name: decoded(array) for name, array in arrays.items()}))
