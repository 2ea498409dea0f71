"""The house: layers that point one way, hooks in one place, short files, nothing done at import.

Every rule is shown to fail on a small example beside holding on the tree.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import room_rules as rooms
import source_rules as rules

from fedcircuit.moved import BECAME_ROOMS, MOVED, ROOT

SOURCES = rules.package_sources()


def test_every_module_imports_only_what_its_layer_allows() -> None:
    assert [found for name, text in SOURCES.items() for found in rules.layering(name, text)] == []


def test_every_part_of_the_package_has_a_place_in_the_layers() -> None:
    parts = {rules.part(name) for name in SOURCES} - {""}
    assert parts == set(rules.MAY_IMPORT) == set(rules.BANNED)


def test_the_layers_point_one_way() -> None:
    seen: set[str] = set()
    for name, allowed in rules.MAY_IMPORT.items():
        assert {target.rstrip(":").split(".")[0] for target in allowed} <= seen, name
        seen.add(name)


def test_no_module_imports_itself_in_a_circle() -> None:
    assert rules.import_cycle(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedcircuit.circuits.a", "import flwr"),
        ("fedcircuit.learning.a", "def f():\n    from ray.util import x"),
        ("fedcircuit.records.a", "import matplotlib.pyplot as plt"),
        ("fedcircuit.observers.a", "from rich.table import Table"),
        ("fedcircuit.samples", "import fedcircuit.circuits.circuit"),
        ("fedcircuit.circuits.a", "from fedcircuit.learning.weights import Weights"),
        ("fedcircuit.circuits.a", "from fedcircuit import learning"),
        ("fedcircuit.records.a", "from fedcircuit.learning import training"),
        ("fedcircuit.records.a", "from fedcircuit.circuits.sites import find_sites"),
        ("fedcircuit.records.a", "from fedcircuit.learning.weights_of import x"),
        ("fedcircuit.strategies.a", "from fedcircuit.clients import bridge"),
        ("fedcircuit.clients.a", "import fedcircuit.strategies.observe"),
        ("fedcircuit.clients.a", "from fedcircuit.records.store import RunStore"),
        ("fedcircuit.report.a", "from fedcircuit.app.config import Study"),
        ("fedcircuit.report.a", "from fedcircuit import observe"),
        ("fedcircuit.app.a", "from strategies import observe"),
        ("fedcircuit.circuits.a", "from .circuit import Circuit"),
    ],
)
def test_an_import_against_the_layers_is_found(module: str, source: str) -> None:
    assert len(rules.layering(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedcircuit.circuits.a", "import torch\nfrom fedcircuit.circuits.circuit import Site"),
        ("fedcircuit.records.a", "from fedcircuit.learning import Weights"),
        ("fedcircuit.analysis.a", "from fedcircuit import circuits"),
        ("fedcircuit.app.a", "import typer\nfrom fedcircuit.clients.app import client_app"),
        ("fedcircuit.strategies.a", "import fedcircuit"),
        ("fedcircuit", "from fedcircuit.strategies.observe import observe"),
    ],
)
def test_an_import_along_the_layers_is_allowed(module: str, source: str) -> None:
    assert rules.layering(module, source) == []


def test_an_import_cycle_is_found_and_a_chain_is_not() -> None:
    chain = {"p.a": "from p import b", "p.b": "from p.c import x", "p.c": ""}
    assert rules.import_cycle(chain) == []
    assert set(rules.import_cycle({**chain, "p.c": "import p.a"})) == {"p.a", "p.b", "p.c"}
    assert rules.import_cycle({**chain, "p.c": "def f():\n    import p.a"}) == []


def test_rooms_stand_on_each_other_in_no_circle() -> None:
    assert rooms.circle(rooms.stands_on(SOURCES)) == []


def test_rooms_are_entered_by_their_doors() -> None:
    scripts = [path for path in rules.tree_files() if path.parts[0] == "experiments"]
    users = {str(p): (rules.ROOT / p).read_text("utf-8") for p in scripts if p.suffix == ".py"}
    assert rooms.around_the_door(SOURCES, SOURCES | users) == []


def test_no_room_is_crowded_and_the_core_has_few_floors() -> None:
    assert rooms.crowded(SOURCES) == {}
    assert max(rooms.floors(rooms.stands_on(SOURCES), rooms.CORE).values()) <= rooms.MOST_FLOORS


def test_the_plan_in_the_documentation_is_the_plan() -> None:
    page = (rules.ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert rooms.drawn(SOURCES, rooms.CORE) in page  # python tests/helpers/room_rules.py draws it


HOUSE = {
    "fedcircuit": "",
    "fedcircuit.core": '"""Types."""\nfrom fedcircuit.core.types import T\n__all__ = ["T"]',
    "fedcircuit.core.types": '"""Types."""\nclass T: ...',
    "fedcircuit.core.low": '"""Low."""\nfrom fedcircuit.core.low.a import f\n__all__ = ["f"]',
    "fedcircuit.core.low.a": '"""A."""\nfrom fedcircuit.core import T\ndef f(): ...\ndef g(): ...',
    "fedcircuit.core.high": '"""High."""\n',
    "fedcircuit.core.high.b": '"""B."""\nfrom fedcircuit.core.low import f',
}


def test_a_small_house_is_drawn_floor_by_floor() -> None:
    assert rooms.stands_on(HOUSE)["fedcircuit.core.high"] == {"fedcircuit.core.low"}
    assert rooms.floors(rooms.stands_on(HOUSE), "fedcircuit.core") == {
        "fedcircuit.core": 0, "fedcircuit.core.low": 1, "fedcircuit.core.high": 2,
    }  # fmt: skip
    assert rooms.drawn(HOUSE, "fedcircuit.core").split() == [
        "2", "high", "High.", "1", "low", "Low.", "0", "core", "Types.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("from fedcircuit.core.low import f", 0),
        ("from fedcircuit.core.low.a import f", 1),
        ("from fedcircuit.core.low import g", 1),
        ("from fedcircuit.core import T", 0),
        ("from fedcircuit.core.types import T", 1),
        ("def later():\n    from fedcircuit.core.low.a import f", 1),
    ],
)
def test_a_way_around_a_door_is_found(line: str, wrong: int) -> None:
    found = rooms.around_the_door(HOUSE, {"fedcircuit.core.high.c": line})
    assert len(found) == wrong
    assert all("list it in __all__ of fedcircuit.core" in words for words in found)


def test_rooms_in_a_circle_and_a_crowded_room_are_found() -> None:
    below = {"fedcircuit.core.low.c": "def f():\n    from fedcircuit.core.high import h"}
    assert set(rooms.circle(rooms.stands_on(HOUSE | below))) == {
        "fedcircuit.core.low", "fedcircuit.core.high",
    }  # fmt: skip
    many = {f"fedcircuit.core.low.m{number}": "" for number in range(11)}
    assert rooms.crowded(HOUSE | many) == {"fedcircuit.core.low": 13}


def test_every_old_name_leads_to_a_module_that_is_there() -> None:
    assert {f"{ROOT}{new}" for new in MOVED.values()} <= set(SOURCES)
    assert not {f"{ROOT}{old}" for old in MOVED} & set(SOURCES)


@pytest.mark.parametrize("old", ["circuits.probe", "strategies.recorder", "circuits.edges.paths"])
def test_an_old_name_is_the_new_module_and_says_so(old: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{ROOT}{old} is now {ROOT}{MOVED[old]}"):
        before = importlib.import_module(ROOT + old)
    now = importlib.import_module(ROOT + MOVED[old])
    for name in vars(now):
        if not name.startswith("__"):
            assert getattr(before, name) is getattr(now, name)
    del sys.modules[ROOT + old]


@pytest.mark.parametrize("room", sorted(BECAME_ROOMS))
def test_what_a_module_had_is_found_where_a_room_is_now(room: str) -> None:
    here, now = (importlib.import_module(ROOT + n) for n in (room, BECAME_ROOMS[room]))
    names = [n for n in vars(now) if not n.startswith("__") and n not in vars(here)]
    for name in names:
        with pytest.warns(DeprecationWarning, match=f"{ROOT}{room}.{name} is now in"):
            assert getattr(here, name) is getattr(now, name)
    assert not hasattr(here, "never_was")


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fedcircuit.circuits.never")


def test_hooks_are_registered_in_one_file_and_those_of_training_in_another() -> None:
    # training must not know circuits: the input of a model's head is read beside the networks
    users = {name for name, text in SOURCES.items() if rules.registered_hooks(text)}
    assert users == {
        "fedcircuit.circuits.sites.hooks",
        "fedcircuit.learning.networks.features",
    }


def test_a_registered_hook_is_found() -> None:
    text = "def f(m):\n    m.conv.register_full_backward_hook(g)\n    m.weight.register_hook(g)\n"
    assert rules.registered_hooks(text) == [2, 3]


def test_modules_only_define_things() -> None:
    exempt = {"fedcircuit.__main__", "fedcircuit"}  # the latter makes old names importable
    modules = {name: text for name, text in SOURCES.items() if name not in exempt}
    work = {name: rules.work_at_import(text) for name, text in modules.items()}
    assert {name: lines for name, lines in work.items() if lines} == {}


def test_work_at_import_is_found() -> None:
    text = '"""Doc."""\nimport os\nX = 1\nos.chdir("x")\nfor i in range(3):\n    pass\n'
    assert rules.work_at_import(text) == [4, 5]


def test_importing_the_package_imports_neither_torch_nor_flower() -> None:
    code = "import sys, fedcircuit; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(ran.stdout.split())
    assert "fedcircuit" in loaded
    assert not loaded & {"torch", "flwr", "ray", "numpy", "pandas", "seaborn", "typer", "pydantic"}


def test_what_takes_long_to_import_is_imported_where_it_is_used() -> None:
    slow = re.compile(r"(?:from|import) (?:sklearn|scipy\.(?:stats|optimize|spatial)|scipy import)")
    lines = [(name, line) for name, text in SOURCES.items() for line in text.splitlines()]
    assert [(name, line) for name, line in lines if slow.match(line)] == []


def test_files_and_functions_are_short() -> None:
    files = [path for path in rules.tree_files() if path.suffix == ".py"]
    long = {str(path): rules.too_long((rules.ROOT / path).read_text("utf-8")) for path in files}
    assert {path: found for path, found in long.items() if found} == {}


def test_a_long_file_and_a_long_function_are_found() -> None:
    assert rules.too_long("x = 1\n" * 300) == []
    assert rules.too_long("x = 1\n" * 301) == ["301 lines"]
    assert rules.too_long("def f():\n" + "    x = 1\n" * 59) == []
    assert rules.too_long("def f():\n" + "    x = 1\n" * 60) == ["f, line 1: 61 lines"]


def test_everything_public_has_a_docstring() -> None:
    missing = {name: rules.undocumented(text) for name, text in SOURCES.items()}
    assert {name: found for name, found in missing.items() if found} == {}


def test_a_missing_docstring_is_found() -> None:
    text = (
        '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...\n    def _g(self): ...\n'
        "    def __len__(self): ...\ndef h():\n    def inner(): ...\n"
    )
    assert rules.undocumented(text) == ["A.f", "h"]
    assert rules.undocumented("x = 1") == ["the module"]


def test_no_text_names_somebodys_machine_or_a_registry() -> None:
    found = {}
    for path in rules.tree_files():
        data = b"" if (rules.ROOT / path).is_symlink() else (rules.ROOT / path).read_bytes()
        if b"\0" not in data and (traces := rules.machine_traces(data.decode("utf-8"))):
            found[str(path)] = traces
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "root = '" + "/ho" + "me/anna/runs'",
        "cd " + "/wo" + "rk/main",
        "see https://py" + "pi.org/project/x",
        "pip install --extra-index" + "-url x",
    ],
)
def test_a_trace_of_a_machine_is_found(text: str) -> None:
    assert rules.machine_traces(text) == [f"line 1: {text}"]


@pytest.mark.parametrize(
    "text",
    ["a/work/b", "experiments/home/x", "~/work/x", "https://a.org/home/x", "#!/usr/bin/env bash"],
)
def test_an_ordinary_path_is_no_trace(text: str) -> None:
    assert rules.machine_traces(text) == []


def test_the_two_outer_folders_are_walked_once() -> None:
    assert {"fedcircuit.strategies", "fedcircuit.clients"} <= set(SOURCES)
    assert Path(rules.ROOT / "fedcircuit/strategies").is_symlink()
    files = [path for path in rules.tree_files() if path.suffix == ".py"]
    assert len({(rules.ROOT / path).resolve() for path in files}) == len(files)
