"""Whether the metrics of a round's replies can be averaged by name, and what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fedcircuit.records.rounds import GLOBAL, Failure
from fedcircuit.strategies.replies.limits import short
from fedcircuit.strategies.replies.reply import Reply

_MOST_LISTED = 20  # names of metrics in a message


@dataclass(frozen=True)
class SharedMetrics:
    """What is averaged of the metrics of a round.

    Parameters
    ----------
    names
        Metrics that the strategy is handed; None: all, as they are alike.
    faults
        Replies, by position, that lack what most report.
    left_out
        In words: what some report and no average has; empty where nothing is left out.
    split
        That no form was the one of more than half, as a failure of the round.
    """

    names: frozenset[str] | None = None
    faults: dict[int, Failure] = field(default_factory=dict)
    left_out: str = ""
    split: Failure | None = None


def shared_metrics(replies: Sequence[Reply]) -> SharedMetrics:
    """What can be averaged of metrics that differ in name or length between replies.

    Flower's strategies end the run there. Weights that are good are not given up for a metric:

    - Where more than half of the replies have one form, that is averaged. What others report
      beyond it is left out; who lacks something of it cannot be averaged, and is a fault.
    - Else the metrics that all replies have in one form are averaged, and the round says so. Nobody
      is left out: any one form would be that of a minority.

    Parameters
    ----------
    replies
        Those of a round that are good; those whose ``form`` is None have no say.
    """
    forms = Counter(form for reply in replies if (form := reply.form) is not None)
    if len(forms) < 2:
        return SharedMetrics()
    most, count = forms.most_common(1)[0]
    alike = 2 * count > forms.total()
    usual = most if alike else most.intersection(*forms)
    faults, beyond = {}, set[str]()
    for index, reply in enumerate(replies):
        if reply.form is None:
            continue
        if usual <= reply.form:
            beyond |= {name for name, _ in reply.form - usual}
        else:
            faults[index] = _fault(reply, reply.form, usual)
    words = f"the metrics {_listed(beyond)} are not averaged: not all clients report them alike"
    split = None
    if not alike:
        reason = (
            f"the metrics of {forms.total()} replies have {len(forms)} forms and none is that of "
            f"more than half; weights are averaged, of the metrics {_listed(n for n, _ in usual)}"
        )
        split = Failure(GLOBAL, "metrics", short(reason))
    names = frozenset(name for name, _ in usual)
    return SharedMetrics(names, faults, short(words) if beyond else "", split)


def _fault(
    reply: Reply, form: frozenset[tuple[str, int]], usual: frozenset[tuple[str, int]]
) -> Failure:
    lacks, adds = ({name for name, _ in a - b} for a, b in ((usual, form), (form, usual)))
    reason = (
        "its metrics differ from those of most: "
        f"missing {_listed(lacks - adds)}, of another length {_listed(lacks & adds)}"
    )
    return Failure(reply.client, "metrics", short(reason))


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(set(names))
    more = len(ordered) - _MOST_LISTED
    return f"{ordered[:_MOST_LISTED]}" + (f" and {more:,} more" if more > 0 else "")
