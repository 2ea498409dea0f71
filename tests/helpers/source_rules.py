"""The rules of the house as functions over source text; each returns what breaks it, in words."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_LINES = 300
MAX_FUNCTION_LINES = 60
OUTSIDE = ("strategies", "clients")  # folders at the top that are sub-packages of fedcircuit

# What each part may import of the others, by dotted prefix below ``fedcircuit``. Read downwards:
# no line names a part of a later one, so the table itself has no cycle. "circuits:" is what stands
# in ``fedcircuit.circuits`` itself, the types, without its rooms.
MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "samples": (),
    "logits": (),
    "messages": (),
    "wire": (),
    "html": (),
    "flower": (),
    "moved": (),
    "ranges": (),
    "circuits": ("samples", "logits", "messages", "html", "ranges"),
    "learning": ("samples", "logits", "messages"),
    "aggregation": ("samples", "logits", "messages", "circuits", "learning"),
    "analysis": ("samples", "logits", "circuits", "learning"),
    "records": ("samples", "messages", "html", "circuits:", "circuits.models", "learning:"),
    "observers": (
        "samples", "logits", "messages", "circuits", "learning", "analysis", "records",
    ),
    "report": ("html", "circuits:", "circuits.models", "analysis", "records"),
    "strategies": (
        "samples", "logits", "messages", "wire", "flower", "circuits", "learning", "aggregation",
        "analysis", "records", "observers",
    ),
    "clients": (
        "samples", "logits", "messages", "wire", "flower", "circuits", "learning", "aggregation",
    ),
    "app": (
        "samples", "logits", "messages", "wire", "flower", "html", "circuits", "learning",
        "aggregation", "analysis", "records", "observers", "report", "strategies", "clients",
    ),
}  # fmt: skip

FEDERATION = {"flwr", "ray"}
DRAWING = {"seaborn", "matplotlib", "jinja2"}
TERMINAL = {"typer", "click", "rich"}
CONFIGURATION = {"pydantic", "yaml"}
CORE = (
    "samples", "logits", "messages", "wire", "html", "moved", "ranges", "circuits", "learning",
    "aggregation", "analysis", "records", "observers",
)  # fmt: skip
BANNED: Mapping[str, set[str]] = {
    **dict.fromkeys(CORE, FEDERATION | DRAWING | TERMINAL | CONFIGURATION),
    "flower": {"ray", "torch"} | DRAWING | TERMINAL | CONFIGURATION,
    "report": FEDERATION | TERMINAL | CONFIGURATION | {"torch"},
    "strategies": {"ray"} | DRAWING | TERMINAL | CONFIGURATION,
    "clients": {"ray"} | DRAWING | TERMINAL | CONFIGURATION,
    "app": set(),
}


ROOMS = {  # folders of the package, such as circuits.sites
    ".".join(path.parts[-2:])
    for part in ("fedcircuit/circuits", "fedcircuit/learning")
    for path in (ROOT / part).iterdir()
    if (path / "__init__.py").is_file()
}


def tree_files() -> list[Path]:
    """Files of the clone, tracked or new but not ignored, relative to its root; links as links."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    paths = (Path(name) for name in listing.stdout.split("\0") if name)
    return sorted(path for path in paths if (ROOT / path).is_symlink() or (ROOT / path).is_file())


def module_name(path: Path) -> str:
    """Dotted name under which a file of the tree is imported, ``strategies/`` as a sub-package."""
    parts = path.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(("fedcircuit", *parts) if parts[0] in OUTSIDE else parts)


def package_sources() -> dict[str, str]:
    """Source text of every module of the package by its dotted name."""
    return {
        module_name(path): (ROOT / path).read_text(encoding="utf-8")
        for path in tree_files()
        if path.suffix == ".py" and path.parts[0] in ("fedcircuit", *OUTSIDE)
    }


def imported(source: str, *, lazily: bool = True) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a module imports, ``from a import b`` as a.b.

    With ``lazily=False`` only what is imported together with the module, not inside functions.
    A relative import is given with its dots: nothing else starts with one.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree) if lazily else tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def part(module: str) -> str:
    """The part of the package a module belongs to; empty for ``fedcircuit`` itself.

    ``python -m fedcircuit`` is the command line by another name.
    """
    name = module.split(".")[1] if "." in module else ""
    return "app" if name == "__main__" else name


def layering(module: str, source: str) -> list[str]:
    """Imports of a module that its place in the house does not allow."""
    found = []
    own = part(module)
    for line, name in imported(source):
        root = name.split(".")[0]
        if name.startswith("."):
            found.append(f"{module}:{line} imports relatively: {name}")
        elif root in OUTSIDE:
            found.append(f"{module}:{line} imports {root}, not fedcircuit.{root}")
        elif own and root in BANNED.get(own, set()):
            found.append(f"{module}:{line} imports {root}, which {own} must not know")
        elif own and name.startswith("fedcircuit.") and part(name) != own:
            allowed = MAY_IMPORT.get(own, ())
            inner = name.removeprefix("fedcircuit.")
            old_names = part(name) == "moved"  # every room may lead to what its names were
            if not old_names and not any(_within(inner, prefix) for prefix in allowed):
                found.append(f"{module}:{line} imports {name}; {own} may import {allowed}")
    return found


def _within(name: str, prefix: str) -> bool:
    if prefix.endswith(":"):  # the names of the part itself
        return name.count(".") == 1 and name.startswith(prefix[:-1] + ".") and name not in ROOMS
    return f"{name}.".startswith(f"{prefix}.")


def import_cycle(sources: Mapping[str, str]) -> list[str]:
    """Modules of one import cycle, the first again at the end; empty where there is none.

    Imports inside functions do not count: they are how a heavy module is loaded late.
    """
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = set()
        for _, name in imported(source, lazily=False):
            # ``from fedcircuit.circuits import probe`` may name a module or a value in one
            parent = name.rpartition(".")[0]
            targets.add(name if name in sources else parent)
        graph[module] = (targets & sources.keys()) - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def registered_hooks(source: str) -> list[int]:
    """Lines that register a hook of PyTorch on a module or a tensor."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and re.fullmatch(r"register_.*hook", node.attr)
    ]


def work_at_import(source: str) -> list[int]:
    """Lines at the top of a module that do more than define: calls, loops, ``with``, ``try``."""
    allowed = (
        ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
        ast.Assign, ast.AnnAssign, ast.If,
    )  # fmt: skip
    return [
        node.lineno
        for node in ast.parse(source).body
        if not isinstance(node, allowed)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


def too_long(source: str) -> list[str]:
    """A file above 300 lines, and its functions above 60."""
    lines = len(source.splitlines())
    found = [f"{lines} lines"] if lines > MAX_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{node.name}, line {node.lineno}: {length} lines")
    return found


def undocumented(source: str) -> list[str]:
    """The module, its public classes and functions and their public methods without docstring."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["the module"]
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

    def visit(nodes: Iterable[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if not isinstance(node, definitions) or node.name.startswith("_"):
                continue
            marks = {ast.unparse(mark).split(".")[-1] for mark in node.decorator_list}
            if not ast.get_docstring(node) and not marks & {"overload", "override"}:
                found.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(tree.body, "")
    return found


# Built from pieces, so that this file does not break its own rule.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}/-])/(?:"
    + "|".join(("work", "farm", "root", "home", "Users", "tmp"))
    + r")/[\w.$]"
)
REGISTRY = re.compile(
    "|".join(("pypi" + r"\.org", "python" + "hosted", r"download\.py" + "torch", "index-" + "url"))
)


def machine_traces(text: str) -> list[str]:
    """Paths of somebody's machine and hosts or settings of package registries in a text."""
    return [
        f"line {number}: {line.strip()[:100]}"
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line)
    ]
