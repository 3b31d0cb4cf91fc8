"""Layers of the source: a room imports only rooms below, no circles, one meaning for each public name."""

import ast
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "forethought"
ROOMS = [
    *(
        "cli",
        "launchers",
        "config",
        "training",
        "loggers",
        "report",
        "sweeps",
        "published",
        "hardware",
        "objectives",
    ),
    *("optimizers", "models", "evaluation", "tasks", "results"),
]
PATHS = sorted(SOURCE.rglob("*.py"))
NAMES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PATHS
}
PROTOCOLS = {
    "cli": {"add_arguments", "run"},  # each command
    "report": {"CAPTION", "TITLE", "draw"},  # each plot
}


def room_of(path):
    return path.relative_to(SOURCE).parts[0]


@cache
def tree_of(path):
    return ast.parse(path.read_text())


@cache
def imports_of(path):
    """Return the modules that a file imports, also in functions, but not for type checkers alone."""
    skipped = {
        id(node)
        for block in ast.walk(tree_of(path))
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names = set()
    for node in ast.walk(tree_of(path)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES.keys()
            # A name that is not a submodule is defined in the package itself.
            names |= submodules | ({node.module} if len(submodules) < len(node.names) else set())
    return names


def files_that_import(package):
    return {path for path in PATHS if any(f"{name}.".startswith(f"{package}.") for name in imports_of(path))}


def test_every_folder_is_a_room():
    assert {room_of(path) for path in PATHS if path.parent != SOURCE} == {*ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below(room):
    above = {name: files_that_import(f"forethought.{name}") for name in ROOMS[: ROOMS.index(room)]}
    for name, files in above.items():
        assert not [path for path in files if room_of(path) == room], name


def test_modules_import_each_other_without_a_circle():
    TopologicalSorter({name: imports_of(path) & NAMES.keys() for name, path in NAMES.items()}).prepare()


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("hydra", {"config"}),
        ("hydra._internal", set()),
        ("omegaconf", {"config", "training"}),
        ("pandas", {"report", "results"}),
        ("matplotlib", {"report"}),
    ],
)
def test_only_some_rooms_import(package, rooms):
    assert {room_of(path) for path in files_that_import(package)} == rooms


@pytest.mark.parametrize("room", ["cli", "config", "published", "report", "results", "sweeps"])
def test_rooms_of_quick_commands_import_torch_in_no_module(room):
    for path in PATHS:
        if room_of(path) == room:
            assert "torch" not in {name.split(".")[0] for name in imports_of(path)}, path


def test_a_public_name_is_defined_once():
    """Functions, classes and constants of all files, but those that every file of a kind must define."""
    definitions = defaultdict(set)
    for path in PATHS:
        for node in tree_of(path).body:
            names = {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
            for name in names - PROTOCOLS.get(room_of(path), set()) - {"log"}:
                if not name.startswith("_"):
                    definitions[name].add(str(path.relative_to(SOURCE)))
    assert {name: files for name, files in definitions.items() if len(files) > 1} == {}
