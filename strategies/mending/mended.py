"""Rules around any strategy: what it has averaged is mended before it goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from torch import nn

from fedcircuit.aggregation import Rule, RuleError, Setting, Updates
from fedcircuit.circuits.probes import ProbeLike
from fedcircuit.learning import Weights
from fedcircuit.records.rounds import GLOBAL, Failure
from fedcircuit.strategies.mending.applying import Memory, mend, state_of
from fedcircuit.strategies.mending.guard import Guard, held
from fedcircuit.strategies.mending.guarding import Guarding, Where
from fedcircuit.strategies.mending.preparing import as_rule, depth_of, given, warn_of_noise
from fedcircuit.strategies.mending.reading import SentRound, weights_of
from fedcircuit.strategies.message_api import Aggregate, put_in, replaced
from fedcircuit.strategies.nodes import Roster
from fedcircuit.strategies.preflight import WeightNames
from fedcircuit.strategies.recording import fitting_probe
from fedcircuit.wire import array_fields

logger = logging.getLogger(__name__)

_RECORDED = "rules::"  # begins the names of what is remembered, where the strategy inside records


class Mended(Strategy):
    """Aggregation rules, one after the other, around another strategy.

    The strategy aggregates as ever; the rules then take its average and the clients' updates and
    give the weights to go on with. A rule that cannot be used is named in the log and in the
    recorded round's failures (kind ``rule``), and the round goes on with the strategy's own
    average. Without rules nothing is changed, bit for bit.

    Parameters
    ----------
    strategy
        Any message-based strategy of Flower, observed or not; this one may be observed too.
    rules
        Rules, or their names (``fedcircuit.aggregation.named.RULE_NAMES``), in the order of use.
    model
        The network whose weights are averaged, for rules that ask for it.
    probe
        Labelled samples of the server, for rules that fit something; needs the model. Rules get
        the discovery half alone, so what is measured on the other half is not what was fitted.
    n_classes
        Classes of the task; None: as many as clients say counts of, or as the probe has.
    every
        Mend in every round that this divides. Rules that remember from round to round
        (``feddyn``, ``scaffold``) want 1.
    last_only
        Mend in the last round of ``start`` alone.
    guard
        Let mended weights go on only where clients confirm that they are better.
    strict
        Raise where a rule cannot be used, or the guard cannot decide.
    seed
        Of rules that draw.

    Raises
    ------
    TypeError
        If what is wrapped is no message-based strategy, or what should be a rule is none.
    ValueError
        If a rule's name or a number is unknown or out of range, or the probe does not fit.
    """

    def __init__(
        self,
        strategy: Strategy,
        rules: Sequence[Rule | str],
        *,
        model: nn.Module | None = None,
        probe: ProbeLike | None = None,
        n_classes: int | None = None,
        every: int = 1,
        last_only: bool = False,
        guard: Guard | None = None,
        strict: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(strategy, Strategy):
            raise TypeError(
                "Mended wraps message-based strategies (flwr.serverapp.strategy), got "
                f"{type(strategy).__module__}.{type(strategy).__qualname__}; those of "
                "flwr.server.strategy have fedcircuit.strategies.legacy_api.Mended"
            )
        if every < 1:
            raise ValueError(f"every must be >= 1 round, got {every}")
        if probe is not None and model is None:
            raise ValueError("a probe needs the model that it is given to: give model too")
        self.strategy = strategy
        self.rules = tuple(as_rule(one) for one in rules)
        self.every, self.last_only, self.strict = every, last_only, strict
        known = None
        if probe is not None and model is not None:
            known = fitting_probe(probe, model, seed)
        samples = None if known is None else known.discovery
        self.setting = Setting(n_classes, model, samples, seed=seed)
        self._guarding = None if guard is None else Guarding(guard, strategy, model, known)
        self.rule_state: Memory = {}  # recorded and restored with the strategy's own state
        self._names = WeightNames(None, model)
        self._roster = Roster(ask=False)
        self._round: SentRound | None = None
        self._last: int | None = None
        warn_of_noise(strategy, self.rules)
        self._join_recorder()

    def __getattr__(self, name: str) -> Any:
        """Hooks and settings of the wrapped strategy, such as its minimum of nodes."""
        if name == "strategy":  # not there yet: an object that is being made or copied
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, *args: Any,
              **kwargs: Any) -> Result:  # fmt: skip
        """Run all rounds; the last of them is that of ``last_only``."""
        hooks = getattr(self, "fedcircuit_hooks", None)
        done = 0 if hooks is None else int(hooks.recorder.options.round_offset)
        self.expect_rounds(num_rounds + done)
        if self._guarding is not None:
            self._guarding.started(grid, initial_arrays, num_rounds, *args, **kwargs)
        return super().start(grid, initial_arrays, num_rounds, *args, **kwargs)

    def expect_rounds(self, n_rounds: int) -> None:
        """Know the last round; a strategy inside that wants to know it is told."""
        self._last = n_rounds
        inner = getattr(self.strategy, "expect_rounds", None)
        if inner is not None:
            inner(n_rounds)

    def summary(self) -> None:
        """That of the wrapped strategy, and the rules."""
        self.strategy.summary()
        logger.info("mended by: %s", ", ".join(rule.name for rule in self.rules) or "no rule")

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's messages, with what rules have to tell clients.

        Raises
        ------
        ValueError
            If only the last round is to be mended, and it is not known.
        """
        if not self.rules:
            return self.strategy.configure_train(server_round, arrays, config, grid)
        if self.last_only and self._last is None:
            raise ValueError("last_only needs the number of rounds: call start() of this strategy")
        sent = list(self.strategy.configure_train(server_round, arrays, config, grid))
        self._round = SentRound(arrays, sent)
        if self._guarding is not None:
            self._guarding.grid = grid
        said: dict[str, Any] = {}
        for place, rule in enumerate(self.rules):
            told = getattr(rule, "told", None)
            if told is not None:
                names = list(self._round.weights(self._names))
                said.update(told(state_of(self.rule_state, place), names))
        if said:
            put_in(sent, arrays, {}, said)
        return sent

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The wrapped strategy's average, mended in the rounds that are to be.

        Raises
        ------
        RuleError
            If a rule cannot be used and ``strict`` is set.
        """
        inner = self.strategy.aggregate_train
        if not self.rules or self._records_inside():
            return inner(server_round, replies)
        return self._aggregated(inner, server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's messages."""
        if self._guarding is not None:
            self._guarding.configured(config)
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """That of the wrapped strategy."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def _aggregated(
        self, inner: Aggregate, number: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Read the replies, which some strategies empty; aggregate; mend."""
        if self._round is None or not self._due(number):
            return inner(number, replies)
        came, updates = list(replies), None
        try:
            if any(not message.has_error() for message in came):
                hooks = getattr(self, "fedcircuit_hooks", None)
                roster = self._roster if hooks is None else hooks.roster
                updates = self._round.updates(number, came, self.strategy, self._names, roster)
        except RuleError as error:
            self._refused(number, error)
        arrays, metrics = inner(number, came)
        if arrays is None or updates is None:
            return arrays, metrics
        try:
            mended = self._mended(updates, arrays)
            if self._guarding is None or mended is arrays:
                return mended, metrics
            where, pair = self._where(number), (arrays, mended)
            return self._guarding.chosen(where, pair, self.rule_state, metrics)
        except RuleError as error:
            self._refused(number, error)
            return arrays, metrics

    def _mended(self, updates: Updates, arrays: ArrayRecord) -> ArrayRecord:
        average = weights_of(arrays, self._names)
        found = mend(self.rules, updates, average, given(self.setting, updates), self.rule_state)
        self.rule_state = {**found.memory, **held(self.rule_state)}
        changed = {
            key: Array(**array_fields(found.weights[name]))
            for key, name in zip(arrays, average, strict=True)
            if found.weights[name] is not average[name]
        }
        return replaced(arrays, changed) if changed else arrays

    def _where(self, number: int) -> Where:
        """A round as the guard has to know it."""
        hooks, counted, seed = getattr(self, "fedcircuit_hooks", None), number, self.setting.seed
        if hooks is not None:
            seed = hooks.recorder.options.seed
            counted -= hooks.recorder.options.round_offset if self._records_inside() else 0
        roster = self._roster if hooks is None else hooks.roster
        return Where(number, counted, seed, self._names, roster, self._note)

    def _due(self, number: int) -> bool:
        return number == self._last if self.last_only else number % self.every == 0

    def _refused(self, number: int, error: RuleError) -> None:
        if self.strict:
            raise error
        logger.error("round %d goes on with the strategy's own average: %s", number, error)
        self._note(Failure(error.client or GLOBAL, "rule", str(error)))

    def _note(self, failure: Failure) -> None:
        hooks = getattr(self, "fedcircuit_hooks", None)
        if hooks is not None:
            hooks.recorder.note(failure)

    def _records_inside(self) -> bool:
        return getattr(self.strategy, "fedcircuit_hooks", None) is not None

    def _join_recorder(self) -> None:
        """Where the strategy inside records, let it record what rules have made of its average."""
        hooks = getattr(self.strategy, "fedcircuit_hooks", None)
        if hooks is None or not self.rules:
            return
        before = hooks.mending

        def mending(inner: Aggregate) -> Aggregate:
            return partial(self._aggregated, inner if before is None else before(inner))

        more, depth = hooks.more_state, f"{_RECORDED}{depth_of(self.strategy, Mended)}:"

        def state() -> Weights:
            return {**more(), **{f"{depth}{name}": v for name, v in self.rule_state.items()}}

        hooks.mending, hooks.more_state = mending, state
        store, done = hooks.recorder.store, hooks.recorder.options.round_offset
        if store is not None and done:
            recorded = store.read(done).state.items()
            self.rule_state = {
                name.removeprefix(depth): v for name, v in recorded if name.startswith(depth)
            }
