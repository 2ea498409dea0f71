"""Which files hold the training samples and which the tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedcircuit.learning import derived_seed, largest_remainder
from fedcircuit.learning.sources import DataSource, MissingDataError, RawSplit, Rows, data_root

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "validation", "valid", "val", "dev")
_SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5,})-of-(?P<total>\d{5,})(-[0-9a-f]+)?")
_ROUNDING = 1e-6
_LEFT_BEHIND = (".", "__MACOSX", "@eaDir")


def require_once(path: Path, names: Sequence[str]) -> None:
    """Raise where two columns or arrays of a file have one name: it would mean either.

    Raises
    ------
    ValueError
        It gives the name.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has {twice[0]!r} more than once; give each a name of its own")


def is_hidden(name: str) -> bool:
    """True for names of what systems and tools leave behind, such as ``.ipynb_checkpoints``."""
    return name.startswith(_LEFT_BEHIND)


Finder = Callable[[Path, str], tuple[Sequence[Path], Sequence[str]]]


def split_files(source: DataSource, find: Finder) -> tuple[Sequence[Path], Sequence[Path]]:
    """Files of the training samples and of the tests; none of these where a share is held out.

    Parameters
    ----------
    source
        Its root is looked at, or is the one file itself.
    find
        From the root and the name of a split to its files, none if it is not there, and the
        paths that were looked at.

    Raises
    ------
    MissingDataError
        If the training samples are not there, or the tests are not and no share is held out; the
        paths looked at are listed.
    """
    root = data_root(source)
    if root.is_file():
        return [root], _held_out(source, [str(root)])
    wanted = TEST_NAMES if source.test_split is None else (source.test_split,)
    train, looked = _first(root, TRAIN_NAMES, find)
    test, also = _first(root, wanted, find)
    if not train:
        raise missing(source, looked + also, "training samples are not")
    return train, test or _held_out(source, also)


def _first(root: Path, names: Sequence[str], find: Finder) -> tuple[Sequence[Path], list[str]]:
    looked: list[str] = []
    for name in names:
        files, paths = find(root, name)
        looked += paths
        if files:
            return files, looked
    return [], looked


def _held_out(source: DataSource, looked: Sequence[str]) -> Sequence[Path]:
    if source.test_share is None or source.test_split is not None:
        raise missing(source, looked, "tests are not")
    return []


def missing(source: DataSource, looked: Sequence[str], what: str) -> MissingDataError:
    """The error of files that are not there: where they were looked for, and what is there."""
    root = data_root(source)
    there = sorted(path.name for path in root.iterdir())[:10] if root.is_dir() else []
    listing = "\n".join(f"  {path}" for path in dict.fromkeys(looked))
    mend = (
        "hold a share of the training samples out with data.test_share, such as 0.2, or name "
        "another split with data.test_split"
        if what.startswith("tests")
        else "name the folder that holds them with data.root"
    )
    found = f"{root} holds {', '.join(there)}" if there else f"{root} is empty or not there"
    found = f"{root} is one file" if root.is_file() else found
    return MissingDataError(f"{what} there ({source.name}); looked for\n{listing}\n{found}; {mend}")


def files_of_split(folders: Sequence[Path], name: str, suffixes: Sequence[str]) -> Sequence[Path]:
    """``NAME.SUFFIX``, its shards ``NAME-00000-of-00002.SUFFIX``, or all in a folder ``NAME``.

    Raises
    ------
    ValueError
        If shards are missing, or the split is there in more than one form.
    """
    forms = []
    for folder in folders:
        inside = [*_visible(folder, suffixes)]
        forms.append([path for path in inside if _stem(path, suffixes) == name])
        shards = [(path, _SHARD.fullmatch(_stem(path, suffixes))) for path in inside]
        forms.append(_whole([path for path, match in shards if match and match["name"] == name]))
        forms.append(_whole(_visible(folder / name, suffixes)))
    found = [form for form in forms if form]
    if len(found) > 1 or any(len(form) > 1 for form in forms[::3]):
        names = ", ".join(str(path) for form in found for path in form[:1])
        raise ValueError(f"the split {name!r} is there more than once: {names}; keep one of them")
    return found[0] if found else []


def _visible(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(tuple(suffixes)) and not is_hidden(path.name) and path.is_file()
    )


def _stem(path: Path, suffixes: Sequence[str]) -> str:
    return next(path.name.removesuffix(end) for end in suffixes if path.name.endswith(end))


def _whole(files: list[Path]) -> list[Path]:
    """The files in the order of their numbers; all of them where they say how many they are."""
    shards = [(path, match) for path in files if (match := _SHARD.match(path.name))]
    if not shards:
        return files
    totals = {int(match["total"]) for _, match in shards}
    numbers = sorted(int(match["number"]) for _, match in shards)
    if len(totals) > 1 or len(shards) < len(files) or numbers != list(range(max(totals))):
        absent = sorted(set(range(max(totals))) - set(numbers))
        raise ValueError(
            f"the shards of {shards[0][1]['name']!r} in {files[0].parent} are not one whole set: "
            f"found {', '.join(path.name for path in files[:10])}"
            + (f"; of {max(totals)} the numbers {absent[:10]} are missing" if absent else "")
        )
    return [path for path, _ in sorted(shards, key=lambda shard: int(shard[1]["number"]))]


def held_out(split: RawSplit, share: float, *, seed: int) -> tuple[RawSplit, RawSplit]:
    """Training samples, and the share of them that tests are made on, in the mix of the classes.

    Raises
    ------
    ValueError
        If the share leaves a class without a training sample or without a test.
    """
    n_test = int(share * len(split.labels) + _ROUNDING)
    counts = np.bincount(split.labels)
    take = largest_remainder(counts.astype(np.int64), n_test)
    rare = np.flatnonzero((counts > 0) & ((take == 0) | (take == counts)))
    if len(rare):
        raise ValueError(
            f"a share of {share} held out for tests (data.test_share) leaves class {rare[0]}, of "
            f"which there are {counts[rare[0]]} samples, without training samples or without "
            "tests; use another share or more samples"
        )
    rng = np.random.default_rng(derived_seed(seed, "held-out"))
    chosen = [
        rng.choice(np.flatnonzero(split.labels == label), size=n, replace=False)
        for label, n in enumerate(take)
        if n
    ]
    test: Rows = np.sort(np.concatenate(chosen)).astype(np.int64)
    train = np.setdiff1d(np.arange(len(split.labels), dtype=np.int64), test)
    return split.take(train), split.take(test)
