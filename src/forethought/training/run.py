"""Run one cell of a sweep. Failures are recorded in `results.json`, not raised."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from torch import distributed

from forethought.errors import InputError, describe_error
from forethought.results import (
    RESULTS_FILE,
    STRETCHES_FILE,
    WANDB_ID_FILE,
    Results,
    add_stretch,
    read_results,
    read_stretches,
    write_atomically,
)
from forethought.sweeps import CELL_FILE, Cell, Locked, defer_signals, lock, read_cell
from forethought.training.build import Run, build, build_logger, source_hashes
from forethought.training.provenance import describe_stretch, summary_of_host
from forethought.training.train import Session

log = logging.getLogger(__name__)

_OF_RANKS = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "OMP_NUM_THREADS", "WORLD_SIZE")


def run_cell(cell: Cell, own_process_group: bool = False, progress: str = "none") -> Results:
    """Run a cell unless it has finished.

    Args:
        own_process_group: True in a process of a launcher (`Session`).
        progress: `bar`, `lines` or `none`.

    Raises:
        Locked: another process is running it.
        InputError: the folder holds another run.
        KeyboardInterrupt: after results.json says so. Also for `forethought.sweeps.SIGNALS`, which are
            deferred to the end of a training step.
    """
    if not _is_distributed(cell):
        # Under `srun`, SLURM_PROCID is the rank of another job's task: the run would write nothing.
        rank_zero_only.rank, own_process_group = 0, True
    if rank_zero_only.rank:
        _join(cell, own_process_group)
    with lock(cell.folder), defer_signals():
        earlier = read_results(cell.folder)
        if earlier is not None and earlier.status == "finished":
            return earlier
        _prepare(cell)
        with _log_file(cell.folder / "run.log"):
            log.info("%s", cell.name)
            return _run(cell, own_process_group, progress)


def _run(cell: Cell, own_process_group: bool, progress: str) -> Results:
    started = time.perf_counter()
    run: Run | None = None
    try:
        run = build(cell.config, cell)
        with _leaving_no_ranks():
            results = _train_and_test(cell, run, own_process_group, progress)
        _write(cell, results)
        log.info("%s %s", results.status, results.verdict)
    except KeyboardInterrupt as stop:
        reason = str(stop) or "stopped by Ctrl-C"
        log.warning("interrupted: %s", reason)
        results = _unfinished(cell, "interrupted", reason, started)
        _write(cell, results)
        _publish(run, results)
        raise
    except Exception as error:
        log.exception("failed")
        results = _unfinished(cell, "failed", describe_error(error), started)
        _write_if_possible(cell, results)
    _publish(run, results)
    return results


@contextmanager
def _leaving_no_ranks() -> Iterator[None]:
    """End the process group of a DDP run, and forget Lightning's variables of its ranks.

    The next run in this process would take them for its own, and wait for ranks that have ended. After an
    exception the group stays: to end it might mean to wait for the others.
    """
    before = {name: os.environ.get(name) for name in _OF_RANKS}
    joined = distributed.is_available() and distributed.is_initialized()
    try:
        yield
        if distributed.is_available() and distributed.is_initialized() and not joined:
            distributed.destroy_process_group()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def send_finished(cell: Cell) -> None:
    """Send a run that finished without this logger of ours to it, from metrics.csv and results.json."""
    results = read_results(cell.folder)
    assert results is not None
    with lock(cell.folder), _log_file(cell.folder / "run.log"):
        logger: Any = build_logger(cell.config, cell)
        logger.publish(results)
        config = {**results.config, "logger": cell.config["logger"]}
        choices = {**results.choices, "logger": cell.choices["logger"]}
        _write(cell, results.model_copy(update={"config": config, "choices": choices}))


def _is_distributed(cell: Cell) -> bool:
    nodes = (cell.config.get("trainer") or {}).get("num_nodes") or 1
    return bool(cell.config["hardware"]["devices"] * nodes > 1)


def _train_and_test(cell: Cell, run: Run, own_process_group: bool, progress: str) -> Results:
    session = Session(run, cell.folder, own_process_group, progress)
    getattr(run.logger, "experiment", None)  # Lightning's loggers start when it is first asked for
    device = run.hardware.describe(run.settings.precision)
    if run.hardware_reason:
        log.info("hardware: %s", run.hardware_reason)
    if said := run.data.data.describe_train_file():
        log.info("%s", said)
    if progress != "none":
        count = sum(p.numel() for p in run.objective.parameters())
        print(f"{count:,} parameters on {device}: {run.hardware_reason or 'as configured'}", flush=True)
    if not session.trained:
        add_stretch(cell.folder, describe_stretch(session.first_step, run.settings.max_steps, device))
        session.fit()
    measured = session.test()
    session.curves.write()  # a run killed after its last checkpoint may lack the file alone
    return _results(cell, status="finished", **measured)


def _join(cell: Cell, own_process_group: bool) -> None:
    """Take part in a DDP run as a further rank, which writes nothing."""
    session = Session(build(cell.config), cell.folder, own_process_group)
    with defer_signals():
        if not session.trained:
            session.fit()
        session.test_metrics()
    sys.exit(0)


def refuse_folder_of_another(cell: Cell) -> None:
    """
    Raises:
        InputError: the folder of the cell holds another run, and `force` is false.
    """
    earlier = None if cell.config.get("force") else read_cell(cell.folder)
    if earlier is not None and earlier.name != cell.name:
        raise InputError(f"{cell.folder}: holds the run {earlier.name}; use another folder, or force=true")


def discard_run(cell: Cell) -> Cell:
    """Remove what an earlier run has left, for `force=true`.

    Returns:
        the cell without `force`, so that a job that is requeued resumes.

    Raises:
        Locked: another process is running the cell.
    """
    if cell.folder.exists() and not (_is_distributed(cell) and rank_zero_only.rank):
        with lock(cell.folder):
            shutil.rmtree(cell.folder / "checkpoints", ignore_errors=True)
            for name in ("metrics.csv", STRETCHES_FILE, RESULTS_FILE, CELL_FILE, WANDB_ID_FILE):
                (cell.folder / name).unlink(missing_ok=True)
    return replace(cell, config={**cell.config, "force": False})


def _prepare(cell: Cell) -> None:
    """Remove leftovers of an earlier attempt, and write down how the cell is composed."""
    folder = cell.folder
    refuse_folder_of_another(cell)
    (folder / RESULTS_FILE).unlink(missing_ok=True)
    for half_written in folder.glob("checkpoints/.*.ckpt.*"):  # by a process that was killed
        half_written.unlink()
    (folder / ".hydra").mkdir(exist_ok=True)
    for name, part in {"config": cell.config, "overrides": cell.overrides}.items():
        (folder / ".hydra" / f"{name}.yaml").write_text(OmegaConf.to_yaml(part), encoding="utf-8")
    write_atomically(folder / CELL_FILE, cell.to_json())


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Tell the log of this project and of a user's own code from remarks of libraries, such as on fonts."""
    of_library = {"site-packages", "dist-packages"} & {*Path(record.pathname).parts}
    return record.levelno >= logging.WARNING or record.name.startswith("forethought.") or not of_library


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Send the log of this process to a file of the run."""
    handler = logging.FileHandler(path, delay=True, encoding="utf-8")
    handler.addFilter(_is_worth_a_line)
    # On a full disk, the log's own traceback on stderr would bury the reason of the run.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(levelname)s] %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        with suppress(OSError):  # on a full disk
            handler.close()


def _publish(run: Run | None, results: Results) -> None:
    """Let a logger of ours finish, after results.json is on disk. Nothing it does changes the run."""
    publish = getattr(run and run.logger, "publish", None)
    if publish is not None:
        try:
            publish(results)
        except Exception:
            log.exception("the logger failed at the end")


def record_failure(cell: Cell, reason: str) -> None:
    """Write a results file for a cell whose process left none, unless another process is running it."""
    try:
        with lock(cell.folder):
            if not (cell.folder / RESULTS_FILE).exists():
                _write_if_possible(cell, _unfinished(cell, "failed", reason, time.perf_counter()))
    except Locked:
        pass


def _write(cell: Cell, results: Results) -> None:
    write_atomically(cell.folder / RESULTS_FILE, results.model_dump_json(indent=2) + "\n")


def _write_if_possible(cell: Cell, results: Results) -> None:
    """Write, or print the reason: on a full disk the other cells and the summary matter more."""
    try:
        _write(cell, results)
    except OSError as error:
        print(f"{cell.name}: {results.reason}; results.json not written: {error}", file=sys.stderr)


def _unfinished(cell: Cell, status: str, reason: str, started: float) -> Results:
    seconds = round(time.perf_counter() - started, 3)
    return _results(cell, status=status, reason=reason, wall_seconds=seconds)


def _results(cell: Cell, **fields: Any) -> Results:
    return Results(
        cell=cell.name,
        sweep=cell.sweep,
        choices=cell.choices,
        overrides=cell.overrides,
        config=cell.config,
        seed=cell.config["seed"],
        stretches=read_stretches(cell.folder),
        sources=_sources(cell.config),
        **(summary_of_host() | fields),
    )


def _sources(config: dict[str, Any]) -> dict[str, str]:
    try:
        return source_hashes(config)
    except InputError:  # the reason of a failed run, not of another failure
        return {}
