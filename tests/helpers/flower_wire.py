"""Flower's own translation and serialisation, wherever this release keeps them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def _first(*names: str) -> Any:
    for name in names:
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError:  # not even the package around it
            continue
        if found:
            return import_module(name)
    raise ImportError(f"none of {names}")


compat = _first("flwr.compat.common.recorddict_compat", "flwr.common.recorddict_compat")
get_all_nested_objects = _first(
    "flwr.supercore.inflatable.inflatable_object", "flwr.common.inflatable"
).get_all_nested_objects
inflate_object_from_contents = _first(
    "flwr.supercore.inflatable.inflatable_utils", "flwr.common.inflatable_utils"
).inflate_object_from_contents
