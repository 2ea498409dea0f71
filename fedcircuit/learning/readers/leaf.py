"""LEAF's JSON files (arXiv 1812.01097): samples by user, as FEMNIST has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedcircuit.learning.readers.assembly import ReadSplit, assembled
from fedcircuit.learning.readers.labels import LabelColumn
from fedcircuit.learning.readers.parts import files_of_split, split_files
from fedcircuit.learning.sources import Array, DataSource, RawData

USER = "user"
_FEMNIST = 28 * 28


def read_leaf(source: DataSource, *, seed: int) -> RawData:
    """All files ``train/*.json`` and ``test/*.json`` of the root or its folder ``data``.

    Each holds ``users``, ``num_samples`` and ``user_data``: for every user ``x``, a list of lists
    of numbers, and ``y``. 784 numbers are an image of 28x28, as in FEMNIST. The column ``user``
    says whose each sample is, for a natural partition.

    Raises
    ------
    MissingDataError
        If files are missing.
    ValueError
        If a file is not of this form, or a user is there twice.
    """
    absent = [name for name in source.columns if name != USER]
    if absent:
        raise ValueError(f"LEAF files have the one column {USER!r}, not {absent[0]!r}")
    train, test = split_files(source, _find)
    first = _split(train, source)
    second = _split(test, source) if test else None
    return assembled(first, second, source, seed=seed)


def _find(root: Path, name: str) -> tuple[Sequence[Path], Sequence[str]]:
    folders = [root, root / "data"]
    looked = [f"{folder / name}{form}" for folder in folders for form in (".json", "/*.json")]
    return files_of_split(folders, name, (".json",)), looked


def _split(files: Sequence[Path], source: DataSource) -> ReadSplit:
    inputs: list[Array] = []
    labels: list[Any] = []
    owners: list[str] = []
    seen: dict[str, Path] = {}
    for path in files:
        for user, own, classes in _users(path):
            if user in seen:
                raise ValueError(f"user {user!r} is in {seen[user]} and in {path}; keep one")
            seen[user] = path
            inputs.append(own)
            labels += classes
            owners += [user] * len(classes)
    widths = {own.shape[1:] for own in inputs if len(own)}
    if len(widths) > 1:
        raise ValueError(f"{files[0].parent}: all x must have one length, found {sorted(widths)}")
    x = np.concatenate([own for own in inputs if len(own)] or [np.zeros((0, 0), np.float32)])
    if x.shape[1:] == (_FEMNIST,) and source.shape is None:
        x = x.reshape(-1, 28, 28)
    x = x[..., None] if x.ndim == 3 else x

    def where(row: int) -> str:
        return f"{seen[owners[row]]} user {owners[row]} row {owners[:row].count(owners[row])}"

    values = np.array(labels, dtype=object if any(isinstance(y, str) for y in labels) else None)
    users = np.array(owners, dtype=object)
    return ReadSplit(LabelColumn(values, where, "y"), lambda index: x[index], {USER: users})


def _users(path: Path) -> list[tuple[str, Array, list[Any]]]:
    """Name, x ``[n, f]`` float32 and y of every user of a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        users, data = list(content["users"]), dict(content["user_data"])
        counts = list(content.get("num_samples", []))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{path} is no file of LEAF, which has users, num_samples and user_data with x and y: "
            f"{type(error).__name__} {error}"
        ) from error
    if "num_samples" in content and len(counts) != len(users):
        raise ValueError(
            f"{path}: users are {len(users)}, num_samples {len(counts)}; they must be as many"
        )
    found = []
    listed = set[str]()
    for place, user in enumerate(users):
        x, y = _samples(path, user, data)
        if user in listed:
            raise ValueError(f"{path}: user {user!r} is listed twice in users; keep one")
        listed.add(user)
        count = counts[place] if counts else len(y)
        if not len(x) == len(y) == count:
            raise ValueError(
                f"{path}: user {user!r} has {len(x)} x, {len(y)} y and num_samples {count}; they "
                "must agree"
            )
        found.append((user, _numbers(path, user, x), y))
    unlisted = [user for user in data if user not in listed]
    if unlisted:
        raise ValueError(f"{path}: user {unlisted[0]!r} is in user_data and not listed in users")
    return found


def _samples(path: Path, user: object, data: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """x and y of a user, as they stand in the file."""
    if not isinstance(user, str) or user not in data:
        raise ValueError(f"{path}: user {user!r} is listed in users and has no entry in user_data")
    own = data[user]
    x, y = (own.get("x"), own.get("y")) if isinstance(own, dict) else (None, None)
    if not isinstance(x, list) or not isinstance(y, list):
        raise ValueError(f"{path}: user {user!r} must have a list x and a list y in user_data")
    return x, y


def _numbers(path: Path, user: str, x: list[Any]) -> Array:
    try:
        values: Array = np.array(x, dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{path}: the x of user {user!r} must be lists of numbers of one length, as in "
            f"FEMNIST; texts and names of image files are not read ({error})"
        ) from error
    if values.ndim not in (2, 3) and len(x):
        raise ValueError(f"{path}: the x of user {user!r} has the shape {list(values.shape)}")
    return values
