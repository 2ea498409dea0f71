"""What the shell completes: folders of runs, and files of studies; nothing heavy is imported.

Paths are completed whole, for a shell puts a space behind the only candidate, a folder or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from typer import Context

MANIFEST = "manifest.json"
FORMATS = ("svg", "pdf", "png")
_LEVELS = 4  # of folders that are looked into, from the one that is typed on
_MOST_LOOKED_AT = 3000
_MOST_SHOWN = 100


def run_folders(incomplete: str) -> list[str]:
    """Run folders whose path begins with what is typed."""
    return _paths(incomplete, lambda entry: (entry / MANIFEST).is_file())


def study_files(incomplete: str) -> list[str]:
    """YAML files whose path begins with what is typed."""
    return _paths(incomplete, lambda entry: entry.suffix in (".yaml", ".yml") and entry.is_file())


def looks(context: Context, incomplete: str) -> list[str]:
    """Looks at the run that stands on the line already."""
    words = [context.params.get("run"), *context.args]  # the line is not whole, so not parsed
    runs = [Path(str(word)) for word in words if word and (Path(str(word)) / MANIFEST).is_file()]
    found = sorted(file.parent.name for run in runs[:1] for file in run.glob(f"looks/*/{MANIFEST}"))
    return [name for name in found if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    """Figure formats behind the last comma."""
    head, comma, start = incomplete.rpartition(",")
    known = head.split(",")
    return [head + comma + name for name in FORMATS if name.startswith(start) and name not in known]


def _paths(incomplete: str, wanted: Callable[[Path], bool]) -> list[str]:
    head, slash, start = incomplete.rpartition("/")
    folder = Path(head + slash).expanduser()
    seen = islice(_walk(folder, start, "", _LEVELS, wanted), _MOST_LOOKED_AT)
    return list(islice((head + slash + name for name, fits in seen if fits), _MOST_SHOWN))


def _walk(
    folder: Path, start: str, prefix: str, levels: int, wanted: Callable[[Path], bool]
) -> Iterator[tuple[str, bool]]:
    """Every entry looked at by its path from the first folder, and whether it is wanted."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:  # it cannot be read, or is none
        return
    for name in names:
        if not name.startswith(start) or (name[0] == "." and not start):
            continue
        entry = folder / name
        fits = wanted(entry)
        yield prefix + name, fits
        if not fits and levels > 1 and entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry, "", f"{prefix}{name}/", levels - 1, wanted)
