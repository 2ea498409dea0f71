"""The floor plan: rooms, what they let out, and on which other rooms they stand.

A room is a folder of the package with an ``__init__.py``, or a module at the top of it. Inside a
room modules import each other by name; from outside only what the room's ``__all__`` lists.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

import source_rules as rules

MOST_FILES = 12  # in a room
MOST_FLOORS = 8  # of the core: how many rooms stand on each other
CORE = "fedcircuit.circuits"


def rooms_of(modules: Collection[str]) -> set[str]:
    """Packages among the modules: whatever has modules below it."""
    return {name.rpartition(".")[0] for name in modules} - {"", "fedcircuit"}


def room_of(module: str, rooms: Collection[str]) -> str:
    """The room a module belongs to: its folder, or itself at the top of the package."""
    if module in rooms:
        return module
    folder = module.rpartition(".")[0]
    return folder if folder in rooms else module


def let_out(source: str) -> set[str]:
    """Names in the ``__all__`` of a room."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def around_the_door(sources: Mapping[str, str], users: Mapping[str, str]) -> list[str]:
    """Imports in ``users`` of what another room has not let out, with the way to mend them."""
    rooms = rooms_of(sources)
    doors = {room: let_out(sources.get(room, "")) for room in rooms}
    found = []
    for user, text in users.items():
        for line, name in rules.imported(text):
            target, _, wanted = name.rpartition(".")
            if not name.startswith("fedcircuit.") or target == "fedcircuit":
                continue
            room = room_of(target, rooms)
            if room == room_of(user, rooms) or (target == room and room not in rooms):
                continue
            if target != room or (wanted not in doors[room] and name not in rooms):
                found.append(
                    f"{user}:{line} imports {name} past the door of its room: "
                    f"write 'from {room} import {wanted}' and list it in __all__ of {room}"
                )
    return found


def stands_on(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """For every room the other rooms that it imports, anywhere in its modules."""
    rooms = rooms_of(sources)
    found: dict[str, set[str]] = {room_of(module, rooms): set() for module in sources}
    for module, text in sources.items():
        own = room_of(module, rooms)
        for _, name in rules.imported(text):
            target = name if name in sources else name.rpartition(".")[0]
            if target in sources and target != "fedcircuit":
                found[own] |= {room_of(target, rooms)} - {own}
    found.pop("fedcircuit", None)
    return found


def circle(plan: Mapping[str, set[str]]) -> list[str]:
    """Rooms that stand on each other in a circle; empty where there is none."""
    try:
        TopologicalSorter(plan).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def floors(plan: Mapping[str, set[str]], part: str) -> dict[str, int]:
    """The floor of every room of a part: one above the highest of those it stands on.

    The part's own module of types is the ground, floor 0.
    """
    found: dict[str, int] = {}
    for room in TopologicalSorter(plan).static_order():
        below = [found[other] for other in plan[room] if other in found]
        if room == part or room.startswith(part + "."):
            found[room] = 0 if room == part and not below else max(below, default=0) + 1
    return found


def crowded(sources: Mapping[str, str]) -> dict[str, int]:
    """Rooms with more files than there is room for."""
    rooms = rooms_of(sources)
    count = dict.fromkeys(rooms, 0)
    for module in sources:
        room = room_of(module, rooms)
        if room in count:
            count[room] += 1
    return {room: n for room, n in count.items() if n > MOST_FILES}


def drawn(sources: Mapping[str, str], part: str) -> str:
    """The floors of a part from the roof down, each room with its first sentence."""
    plan = stands_on(sources)
    level = floors(plan, part)
    lines = []
    for floor in sorted(set(level.values()), reverse=True):
        for room in sorted(name for name, at in level.items() if at == floor):
            doc = (ast.get_docstring(ast.parse(sources[room])) or "").splitlines()[0]
            name = room.removeprefix(part + ".") if room != part else part.rpartition(".")[2]
            lines.append(f"{floor}  {name:<12}  {doc}")
    return "\n".join(lines)


if __name__ == "__main__":
    for name in ("fedcircuit.circuits",):
        print(drawn(rules.package_sources(), name))
