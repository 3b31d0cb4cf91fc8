"""A room imports only rooms below it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "forethought"
ROOMS = ["cli", "run", "sweep", "report", "evaluation", "objectives", "models", "tasks", "results"]
CIRCULAR = {"cli"}  # compose and launchers import each other.


def imported(path):
    """Rooms that a file imports, also inside its functions."""
    for found in ast.walk(ast.parse(path.read_text())):
        names = [found.module] if isinstance(found, ast.ImportFrom) else []
        names += [alias.name for alias in found.names] if isinstance(found, ast.Import) else []
        for name in filter(None, names):
            first, *rest = name.split(".")
            if first == "forethought" and rest and rest[0] in ROOMS:
                yield rest[0]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below(room):
    above = ROOMS[: ROOMS.index(room)]
    for path in (SOURCE / room).rglob("*.py"):
        assert not set(above) & set(imported(path)), path


def modules_of(room):
    """Return the file of each module in a room."""
    return {
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (SOURCE / room).rglob("*.py")
    }


def imported_modules(path, modules):
    """Return those of the modules that a file imports, including imports inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            # A name that is not a submodule is defined in the package itself.
            names |= submodules | ({node.module} if len(submodules) < len(node.names) else set())
    return names & modules.keys()


@pytest.mark.parametrize("room", sorted(set(ROOMS) - CIRCULAR))
def test_modules_of_a_room_import_each_other_without_a_circle(room):
    modules = modules_of(room)
    TopologicalSorter({name: imported_modules(path, modules) for name, path in modules.items()}).prepare()


def test_only_cli_and_run_see_hydra():
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] not in ("cli", "run"):
            assert "import hydra" not in path.read_text(), path
            assert "from hydra" not in path.read_text(), path


def test_reports_never_see_torch():
    for path in (SOURCE / "report").rglob("*.py"):
        assert "import torch" not in path.read_text(), path
        assert "from torch" not in path.read_text(), path
