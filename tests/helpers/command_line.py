"""The command line in a process of its own, as a shell starts it, but with the imports done before.

A server process imports the package once and forks for every command: what crosses a process is
still crossed (arguments, working directory, output, exit code), the seconds of importing are not
paid again. One test in ``tests/app/commands/test_demo.py`` starts ``python -m fedcircuit`` itself.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

PRELOADED = ["fedcircuit.app.commands", "fedcircuit.app.study", "fedcircuit.report.figures"]
LIMIT = 120.0  # seconds


def fedcircuit(
    *arguments: str | Path, cwd: Path, columns: int = 120
) -> subprocess.CompletedProcess[str]:
    """What a command prints, and its exit code."""
    return _forked(_command, ["fedcircuit", *map(str, arguments)], cwd, columns)


def script(path: Path, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a script prints, and its exit code; a FutureWarning ends it."""
    return _forked(_script, [str(path)], cwd, 120)


def _forked(
    work: Callable[[], None], words: list[str], cwd: Path, columns: int
) -> subprocess.CompletedProcess[str]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        out, error = Path(folder, "out"), Path(folder, "error")
        process = context.Process(target=_at_work, args=(work, words, cwd, columns, out, error))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(words, LIMIT, out.read_text("utf-8"))
        told = (out.read_text("utf-8"), error.read_text("utf-8"))
        return subprocess.CompletedProcess(words, process.exitcode or 0, *told)


def _at_work(
    work: Callable[[], None], words: list[str], cwd: Path, columns: int, out: Path, error: Path
) -> None:
    for number, path in ((1, out), (2, error)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ["COLUMNS"] = str(columns)
    sys.argv = words
    try:
        work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _command() -> None:
    from fedcircuit.app.commands import main

    main()


def _script() -> None:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  # as an interpreter does for a script
    warnings.simplefilter("error", FutureWarning)
    runpy.run_path(sys.argv[0], run_name="__main__")
