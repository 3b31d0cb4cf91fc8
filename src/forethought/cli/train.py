"""`forethought train` and `forethought resume`."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from forethought.cli.compose import Composer, cell_of
from forethought.cli.show import mention_offline_runs, one_line, print_results
from forethought.errors import Impossible, InputError
from forethought.results import read_results
from forethought.sweep import (
    GRID_FILE,
    Cell,
    Grid,
    Locked,
    add_to_grid,
    cell_status,
    clear,
    read_grid,
    stopping_signals,
)


def train(arguments: list[str]) -> int:
    """Run one cell or a sweep; everything is checked before anything is written."""
    composer = Composer(arguments)
    if composer.only_shows:
        composer.show(task)
        return 0
    if composer.is_search:
        return _search(composer)
    return _carry_out(composer, composer.cells())


def resume(arguments: list[str]) -> int:
    """Go on with a sweep, one cell of it, or a single run, wherever its folder lies now."""
    if len(arguments) != 1:
        raise InputError(f"{shlex.join(['resume', *arguments])}: expected the folder of one sweep or run")
    folder = Path(arguments[0]).resolve()
    if (folder.parent / GRID_FILE).is_file():
        grid = read_grid(folder.parent)
        if folder.name not in grid:
            raise InputError(f"{folder}: is no cell of the sweep it lies in; expected a run or a sweep")
        return _resume_cells(folder.parent, {folder.name: grid[folder.name]})
    saved = folder / ".hydra" / "hydra.yaml"
    if saved.exists() and not (folder / GRID_FILE).exists():
        return train([*_words_of(saved), f"hydra.run.dir={quoted(folder)}"])
    if not (folder / GRID_FILE).exists():
        raise InputError(f"{folder}: no run has begun here; expected the folder of a sweep or run")
    return _resume_cells(folder, read_grid(folder))


def _words_of(saved: Path) -> list[str]:
    """
    Raises:
        InputError: not what Hydra leaves of a run, or cut off by a kill.
    """
    try:
        node = OmegaConf.load(saved).hydra
        sources = [source.path for source in node.runtime.config_sources if source.provider == "command-line"]
        flags = [f"--config-name={node.job.config_name}", *(f"--config-dir={path}" for path in sources)]
        return [*flags, *map(str, node.overrides.task)]
    except Exception:  # nobody knows what it is that OmegaConf reads here
        raise InputError(
            f"{saved}: damaged; expected a file of Hydra: run the command of this run again instead"
        ) from None


def _resume_cells(sweep: Path, grid: Grid) -> int:
    """Cells that were composed with the same flags go together."""
    together: dict[tuple[str, ...], Grid] = {}
    for name, words in grid.items():
        flags = tuple(word for word in words if word.startswith("--"))
        together.setdefault(flags, {})[name] = [word for word in words if not word.startswith("--")]
    codes = []
    for flags, cells in together.items():
        composer = Composer(["-m", *flags, f"hydra.sweep.dir={quoted(sweep)}"])
        composed = {name: composer.cell(overrides, sweep=True) for name, overrides in cells.items()}
        for name, cell in composed.items():
            if cell.name != name:
                print(f"{name}: the config files have changed since; its overrides now make {cell.name}")
        codes.append(_carry_out(composer, list(composed.values())))
    return max(codes)


def quoted(path: Path) -> str:
    """A path as one value of Hydra's grammar, whatever characters it holds."""
    escaped = str(path).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


@dataclass
class Plan:
    """Cells sorted by what there is to do about them."""

    finished: list[Cell] = field(default_factory=list)
    waiting: list[Cell] = field(default_factory=list)
    impossible: dict[str, str] = field(default_factory=dict)


def _plan(cells: list[Cell], runs_here: bool) -> Plan:
    plan = Plan()
    for cell in cells:
        results = read_results(cell.folder)
        if results is not None and results.status == "finished":
            plan.finished.append(cell)
            continue
        # Only here: what is finished is skipped without torch.
        from forethought.run import check, check_replicas

        try:
            config = cell.config if runs_here else _on_any_machine(cell.config)
            check(config, cell.folder)
            check_replicas(config)
            plan.waiting.append(cell)
        except Impossible as error:
            plan.impossible[cell.name] = str(error)
    return plan


def _on_any_machine(config: dict[str, Any]) -> dict[str, Any]:
    """The machine that submits jobs need not have the GPUs that they will find."""
    return {**config, "hardware": {**config["hardware"], "accelerator": "cpu"}}


@stopping_signals()
def _carry_out(composer: Composer, cells: list[Cell]) -> int:
    plan = _plan(cells, composer.runs_here())
    if cells[0].config.get("dry_run"):
        from forethought.cli.dry_run import print_plan

        print_plan(plan.finished, plan.waiting, plan.impossible, composer.runs_here())
        return 0
    if plan.impossible and not (plan.finished or plan.waiting):
        raise InputError(next(iter(plan.impossible.values())))
    return _sweep(composer, plan) if composer.is_sweep else _single(composer, plan)


def _single(composer: Composer, plan: Plan) -> int:
    if plan.finished:
        print("finished before; nothing is run again")
    else:
        _run(composer, plan.waiting)
    folder = (plan.finished or plan.waiting)[0].folder
    mention_offline_runs(folder, "")
    results = read_results(folder)
    if results is None and cell_status(folder).state == "running":
        return 0  # elsewhere, as has been said
    if results is None or results.status == "failed":
        reason = results.reason if results else "no results"
        print(f"failed: {reason}\n  log: {folder / 'run.log'}", file=sys.stderr)
        return 1
    print_results(results, folder)
    return 0


def _sweep(composer: Composer, plan: Plan) -> int:
    _run_cells(composer, plan)
    return _tell(plan.finished + plan.waiting)


@stopping_signals()
def _search(composer: Composer) -> int:
    from forethought.cli.search import search

    if composer.sweep_config.dry_run:
        raise InputError("dry_run=true: a search does not know its cells beforehand; expected a grid")
    if (replicas := composer.sweep_config.get("replicas", 1)) != 1:
        raise InputError(f"replicas={replicas}: a search has trials of many kinds; expected replicas=1")

    def run(cells: list[Cell]) -> None:
        plan = _plan(cells, composer.runs_here())
        if plan.finished or plan.waiting:
            _run_cells(composer, plan)

    cells, best = search(composer, run)
    code = _tell(cells) if cells else 0
    print(best)
    return code


def _run_cells(composer: Composer, plan: Plan) -> None:
    known = plan.finished + plan.waiting
    folder = known[0].folder.parent
    try:
        add_to_grid(folder, {cell.name: [*composer.flag_words, *cell.overrides] for cell in known})
    except OSError as error:
        raise _unwritable(folder, error) from None
    count = len(known) + len(plan.impossible)
    print(f"{folder}: {count} cells, {len(plan.finished)} finished before, {len(plan.waiting)} to run")
    for name, reason in plan.impossible.items():
        print(f"  left out: {name}: {reason}")
    if plan.waiting:
        _run_sweep(composer, plan.waiting)


def _tell(known: list[Cell]) -> int:
    """What became of the cells; the exit code."""
    folder = known[0].folder.parent
    states = [cell_status(cell.folder) for cell in known]
    finished = [state for state in states if state.state == "finished"]
    elsewhere = [state for state in states if state.state == "running"]
    print(f"{folder}: {len(finished)} of {len(known)} cells finished")
    for state in elsewhere:
        print(f"  running in another process: {state.name}")
    for state in states:
        if state not in finished and state not in elsewhere:
            print(f"  {state.state}: {state.name}: {state.detail}")
            print(f"    log: {folder / state.name / 'run.log'}")
    mention_offline_runs(folder, "*/")
    print(f"next: forethought report {folder}")
    return 0 if len(finished) + len(elsewhere) == len(known) else 1


def _run_sweep(composer: Composer, cells: list[Cell]) -> None:
    from forethought.run import construct

    first = cells[0]
    with construct(first.config, "logger").sweep(first.config["sweep"], first.folder.parent):
        ends = _run(composer, cells)
        for cell, end in zip(cells, ends, strict=True):
            _record_if_lost(cell, end)


def _run(composer: Composer, cells: list[Cell]) -> list[object]:
    """
    Raises:
        InputError: Hydra cannot write down how the runs were composed.
    """
    try:
        return composer.run(task, [cell.overrides for cell in cells])
    except BrokenPipeError:  # of the terminal
        raise
    except OSError as error:
        raise _unwritable(cells[0].folder, error) from None


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"{folder}: {error.strerror}; expected a folder that can be written, with room in it")


def _record_if_lost(cell: Cell, end: object) -> None:
    """A process that was killed could not say so itself; then its launcher does, in words."""
    if isinstance(end, str):
        from forethought.run import record

        record(cell, "failed", end)


def task(config: DictConfig) -> bool:
    """What Hydra calls for each cell, in whatever process its launcher chose; False if the cell failed."""
    from forethought.run import run_cell

    node = HydraConfig.get()
    cell = replace(cell_of(config, node), folder=Path(node.runtime.output_dir))
    try:
        if cell.sweep:
            results = run_cell(cell, report=_live if sys.stdout.isatty() else None)
            print(f"{clear()}{_done(cell.folder)} {cell.name}  {one_line(results)}", flush=True)
        else:
            results = run_cell(cell, progress_bar=True)
        return results.status == "finished"
    except Locked:
        print(f"{cell.name}: another process is at work on it")
        return True


def _live(step: int, metrics: dict[str, float]) -> None:
    print(f"{clear()}  step {step}  validation accuracy {metrics['accuracy']:.3f}", end="", flush=True)


def _done(folder: Path) -> str:
    grid = read_grid(folder.parent)
    done = sum((folder.parent / name / "results.json").exists() for name in grid)
    return f"[{done}/{len(grid)}]"
