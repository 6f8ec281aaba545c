"""The package's rooms: each knows only those on lower floors, and no module is part of a cycle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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
    ("losses", "schedules", "training"),
    ("model",),
    ("reconstruction", "viewer"),
    ("doctor",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


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


def test_no_room_knows_what_stands_above_it():
    trees = modules()
    wrong = []
    for name, tree in trees.items():
        room = (name.split(".") + ["mvsplat"])[1]
        if room == "mvsplat":
            continue
        for other in imports(name, tree, set(trees)):
            other_room = other.split(".")[1]
            if other_room != room and LEVEL[other_room] >= LEVEL[room]:
                wrong.append(f"{name} -> {other}")
    assert not wrong, "\n".join(sorted(wrong))


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
