"""YAML as studies are written in: plain values, no key twice, and errors in one short line."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from functools import partial
from typing import Any

import yaml

MOST_CHARACTERS = 1_000_000  # of a study's file
MOST_LINE = 150  # characters of a value or place that an error quotes

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60
_brief.maxlist = _brief.maxtuple = _brief.maxdict = 4
_brief.maxlevel = 2
_brief.maxlong = 40


class YamlError(ValueError):
    """A text that is no study; the message is one short line."""


def _mapping(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  # as PyYAML calls it
    loader.flatten_mapping(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise YamlError(f"line {line}: a key must be a text, got {brief(key)}")
        if key in found:
            raise YamlError(f"line {line}: the key {brief(key)} stands there twice")
        found[key] = loader.construct_object(value_node, deep=deep)
    return found


# LibYAML's parser where PyYAML was built with it, as its wheels are: five times as fast
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SAFE):  # type: ignore[misc]
    """Refuses what a study never has: a key twice in one mapping, or a key that is no text."""

    yaml_constructors = {  # noqa: RUF012  # as PyYAML's own class has it
        **yaml.SafeLoader.yaml_constructors,
        yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG: partial(_mapping, deep=True),
    }


def plain_values(text: str) -> Any:
    """The values in a text.

    Raises
    ------
    YamlError
        If it is no YAML, too long, nested too deeply, or has a key twice.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"it has {len(text):,} characters, a study at most {MOST_CHARACTERS:,}")
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if "nesting" in (error.problem or ""):
            raise YamlError("it is nested too deeply for a study") from error
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise YamlError(f"{where}{one_line(error.problem or 'not readable')}") from error
    except yaml.YAMLError as error:
        raise YamlError(one_line(str(error))) from error
    except RecursionError as error:
        raise YamlError("it is nested too deeply for a study") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(one_line(str(error))) from error


def brief(value: object) -> str:
    """A value as an error quotes it, short whatever it holds."""
    try:
        return one_line(_brief.repr(value))
    except (RecursionError, ValueError):  # an int of 10,000 digits has no decimal text
        return f"a value of type {type(value).__name__}"


def one_line(text: str, most: int = MOST_LINE) -> str:
    """A text in one short line; where it is cut, its length is said."""
    plain = " ".join(text.split())
    plain = "".join(c if c.isprintable() else "?" for c in plain[: most + 1]) + plain[most + 1 :]
    return plain if len(plain) <= most else f"{plain[:most]} ... ({len(plain):,} characters)"
