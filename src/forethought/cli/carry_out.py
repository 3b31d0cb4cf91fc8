"""Check, run and summarise the cells of a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forethought.cli.cost import describe_cost
from forethought.cli.show import one_line, print_results, print_wandb_commands
from forethought.config import Composer
from forethought.errors import Impossible, InputError, describe_error, explain_os_error
from forethought.processes import start_server
from forethought.results import Results, is_at_wandb, read_results
from forethought.sweeps import (
    Cell,
    Locked,
    add_to_grid,
    raise_on_signal,
    sweep_status,
)


@dataclass
class Plan:
    """Cells by what is left to do.

    Args:
        broken: those of the waiting cells that will fail, with the reason. The run records it, with the
            traceback in its log.
        edited: for finished cells, the source files that have changed since.
    """

    finished: list[Cell] = field(default_factory=list)
    waiting: list[Cell] = field(default_factory=list)
    impossible: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    edited: dict[str, list[str]] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        return self.finished + self.waiting

    def print_files(self) -> None:
        """Print how many rows of each training file are set aside."""
        if any(cell.config["task"].get("train_file") for cell in self.waiting):
            from forethought.training import describe_train_file

            print(
                *dict.fromkeys(filter(None, map(describe_train_file, (c.config for c in self.waiting)))),
                sep="\n",
            )

    def print_edits(self) -> None:
        modules = sorted({module for modules in self.edited.values() for module in modules})
        if modules:
            print(
                f"{len(self.edited)} finished before with other source code ({', '.join(modules)} changed); "
                "force=true runs them again"
            )


def make_plan(cells: list[Cell], runs_here: bool = True) -> Plan:
    """Sort cells by what is left to do. Every mistake is found before anything is written."""
    plan = Plan()
    for cell in cells:
        if results := _results_to_keep(cell):
            if results.cell != cell.name:
                raise InputError(f"{cell.folder}: holds the run {results.cell}; use another folder")
            plan.finished.append(cell)
            if edited := _edited(results.sources):
                plan.edited[cell.name] = edited
            continue
        # Imported here, as finished cells are skipped without torch.
        from forethought.training import check, refuse_folder_of_another

        try:
            check(cell.config if runs_here else _on_any_machine(cell.config), cell)
            refuse_folder_of_another(cell)
            plan.waiting.append(cell)
        except Impossible as error:
            plan.impossible[cell.name] = str(error)
        except InputError:
            raise
        except Exception as error:  # of a class of the user's own
            plan.waiting.append(cell)
            plan.broken[cell.name] = describe_error(error)
    return plan


def _results_to_keep(cell: Cell) -> Results | None:
    """Return the results of a cell that is finished and not to be run again."""
    results = read_results(cell.folder)
    done = results is not None and results.status == "finished" and not cell.config.get("force")
    return results if done else None


def _edited(sources: dict[str, str]) -> list[str]:
    from forethought.sweeps.source import hash_source

    return [module for module, digest in sources.items() if hash_source(module) != digest]


def _on_any_machine(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config that can be checked on a machine without the GPUs that its jobs will find."""
    return {**config, "hardware": {**config["hardware"], "accelerator": "cpu"}}


def _start_early(composer: Composer) -> None:
    """Let the server of the pool import torch while this process does: it takes seconds."""
    # By its name, as the class would import torch first.
    if composer.launcher.get("_target_") == "forethought.launchers.Pool":
        start_server()


@raise_on_signal()
def carry_out(composer: Composer, cells: list[Cell]) -> int:
    """Run the cells of a command. Return the exit code."""
    if composer.is_sweep and not cells[0].config.get("dry_run") and not all(map(_results_to_keep, cells)):
        _start_early(composer)
    launcher = _launcher(composer) if composer.is_sweep else None
    plan = make_plan(cells, runs_here=launcher is None or not launcher.elsewhere)
    plan.print_files()
    if cells[0].config.get("dry_run"):
        _print_plan(plan, runs_here=launcher is None or not launcher.elsewhere)
        return 0
    if plan.impossible and not plan.cells:
        raise InputError(next(iter(plan.impossible.values())))
    if not composer.is_sweep:
        return _carry_out_single(plan)
    _run_sweep(plan, launcher)
    return _print_summary(plan.cells)


@raise_on_signal()
def carry_out_search(composer: Composer, search: dict[str, Any]) -> int:
    if composer.shared.dry_run:
        raise InputError("dry_run=true: a search does not know its cells beforehand; use a grid")
    _start_early(composer)
    from forethought.launchers.optuna import OptunaSearch
    from forethought.training.construct import construct

    OptunaSearch.check()
    options = {key: value for key, value in search.items() if key != "_convert_"}
    optuna = construct({"sweeper": options}, "sweeper", base=OptunaSearch, prefix="hydra.")
    launcher = _launcher(composer)

    def run_cells(cells: list[Cell]) -> None:
        plan = make_plan(cells, runs_here=not launcher.elsewhere)
        if plan.cells:
            _run_sweep(plan, launcher)

    cells, best = optuna.run(composer, run_cells)
    code = _print_summary(list({cell.name: cell for cell in cells}.values())) if cells else 0
    print(best)
    return code


def _launcher(composer: Composer) -> Any:
    from forethought.launchers import build_launcher

    return build_launcher(composer.launcher)


def _carry_out_single(plan: Plan) -> int:
    (cell,) = plan.cells
    if plan.finished:
        print("finished before; nothing is run again")
        plan.print_edits()
        _send(_choose_to_send(plan))
    else:
        from forethought.training import discard_run, run_cell

        progress = "bar" if sys.stdout.isatty() else "lines"
        try:
            chosen = discard_run(cell) if cell.config["force"] else cell
            _report_unwritable(cell.folder, lambda: run_cell(chosen, progress=progress))
        except Locked:
            print(f"{cell.name}: another process is running it")
            return 0
    print_wandb_commands(cell.folder)
    results = read_results(cell.folder)
    if results is None or results.status == "failed":
        reason = results.reason if results else "no results"
        print(f"failed: {reason}\n  log: {cell.folder / 'run.log'}", file=sys.stderr)
        return 1
    print_results(results, cell.folder)
    return 0


def _run_sweep(plan: Plan, launcher: Any) -> None:
    """Run the waiting cells of a plan. Print a line for each that ends."""
    from forethought.launchers.progress_line import clear_line
    from forethought.training import record_failure
    from forethought.training.build import sweep_context

    folder = plan.cells[0].folder.parent
    _report_unwritable(folder, lambda: add_to_grid(folder, plan.cells))
    count, done = len(plan.cells), len(plan.finished)
    print(f"{folder}: {count} cells, {done} finished before, {len(plan.waiting)} to run")
    plan.print_edits()
    for name, reason in plan.impossible.items():
        print(f"  impossible: {name}: {reason}")

    def on_end(cell: Cell, loss: str | None) -> None:
        nonlocal done
        if loss is not None:
            record_failure(cell, loss)
        results = read_results(cell.folder)
        done += 1
        said = one_line(results) if results else "running in another process, or not started"
        print(f"{clear_line()}[{done}/{count}] {cell.name}  {said}", flush=True)

    unsent = _choose_to_send(plan)
    if plan.waiting or unsent:
        waiting = [_discard_unless_running(cell) if cell.config["force"] else cell for cell in plan.waiting]
        with sweep_context([*waiting, *unsent][0]):
            _send(unsent)
            if waiting:
                _report_unwritable(folder, lambda: launcher.run(waiting, on_end))


def _choose_to_send(plan: Plan) -> list[Cell]:
    """Return the finished cells to send to W&B, which has no run of them. Print how, if they are not sent."""
    unsent = [
        cell
        for cell in plan.finished
        if cell.choices.get("logger") == "wandb" and not is_at_wandb(cell.folder)
    ]
    if not unsent or os.environ.get("WANDB_MODE") == "disabled":
        return []
    # A run that an agent of W&B starts must send its metric, also if it repeats an earlier one.
    if unsent[0].config["logger"].get("send_finished") or os.environ.get("WANDB_SWEEP_ID"):
        return unsent
    print(f"W&B: {len(unsent)} finished before and not sent; logger.send_finished=true sends them")
    return []


def _send(cells: list[Cell]) -> None:
    """
    Raises:
        InputError: with logger.mode=online, if W&B does not accept a run.
    """
    for cell in cells:
        from forethought.training import send_finished

        try:
            send_finished(cell)
        except Locked:
            print(f"{cell.name}: another process is sending it to W&B")
            continue
        except Exception as error:
            raise InputError(f"{cell.folder}: not sent to W&B: {describe_error(error)}") from None
        if is_at_wandb(cell.folder):
            print(f"{cell.name}: finished before; sent to W&B from metrics.csv and results.json")


def _discard_unless_running(cell: Cell) -> Cell:
    from forethought.training import discard_run

    try:
        return discard_run(cell)
    except Locked:
        return cell  # its process will find it locked, too


def _report_unwritable(folder: Path, action: Callable[[], object]) -> None:
    """Run something that writes to a folder.

    Raises:
        InputError: the folder cannot be written, or another cause, under its own name.
    """
    try:
        action()
    except OSError as error:
        said = explain_os_error(error, folder)
        # Sockets, processes and temporary files fail too; another folder would not help.
        advice = "; use a folder that can be written" * said.startswith(str(folder))
        raise InputError(said + advice) from None


def _print_summary(cells: list[Cell]) -> int:
    """Print a summary of the sweep. Return 0 if every cell is finished or running elsewhere, else 1."""
    folder = cells[0].folder.parent
    states = sweep_status(folder, names=[cell.name for cell in cells])
    finished = [state for state in states if state.state == "finished"]
    elsewhere = [state for state in states if state.state == "running"]
    print(f"{folder}: {len(finished)} of {len(cells)} cells finished")
    for state in elsewhere:
        print(f"  running in another process: {state.name}")
    for state in states:
        if state not in finished and state not in elsewhere:
            print(f"  {state.state}: {state.name}: {state.detail}")
            print(f"    log: {folder / state.name / 'run.log'}")
    print_wandb_commands(folder)
    print(f"next: forethought report {folder}")
    return 0 if len(finished) + len(elsewhere) == len(cells) else 1


def _print_plan(plan: Plan, runs_here: bool) -> None:
    """Print what would run (`dry_run=true`), and what it would cost."""
    for cell in plan.finished:
        print(f"finished    {cell.name}")
    for name, reason in plan.impossible.items():
        print(f"impossible  {name}: {reason}")
    sound = [cell for cell in plan.waiting if cell.name not in plan.broken]
    for cell in sound:
        print(f"would run   {cell.name}")
    for name, reason in plan.broken.items():
        print(f"would fail  {name}: {reason}")
    plan.print_edits()
    print(
        f"{len(plan.cells)} cells: {len(plan.finished)} finished, {len(plan.waiting)} to run"
        + f"; and {len(plan.impossible)} impossible" * bool(plan.impossible)
    )
    if sound:
        print(*describe_cost(sound, runs_here), sep="\n")
