"""Looking again at the recorded weights of a run, round by round, into a folder of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from fedcircuit.learning import Weights
from fedcircuit.messages import MASKS
from fedcircuit.records.files import RunError, in_short, remove_leftovers
from fedcircuit.records.rounds import (
    RETURNED,
    ClientRecord,
    Observation,
    Observer,
    RoundRecord,
    RoundView,
    Storage,
    Table,
    plain,
    versions,
)
from fedcircuit.records.runs import (
    LOOK,
    MANIFEST,
    ROUNDS,
    Look,
    Run,
    RunStore,
    look_names,
    look_path,
    seal_of,
)

ANEW = ("circuits", "inertia", "information")  # what others recorded is copied as it is
_NOT_KEPT = "needs the clients' weights, and the run keeps none (its storage.updates is none)"
NOT_KEPT = (
    ("circuits of clients", _NOT_KEPT + "; those that clients sent are looked at"),
    ("function", _NOT_KEPT),
    ("overlap", _NOT_KEPT),
    ("verdicts", _NOT_KEPT),
)
_MOST_NAMES = 1000


@dataclass(frozen=True)
class Asked:
    """What is asked of a look.

    Parameters
    ----------
    observers
        What looks at the rounds, as it would have in the run.
    settings
        Plain values, by name, that say how: a look goes on only with the same.
    rounds
        Rounds to look at; None is all that are recorded.
    manifest
        What the manifest says otherwise than that of the run: its configuration, thresholds.
    scores
        Keep the discovery scores of every unit.
    """

    observers: Sequence[Observer]
    settings: Mapping[str, Any]
    rounds: Collection[int] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    scores: bool = False

    def identity(self, run: Run) -> dict[str, Any]:
        """What the manifest of the look says under ``look``, but for its name."""
        rounds = None if self.rounds is None else sorted(set(self.rounds))
        content = {"of": seal_of(run), "settings": self.settings, "rounds": rounds}
        result: dict[str, Any] = plain(content, "the settings of a look")
        return result


def look_again(
    run: Run,
    asked: Asked,
    *,
    name: str | None = None,
    on_round: Callable[[RoundRecord], None] | None = None,
) -> Look:
    """Look at the recorded rounds of a run; nothing that was recorded is changed.

    A look that was stopped, or whose run has come further since, goes on after its last round.

    Parameters
    ----------
    run
        With at least one round.
    asked
        What is looked at, and how.
    name
        Of the look's folder in ``RUN/looks``; None is that of the look with these settings, else a
        new one: ``look-1``, ``look-2`` and so on.
    on_round
        Called with every round that was looked at.

    Raises
    ------
    RunError
        If no round is recorded, a round asked for is not, or a look of this name has other
        settings, is written by another process, or cannot be written.
    ValueError
        If the name could be no folder's.
    """
    _check_rounds(run, asked.rounds)
    identity = asked.identity(run)
    chosen = _named_so(run, identity) if name is None else name
    with _opened(run, asked, chosen, identity) as store:
        before: Weights = run.weights(0)
        for number in (0, *run.rounds):
            record = run.record(number) if number else RoundRecord(0, before)
            if number >= len(store.rounds()):
                seen = _looked(run, record, before, asked)
                store.append(seen)
                if on_round is not None and number and _is_chosen(number, asked):
                    on_round(seen)
            before = _as_returned(record)
    return Look(look_path(run.path, chosen))


def _is_chosen(number: int, asked: Asked) -> bool:
    return asked.rounds is None or number in asked.rounds


def _check_rounds(run: Run, rounds: Collection[int] | None) -> None:
    if not run.rounds:
        raise RunError(f"{run.path} has no round to look at yet")
    missing = sorted(set(rounds or ()) - set(run.rounds))
    if missing or rounds == ():
        raise RunError(
            f"{run.path} has rounds 1 to {run.rounds[-1]}; name some of them, got "
            f"{', '.join(map(str, missing)) or 'none'}"
        )


def _named_so(run: Run, identity: Mapping[str, Any]) -> str:
    """The look with these settings, else the next free name."""
    known = look_names(run.path)
    for name in known:
        if _identity_of(Look(look_path(run.path, name))) == identity:
            return name
    numbers = (f"look-{number}" for number in range(1, _MOST_NAMES))
    return next(name for name in numbers if name not in known)


def _identity_of(look: Look) -> dict[str, Any]:
    return {key: value for key, value in look.manifest[LOOK].items() if key != "name"}


def _opened(run: Run, asked: Asked, name: str, identity: Mapping[str, Any]) -> RunStore:
    """The store of a look, new or to go on with."""
    path = look_path(run.path, name)
    if (path / MANIFEST).exists():
        known = _identity_of(Look(path))
        if known != identity:
            raise RunError(
                f"{path} looked with {_in_words(known)}, now it is {_in_words(identity)}: a look "
                "is never overwritten, give this one another name"
            )
        return RunStore.open(path)
    if path.is_dir():  # made by a process that was killed before it wrote the manifest
        remove_leftovers(path)
        if (path / ROUNDS).is_dir() and not any((path / ROUNDS).iterdir()):
            (path / ROUNDS).rmdir()
    manifest = {
        **run.manifest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        **asked.manifest,
        LOOK: {"name": name, **identity},
    }
    del manifest["storage"]
    return RunStore.create(path, manifest, Storage("none", asked.scores))


def _in_words(identity: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in identity["settings"].items())
    rounds = identity["rounds"]
    which = "all rounds" if rounds is None else f"rounds {', '.join(map(str, rounds))}"
    return f"{settings or 'the settings of the run'} ({which})"


def _looked(run: Run, record: RoundRecord, before: Weights, asked: Asked) -> RoundRecord:
    """The round without its weights, with what is seen now in place of what was seen then."""
    if record.round == 0:
        return RoundRecord(0, {})
    kept = {name: seen for name, seen in record.observations.items() if name not in ANEW}
    errors = {name: text for name, text in record.observer_errors.items() if name not in ANEW}
    seconds: dict[str, float] = {}
    if _is_chosen(record.round, asked):
        view = _view(record, before)
        for observer in asked.observers:
            begin = time.perf_counter()
            try:
                kept[observer.name] = _completed(observer.name, observer(view), run)
            except Exception as error:  # noqa: BLE001  # recorded, as in a run
                errors[observer.name] = in_short(error)
            seconds[f"observe:{observer.name}"] = time.perf_counter() - begin
    return replace(
        record,
        weights={},
        state={},
        clients=tuple(
            replace(client, weights={}, received={}, extra={}) for client in record.clients
        ),
        observations=kept,
        observer_errors=errors,
        seconds=seconds,
    )


def _view(record: RoundRecord, before: Weights) -> RoundView:
    """What observers saw of the round; of clients without weights what they sent themselves."""
    visible = tuple(client for client in record.clients if client.weights)
    hidden = tuple(client for client in record.clients if not client.weights and _sent(client))
    return RoundView(record.round, before, record.weights, visible, hidden)


def _as_returned(record: RoundRecord) -> Weights:
    """Weights as the strategy gave them to the next round: records have the initial dtypes."""
    return {
        name: record.state.get(f"{RETURNED}{name}", values)
        for name, values in record.weights.items()
    }


def _sent(client: ClientRecord) -> bool:
    return MASKS in client.extra or "weights" in client.extra


def _completed(observer: str, seen: Observation, run: Run) -> Observation:
    """What was seen, and what could not be for want of weights."""
    keeps = run.manifest.get("storage", {}).get("updates", "full")
    if observer != "circuits" or keeps != "none" or not seen.tables:
        return seen
    return Observation(
        {**seen.tables, "unavailable": Table(("part", "reason"), NOT_KEPT)}, seen.arrays
    )
