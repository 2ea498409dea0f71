"""Going on in a run folder: ``observe(..., resume=True)``."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.serverapp.strategy import Result, Strategy
from numpy.typing import NDArray
from torch import nn

from fedcircuit.learning import Weights
from fedcircuit.records.files import LOCK, RunError
from fedcircuit.records.runs import MANIFEST, RunStore
from fedcircuit.strategies.preflight import PreflightError
from fedcircuit.strategies.recording.memory_of_strategies import as_returned
from fedcircuit.strategies.recording.recorder import RoundRecorder
from fedcircuit.strategies.recording.wrapping import put_around

logger = logging.getLogger(__name__)

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SAME = {
    "name": "strategy",
    "seed": "seed",
    "class_names": "classes",
    "thresholds": "thresholds of statuses and verdicts",
}
_BY_ROUND = (
    "train_metrics_clientapp",
    "evaluate_metrics_clientapp",
    "evaluate_metrics_serverapp",
)


class Hooks(Protocol):
    """What is needed of the hooks of a message-based strategy."""

    recorder: RoundRecorder
    start_must_fit: bool

    def named_weights(self, arrays: ArrayRecord) -> Weights:
        """Weights under the names that they are recorded under."""


def is_new(path: Path | str) -> bool:
    """Whether there is nothing to resume: no folder, or an empty one."""
    path = Path(path)
    return not path.exists() or (
        path.is_dir() and all(entry.name == LOCK for entry in path.iterdir())
    )


def reopened(path: Path | str, manifest: Mapping[str, Any]) -> RunStore:
    """The run in a folder, to be continued by a strategy that would have made this manifest.

    Raises
    ------
    RunError
        If it is no run, one of a study, or one of another strategy, seed, model or thresholds.
    """
    store = RunStore.open(path)
    recorded = store.manifest
    if recorded.get("config"):
        store.close()
        raise RunError(f"{path} is the run of a study; continue it with 'fedcircuit resume {path}'")
    others = [
        f"its {words} is {_brief(recorded.get(key))}, here it is {_brief(manifest[key])}"
        for key, words in _SAME.items()
        if recorded.get(key) != manifest[key]
    ]
    if recorded.get("class_names") and not manifest["class_names"]:
        others.append("it was observed with a model and a probe: give both")
    others += _other_network(recorded.get("network"), manifest.get("network"))
    if others:
        store.close()
        raise RunError(
            f"{path} cannot be continued here: {'; '.join(others)}. Continue it with what began "
            f"it (see {MANIFEST} there), or give another run_dir"
        )
    return store


def printed(model: nn.Module) -> str:
    """The network as it prints itself, without the addresses of its objects."""
    return _ADDRESS.sub("", repr(model))


def _other_network(recorded: str | None, here: str | None) -> list[str]:
    """In what a network differs; nothing where one of them is not known, as in older runs."""
    if recorded is None or here is None or recorded == here:
        return []
    pairs = zip_longest(recorded.splitlines(), here.splitlines(), fillvalue="nothing")
    one, other = next((a.strip(), b.strip()) for a, b in pairs if a != b)
    return [f"its network has {_brief(one)} where this one has {_brief(other)}"]


def say(store: RunStore, done: int) -> None:
    """Tell what a resumed run begins with."""
    logger.info("%s: %d rounds are recorded, the next is round %d", store.path, done, done + 1)


def put_resume(strategy: Strategy, hooks: Hooks) -> None:
    """Let ``start`` of an observed strategy go on after the recorded rounds, in place."""
    recorder = hooks.recorder
    if recorder.store is None or not recorder.options.round_offset:
        return
    base = type(strategy)
    hooks.start_must_fit = True

    class Resumed(base):  # type: ignore[misc, valid-type]
        def start(self, *args: Any, **kwargs: Any) -> Result:
            """Run the rounds that are missing; ``num_rounds`` counts all of them."""
            inner = super().start
            given = inspect.signature(inner).bind(*args, **kwargs)
            given.apply_defaults()
            return _started(inner, given, hooks)

    put_around(strategy, Resumed, base.__name__)


def _started(inner: Callable[..., Result], given: inspect.BoundArguments, hooks: Hooks) -> Result:
    done = hooks.recorder.options.round_offset
    missing = {"initial_arrays", "num_rounds"} - set(given.arguments)
    if missing:
        raise TypeError(
            f"to resume, start() must take {' and '.join(sorted(missing))} as Flower's does"
        )
    arrays = recorded_arrays(hooks, given.arguments["initial_arrays"])
    total = given.arguments["num_rounds"]
    if total <= done:
        logger.warning(
            "%d rounds are recorded and %d are asked for: there is nothing left to do", done, total
        )
    evaluate: Evaluate | None = given.arguments.get("evaluate_fn")
    if evaluate is not None:
        given.arguments["evaluate_fn"] = lambda number, values: evaluate(number + done, values)
    given.arguments.update(initial_arrays=arrays, num_rounds=max(0, total - done))
    hooks.start_must_fit = False
    result = inner(*given.args, **given.kwargs)
    if isinstance(result, Result):
        if not len(result.arrays):
            result.arrays = arrays
        for name in _BY_ROUND:
            by_round = getattr(result, name)
            setattr(result, name, {number + done: item for number, item in by_round.items()})
    return result


def recorded_arrays(hooks: Hooks, given: ArrayRecord) -> ArrayRecord:
    """The recorded weights as the strategy had returned them, under the names of those given.

    Raises
    ------
    PreflightError
        If names or shapes are not those of the run.
    """
    store = hooks.recorder.store
    assert store is not None  # only then is anything resumed
    names = dict(zip(given, hooks.named_weights(given), strict=True))
    exact = last_weights(store, hooks.recorder.options.round_offset)
    here = {names[key]: tuple(array.shape) for key, array in given.items()}
    there = {name: values.shape for name, values in exact.items()}
    if here != there:
        odd = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
        raise PreflightError(
            f"{store.path} holds other weights than start() was given: {odd[0]!r} is "
            f"{there.get(odd[0], 'not there')} in the run and {here.get(odd[0], 'not there')} "
            "here; continue it with the model that began it, or give another run_dir"
        )
    return ArrayRecord({key: Array(np.asarray(exact[name])) for key, name in names.items()})


def last_weights(store: RunStore, done: int) -> dict[str, NDArray[np.generic]]:
    """Weights of a recorded round as the strategy had returned them."""
    record = store.read(done)
    return as_returned(record.weights, record.state)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
