"""The package's rooms: each knows only those on lower floors, and no module is part of a cycle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mvsplat

PACKAGE = Path(mvsplat.__file__).parent

# From the ground up; modules of the top level stand among the rooms.
ROOMS = (
    ("geometry",),
    ("types", "private_names"),
    ("files", "machine", "kernels", "configurable", "progress"),
    ("encoder", "decoder"),
    ("published", "weights", "export", "data"),
    ("evaluation",),
    ("refinement",),
    ("losses", "schedules", "training"),
    ("model",),
    ("reconstruction", "viewer"),
    ("doctor",),
    ("cli",),
    ("__main__",),
)
# The same for the rooms and modules of data.
ROOMS_OF_DATA = (
    ("faults",),
    ("storage",),
    (
        "camera_checks",
        "left_out",
        "picture_formats",
        "scene",
        "transforms",
        "untrusted",
        "wording",
    ),
    ("triangulation",),
    ("bounds",),
    ("scene_bounds",),
    ("chunks",),
    ("generated", "loading", "readers"),
    ("evaluation_index",),
    ("data_module",),
)
# What the trainer calls in these rooms knows what they compute, never the other way round.
ROOMS_WITH_CALLBACKS = ("evaluation", "training")


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("mvsplat", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = ast.parse(path.read_text())
    return found


def imports(name: str, tree: ast.AST, known: set[str]) -> set[str]:
    """The package's modules that a module imports, wherever in its code."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {n if n in known else node.module for n in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {n for n in found if n in known and n not in ("mvsplat", name)}


@pytest.mark.parametrize(
    ("building", "rooms"), [("mvsplat", ROOMS), ("mvsplat.data", ROOMS_OF_DATA)]
)
def test_no_room_knows_what_stands_above_it(building, rooms):
    level = {room: floor for floor, rooms_of_floor in enumerate(rooms) for room in rooms_of_floor}
    trees = modules()
    inside = [name for name in trees if name.startswith(f"{building}.")]
    depth = building.count(".") + 1
    wrong = []
    for name in inside:
        room = name.split(".")[depth]
        for other in imports(name, trees[name], set(inside)):
            other_room = other.split(".")[depth]
            if other_room != room and level[other_room] >= level[room]:
                wrong.append(f"{name} -> {other}")
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("room", ROOMS_WITH_CALLBACKS)
def test_only_callbacks_know_callbacks(room):
    trees = {name: tree for name, tree in modules().items() if name.startswith(f"mvsplat.{room}.")}
    callbacks = {name for name, tree in trees.items() if defines_callback(tree)}
    assert callbacks  # or this test looks for the wrong thing
    wrong = [
        f"{name} -> {other}"
        for name in set(trees) - callbacks
        for other in imports(name, trees[name], callbacks)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def defines_callback(tree: ast.Module) -> bool:
    """Whether a class in it is derived from one of Lightning's callbacks."""
    theirs = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "lightning.pytorch.callbacks"
        for alias in node.names
    }
    bases = {
        base.id
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    }
    return bool(theirs & bases)


def test_no_module_imports_itself_through_others():
    """Imports inside of functions count, too: they hide a cycle, they do not undo it."""
    trees = modules()
    packages = {name for name in trees if any(n.startswith(name + ".") for n in trees)}
    graph = {
        name: {n for n in imports(name, tree, set(trees)) if n not in packages}
        for name, tree in trees.items()
        if name not in packages
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None
