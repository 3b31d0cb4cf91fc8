"""`forethought resume`: resume a sweep, one of its cells, or a single run, wherever the folder lies now."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.errors import InputError

if TYPE_CHECKING:
    from forethought.config import Composer
    from forethought.sweeps import Cell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep or of a run")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="further overrides: hydra/launcher=basic, or max_steps=20000 to go on beyond the end",
    )


def run(options: argparse.Namespace) -> int:
    from forethought.sweeps import GRID_FILE, read_cell, read_grid

    folder, further = options.folder.resolve(), options.overrides
    if (folder / GRID_FILE).is_file():
        return _resume_cells(folder, read_grid(folder), further)
    # A cell may be a link to another disk: its sweep is where the link lies.
    named = Path(os.path.abspath(options.folder))
    folder = named if (named.parent / GRID_FILE).is_file() else folder
    if (folder.parent / GRID_FILE).is_file():
        grid = read_grid(folder.parent)
        if folder.name not in grid:
            raise InputError(f"{folder}: not listed in grid.json of its sweep; pass a run or a sweep")
        return _resume_cells(folder.parent, {folder.name: grid[folder.name]}, further)
    cell = read_cell(folder)
    if cell is None:
        raise InputError(f"{folder}: no run has begun here; pass the folder of a sweep or run")
    return _resume_single(folder, cell, further)


def _resume_single(folder: Path, stored: Cell, further: list[str]) -> int:
    from forethought.cli.carry_out import carry_out

    flags, own = _split(stored.words)

    def compose(words: list[str]) -> Cell:
        return _composer(words, False, flags, folder).cells()[0]

    resumed, kept = _recompose(stored.name, stored.at(folder), compose, own, further)
    resumed = replace(resumed, sweep=stored.sweep)
    if kept:
        print(f"{folder}: its config files have changed since; resumes with the config in the folder")
    if resumed.name != stored.name:
        resumed = _elsewhere(resumed, folder, stored.name)
        _copy_checkpoint(resumed, folder)
    return carry_out(_composer([], False, [], folder), [resumed])


def _resume_cells(sweep: Path, grid: dict[str, list[str]], further: list[str]) -> int:
    """Resume cells. Cells that were composed with the same flags and words of Hydra go together."""
    from forethought.cli.carry_out import carry_out
    from forethought.launchers import build_launcher
    from forethought.sweeps import read_cell, read_planned_cells

    planned = read_planned_cells(sweep)
    alike: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name, words in grid.items():
        flags, own = _split(words)
        hydra = [word for word in own if word.lstrip("+~").startswith("hydra")]
        key = (*flags, "", *hydra)
        alike.setdefault(key, {})[name] = [word for word in own if word not in hydra]
    groups = []
    for key, cells in alike.items():
        split = key.index("")
        flags, hydra = [*key[:split]], [*key[split + 1 :]]
        hydra += [word for word in further if word.startswith("hydra")]
        changes = [word for word in further if not word.startswith("hydra")]
        composer = _composer(hydra, True, flags, sweep)
        composed, all_kept = {}, []
        for name, words in cells.items():
            stored = planned.get(name) or read_cell(sweep / name)
            stored = stored.at(sweep / name) if stored is not None and stored.name == name else None
            cell, kept = _recompose(name, stored, composer.cell, words, changes)
            all_kept += [name] * kept
            if stored is None and cell.name != name and not changes:
                print(f"{name}: the config files have changed since; its overrides now make {cell.name}")
            elif cell.name != name:
                cell = _elsewhere(cell, sweep / name, name)
            composed[name] = cell
        build_launcher(composer.launcher)  # a mistake in its options is found before anything is written
        if all_kept:
            print(f"{sweep}: config files have changed since; {len(all_kept)} cells keep the config they had")
        groups.append((composer, composed))
    codes = []
    for composer, composed in groups:
        for name, cell in composed.items():
            _copy_checkpoint(cell, sweep / name)
        codes.append(carry_out(composer, list({cell.name: cell for cell in composed.values()}.values())))
    return max(codes)


def _recompose(
    name: str,
    stored: Cell | None,
    compose: Callable[[list[str]], Cell],
    words: list[str],
    changes: list[str],
) -> tuple[Cell, bool]:
    """Compose a cell from its words and from further ones.

    Args:
        name: of the cell that the words made.
        stored: that cell, if its folder holds it.

    Returns:
        the cell, and whether `stored` was used because config files have changed since.
    """
    try:
        cell = compose(words)
    except InputError:
        if stored is None:
            raise
    else:
        if stored is None or cell.name == name:
            return (compose([*words, *changes]) if changes else cell), False
    return _change(stored, changes), True


def _change(cell: Cell, words: list[str]) -> Cell:
    """Return a cell with KEY=VALUE words applied to its config."""
    from forethought.config import apply_overrides
    from forethought.sweeps import cell_name

    config = apply_overrides(cell.config, words, tuple(cell.config))
    return replace(
        cell,
        name=cell_name(config, cell.choices),
        overrides=[*cell.overrides, *words],
        words=[*cell.words, *words],
        config=config,
    )


def _composer(words: list[str], is_sweep: bool, flags: list[str], folder: Path) -> Composer:
    from forethought.config import Composer

    named = dict(flag.lstrip("-").split("=", 1) for flag in flags)
    return Composer(words, is_sweep, named.get("config-dir"), named.get("config-name"), folder)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    return [w for w in words if w.startswith("--")], [w for w in words if not w.startswith("--")]


def _elsewhere(cell: Cell, folder: Path, name: str) -> Cell:
    """Return a changed cell with a folder of its own: the old results stay true of the old config.

    Raises:
        InputError: the cell cannot continue from the checkpoint in the old folder.
    """
    from forethought.training import check

    new_name = cell.name if folder.name == name else f"{folder.name}-{cell.name[-8:]}"
    target = cell.at(folder.with_name(new_name))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not target.folder.exists() and checkpoint.is_file():
        check(target.config, checkpoint=checkpoint)
    return target


def _copy_checkpoint(cell: Cell, folder: Path) -> None:
    """Let a changed cell start from the checkpoint and curves of the old one."""
    if cell.folder.exists() or not (folder / "checkpoints").is_dir():
        return
    cell.folder.mkdir(parents=True)
    shutil.copytree(folder / "checkpoints", cell.folder / "checkpoints")
    for file in ("metrics.csv", ".stretches.json"):
        if (folder / file).exists():
            shutil.copy(folder / file, cell.folder / file)
    print(f"{folder.name}: resumes as {cell.folder}, from its last checkpoint")
