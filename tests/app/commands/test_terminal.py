"""What a terminal is given: help with examples, completion in bash, less and more to read."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from fedcircuit.app.commands import completion
from fedcircuit.app.commands.cli import app
from fedcircuit.app.commands.verbosity import Voice, seconds_text

COMMANDS = {
    command.name or command.callback.__name__: command  # type: ignore[union-attr]
    for command in app.registered_commands
}


def fedcircuit(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedcircuit", *arguments], capture_output=True, text=True, cwd=cwd,
        timeout=120, check=False, env={**os.environ, "COLUMNS": "120", **variables},
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example_of_it(name: str) -> None:
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith(f"Example: fedcircuit {name}"), name
    click = typer.main.get_command(app)
    options = {option for p in click.commands[name].params for option in p.opts}  # type: ignore[attr-defined]
    used = {word for word in epilog.split() if word.startswith("--")}
    assert used <= options


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("runs/demo-1", "runs/demo-2", "runs/demo-1/looks/gates"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "runs/notes").mkdir()
    (tmp_path / "studies").mkdir()
    for name in ("study.yaml", "studies/mnist.yml", "studies/read.me", ".hidden.yaml"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_commands_options_and_folders(folder: Path) -> None:
    lines = {
        "": " ".join(COMMANDS),
        "re": "resume report",
        "report ru": "runs/demo-1 runs/demo-2",
        "resume runs/demo-2 --r": "--rounds",
        "demo --q": "--quiet",
        "report runs/demo-1 --look ": "gates",
        "plot runs/demo-2 --look ": "",
        "run st": "studies/mnist.yml study.yaml",
        "plot runs/demo-1 --formats svg,p": "svg,pdf svg,png",
        "compare runs/demo-1 runs/demo-": "runs/demo-1 runs/demo-2",
    }
    empty = "''"  # the word that is being typed has no letter yet
    calls = "".join(
        f"COMP_WORDS=(fedcircuit {line} {empty if line[-1:] in ('', ' ') else ''}); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
        '_fedcircuit_completion "$program"; echo "${COMPREPLY[*]}"\n'
        for line in lines
    )
    program = folder / "fedcircuit"
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c \'import sys; sys.argv[0] = "fedcircuit";'
        'from fedcircuit.app.commands.cli import main; main()\' "$@"\n'
    )
    program.chmod(0o755)
    script = f'program={program}\neval "$($program --show-completion bash)"\nset -f\n{calls}'
    ran = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=folder, check=False,
        env={**os.environ, "SHELL": "/bin/bash"},
    )  # fmt: skip
    assert ran.stdout.splitlines() == list(lines.values()), ran.stderr


def test_completion_and_help_import_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; from fedcircuit.app.commands.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "from fedcircuit.app.commands import completion; completion.run_folders('')\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True
    )
    loaded = set(ran.stderr.split())
    assert "typer" in loaded
    assert not loaded & {"torch", "flwr", "numpy", "pandas", "pydantic", "yaml", "scipy", "jinja2"}


def test_paths_are_completed_whole_and_hidden_ones_when_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert completion.run_folders("") == ["runs/demo-1", "runs/demo-2"]
    assert completion.run_folders("runs/demo-1/looks/") == ["runs/demo-1/looks/gates"]
    assert completion.run_folders("nowhere/") == []
    assert completion.run_folders(str(folder / "runs/demo-2"))[0] == str(folder / "runs/demo-2")
    assert completion.study_files("studies/") == ["studies/mnist.yml"]
    assert completion.study_files(".h") == [".hidden.yaml"]
    assert completion.formats("svg,svg,") == ["svg,svg,pdf", "svg,svg,png"]


def said(**how: bool) -> str:
    console = Console(width=80, file=(file := io.StringIO()))
    voice = Voice(console, **how)
    voice.say("[a] verdict")
    voice.more("a detail")
    voice.add({"train": 1.5, "record": 0.004})
    voice.add({"train": 0.5})
    voice.tell_seconds()
    voice.last("report: x")
    return file.getvalue()


def test_quiet_says_the_last_line_and_verbose_where_the_seconds_go() -> None:
    assert said() == "[a] verdict\nreport: x\n"
    assert said(quiet=True) == "report: x\n"
    assert said(verbose=True) == "[a] verdict\na detail\nseconds: train 2.00\nreport: x\n"
    assert seconds_text({"a": 0.1, "b": 2.0}) == "b 2.00, a 0.10"


def test_quiet_and_verbose_together_are_refused(tmp_path: Path) -> None:
    ran = fedcircuit("report", "run", "-q", "-v", cwd=tmp_path)
    assert ran.returncode == 2
    assert "choose one of --quiet and --verbose" in ran.stderr
