"""Numbers in their ranges: the one place that refuses what lies outside, and how it says so."""

from __future__ import annotations


def require_at_least(least: float, where: str = "", **values: float | None) -> None:
    """Refuse numbers that are too small.

    Parameters
    ----------
    least
        The smallest that is allowed.
    where
        What the numbers belong to, for the message.
    values
        By name; None is a number that was not given.

    Raises
    ------
    ValueError
        With the first one below.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}{_belonging(where)}")


def require_between(span: str, where: str = "", **values: float) -> None:
    """Refuse numbers outside an interval, and those that are NaN.

    Parameters
    ----------
    span
        Such as ``(0, 1]``: the bound beside a round bracket is not allowed.
    where, values
        As in `require_at_least`.

    Raises
    ------
    ValueError
        With the first one outside.
    """
    low, high = (float(bound) for bound in span[1:-1].split(","))
    for name, value in values.items():
        above = value > low if span[0] == "(" else value >= low
        below = value < high if span[-1] == ")" else value <= high
        if not (above and below):
            raise ValueError(f"{name} must lie in {span}, got {value}{_belonging(where)}")


def _belonging(where: str) -> str:
    return f" ({where})" if where else ""
