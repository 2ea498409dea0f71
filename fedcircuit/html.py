"""Small pieces of HTML for notebooks: escaped, without colours of their own, light or dark."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

MOST_ROWS = 40
_CELL = "text-align:left;padding:1px 8px 1px 0"
_TABLE = "border-collapse:collapse;color:inherit;font-size:inherit"
_FAINT = "opacity:.7"


class Html(str):
    """Text that is HTML already."""


def cell(value: object) -> Html:
    """A value as HTML: text escaped, numbers to three decimals, undefined in words."""
    if isinstance(value, Html):
        return value
    if isinstance(value, bool) or not isinstance(value, float):
        return Html(html.escape("" if value is None else str(value)))
    return Html(f"{value:.3f}" if isfinite(value) else "not defined")


def bar(share: float) -> Html:
    """A share in [0, 1] as a bar, with the number as text."""
    width = round(60 * min(max(share, 0.0), 1.0)) if isfinite(share) else 0
    look = "display:inline-block;height:.6em;background:currentColor"
    return Html(
        f'<span style="{look};width:{width}px;opacity:.6"></span>'
        f'<span style="{look};width:{60 - width}px;opacity:.12"></span> '
        f"{100 * share:.0f}&nbsp;%"
        if isfinite(share)
        else "not defined"
    )


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table; of many rows the first `MOST_ROWS`, and how many more there are."""
    listed = list(rows)
    top = "".join(f'<th style="{_CELL};{_FAINT}">{cell(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{cell(value)}</td>' for value in row) + "</tr>"
        for row in listed[:MOST_ROWS]
    )
    more = len(listed) - MOST_ROWS
    note = f'<div style="{_FAINT}">and {more} more</div>' if more > 0 else ""
    return Html(
        f'<table style="{_TABLE}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{note}'
    )


def facts(values: Mapping[str, object]) -> Html:
    """Names and values, a line each."""
    lines = (
        f'<tr><td style="{_CELL};{_FAINT}">{cell(name)}</td>'
        f'<td style="{_CELL}">{cell(value)}</td></tr>'
        for name, value in values.items()
    )
    return Html(f'<table style="{_TABLE}"><tbody>{"".join(lines)}</tbody></table>')


def block(title: str, *parts: object) -> str:
    """A heading and what stands below it; a part that is no HTML becomes a paragraph."""
    inner = "".join(
        part if isinstance(part, Html) else f'<div style="margin:2px 0">{cell(part)}</div>'
        for part in parts
        if part
    )
    return (
        '<div style="font-size:90%;line-height:1.45"><div style="font-weight:600">'
        f"{cell(title)}</div>{inner}</div>"
    )


def counted(n: int, word: str) -> str:
    """``1 unit``, ``3 units``."""
    return f"{n} {word}" if n == 1 else f"{n} {word}{'es' if word.endswith('s') else 's'}"
