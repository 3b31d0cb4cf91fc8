"""The logger of Weights & Biases, whose server may be away at any time."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import wandb
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from pydantic import PositiveFloat, ValidationError

from forethought.errors import InputError, first_line
from forethought.loggers.wandb_environment import (
    MODES,
    OLD_MODES,
    Mode,
    agent_variable,
    answers,
    check_environment,
    logged_in,
    wandb_settings,
    warn,
    writable_folder,
)
from forethought.loggers.wandb_names import clean
from forethought.results import (
    MEASURES,
    WANDB_ID_FILE,
    Results,
    collect,
    read_curves,
    wandb_folder,
    write_atomically,
)
from forethought.sweeps import Cell, read_grid
from forethought.validation import validated

log = logging.getLogger(__name__)

_INIT = 15.0  # seconds that the server has to accept a run

_BEST: dict[str, Literal["max", "min"]] = {
    "val/accuracy": "max",
    "val/decision_accuracy": "max",
    "val/forced_accuracy": "max",
    "val/forced_loss": "min",
    "train/loss": "min",
}
"""Metrics whose best value W&B keeps in its summary beside the last one; for all other metrics, the last."""

_PROJECT = r"[^/\\#?%:]{1,128}"

_INSTEAD = {"offline": "offline instead", "disabled": "W&B gets nothing of this run"}


class WandB(Logger):
    """Weights & Biases: group = sweep, job type = objective, name = what differs within the sweep.

    One history row a step, whose `_step` is the optimiser's step. Nothing that happens to the server
    changes a run or its results. Data that does not arrive stays on disk, in the form that `wandb sync`
    sends.

    Args:
        mode: `auto` is online if an API key is found and the server answers, otherwise offline; a run that
            must be `online` and cannot start there fails. W&B never prompts.
        finish_timeout: seconds that a finished run waits for its upload.
        send_finished: True to send also cells that finished without W&B (`forethought.cli`).
        cell: the cell that is run.

    Raises:
        InputError: online without an API key, a variable of W&B that is wrong, or a sweep inside an agent.
    """

    @validated
    def __init__(
        self,
        project: str = "forethought",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline"] = "auto",
        finish_timeout: PositiveFloat = 60.0,
        send_finished: bool = False,
        cell: Cell | None = None,
    ) -> None:
        super().__init__()
        settings = check_environment()  # first, so that WANDB_PROJECT is named and not logger.project
        if not re.fullmatch(_PROJECT, project):
            raise InputError(f"logger.project={project}: expected a text that matches {_PROJECT}")
        if agent_variable() and cell is not None and cell.sweep is not None and settings.mode != "disabled":
            raise InputError(
                f"{agent_variable()}: with WANDB_RUN_ID, W&B gives all cells of a sweep one id; use train "
                "without -m under `wandb agent`, or unset both variables"
            )
        self.project, self.entity, self.mode = project, entity, mode
        self.finish_timeout, self.cell = finish_timeout, cell
        self._run: Any = None
        self._failed = False
        if mode == "online" and not logged_in(wandb_settings().base_url):
            raise InputError(
                f"logger.mode=online: no API key for {wandb_settings().base_url}; run `wandb login`, or use "
                "auto or offline"
            )

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str | None:
        return None if self.cell is None else self.cell.name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, which starts when it is first asked for."""
        if self._run is None:
            cell = self.cell
            assert cell is not None
            objective = cell.choices.get("objective")
            named = [objective, cell.sweep, cell.choices.get("task"), cell.choices.get("model")]
            self._run = run = self._start(
                cell.folder,
                cell.folder if cell.sweep is None else cell.folder.parent,
                _name(cell),
                group=None if cell.sweep is None else cell.sweep[:128],
                job_type=objective,
                tags=list(dict.fromkeys(clean(tag) for tag in named if tag)),
                config=cell.config,
            )
            for name, best in _BEST.items():
                run.define_metric(name, summary=f"{best},last")
            _log_errors(lambda: self._log_earlier_stretches(run, read_curves(cell.folder / "metrics.csv")))
        return self._run

    def _log_earlier_stretches(self, run: Any, rows: list[dict[str, float]]) -> None:
        """Log the curves that W&B lacks: of a run that was offline, killed, or without W&B."""
        earlier = [] if run.disabled else _earlier_sessions(run)
        first = run.starting_step
        if run.offline and rows and any(_is_sent(session) for session in earlier):
            first = int(rows[-1]["step"]) + 1  # `wandb sync` appends
        for row in rows:
            if row["step"] >= first:
                self.log_metrics(row, int(row["step"]))
        if first == 0:
            _set_aside(earlier)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log metrics. W&B's first error ends the logging and not the training."""
        shown = {name: value for name, value in metrics.items() if name not in ("epoch", "step")}
        if self._failed or not shown or step is None:
            return
        run = self.experiment
        try:
            run.log(shown, step=step)
        except Exception as error:
            warn(f"no more curves are logged: {first_line(error)}")
            self._failed = True

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run starts with the config."""

    def publish(self, results: Results) -> None:
        """Send the results and finish the run. An interrupted run has not failed: it will be resumed."""
        run = self.experiment
        with _finishing(run, exit_code=int(results.status == "failed")):
            if results.status == "interrupted":
                _log_errors(run.mark_preempting)
            _log_errors(lambda: self._summarise(run, results))

    def _summarise(self, run: Any, results: Results) -> None:
        assert self.cell is not None
        run.log({}, commit=True)  # ends the last row, which would overwrite the summary
        run.summary["status"] = ": ".join(filter(None, (results.status, results.reason)))
        if results.status != "finished":
            return
        run.summary.update(results.metrics)
        for name in ("verdict", *MEASURES):
            run.summary[name] = getattr(results, name)
        rows = read_curves(self.cell.folder / "metrics.csv")
        for name, best in _BEST.items():
            values = [row[name] for row in rows if name in row]
            if values:  # of all stretches; W&B itself knows those of this one
                run.summary[name] = {best: max(values) if best == "max" else min(values), "last": values[-1]}

    @contextmanager
    def sweep(self, name: str, folder: Path) -> Iterator[None]:
        """Surround all runs of a sweep: look once for the server, and end with a run of its own.

        That run (job type `summary`, in the sweep's group) holds the solve rates and the report's plots.
        """
        before = os.environ.get("WANDB_MODE")
        mode = self._mode()
        if mode != "online":
            os.environ["WANDB_MODE"] = mode  # read by all processes of the sweep
        wandb.teardown()  # each has a W&B service of its own
        try:
            yield
            if mode != "disabled" and collect(folder):
                _log_errors(lambda: self._report(name, folder))
        finally:
            _log_errors(wandb.teardown)
            os.environ.pop("WANDB_MODE", None)
            if before is not None:
                os.environ["WANDB_MODE"] = before

    def _report(self, name: str, folder: Path) -> None:
        about = {"group": name[:128], "job_type": "summary", "tags": [clean(name)]}
        # Without `resume`, the run replaces the one that an earlier part of the sweep has left.
        run = self._start(folder, folder, f"summary of {name}", resume=None, **about)
        with _finishing(run):
            if run.disabled:
                return
            _set_aside(_earlier_sessions(run))
            from forethought.loggers.solve_rates import solve_rates
            from forethought.report import build_sweep
            from forethought.results.frame import load_sweep

            sweep = build_sweep(load_sweep(folder))
            rates = solve_rates(sweep).lines
            for at in sorted({at for line in rates.values() for at in line}):
                run.log({name: line[at] for name, line in rates.items() if at in line}, step=at)
            _log_errors(lambda: _log_plots(run, sweep, folder / "report"))

    def _start(
        self, home: Path, folder: Path, name: str, resume: Literal["allow"] | None = "allow", **about: Any
    ) -> Any:
        """Start a W&B run.

        Args:
            home: the folder that keeps the run's id.
            folder: of the sweep or of a single run. All runs of a sweep share its `wandb` folder.
        """
        # One id for all runs of a sweep would mix their histories.
        chosen = None if about["group"] else os.environ.get("WANDB_RUN_ID")
        # `wandb leet` lists runs by id.
        id = chosen or _stored_id(home) or f"{clean(name.replace('=', ''), 55)}-{secrets.token_hex(4)}"

        def start(mode: Mode) -> Any:
            if mode != "disabled" and "dir" not in about:
                # W&B's service may have another current folder.
                about["dir"] = writable_folder(wandb_folder(folder), "WANDB_DIR").parent.absolute()
            if not agent_variable():  # W&B would ignore them, with a warning
                about.update(project=self.project, entity=self.entity, id=id)
            return wandb.init(
                name=name,
                mode=mode,
                resume=resume if mode == "online" else None,
                reinit="create_new",
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    init_timeout=_INIT,
                    finish_timeout=self.finish_timeout,
                    finish_timeout_raises=True,
                    x_transaction_log_flush_interval=1.0,  # a killed run loses no more; the default is 15
                ),
                **about,
            )

        modes = MODES[MODES.index(self._mode()) :]
        for mode, then in zip(modes, [*modes[1:], None], strict=True):
            try:
                run = start(mode)
                break
            except Exception as error:
                if self.mode == "online" or then is None:
                    raise
                reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else first_line(error)
                warn(f"{reason}; {_INSTEAD[then]}")
                # Its service has died, or holds the run for the server that is away.
                _log_errors(wandb.teardown)
        if not run.disabled and run.id != _stored_id(home):
            _log_errors(lambda: write_atomically(home / WANDB_ID_FILE, run.id + "\n"))
        return run

    def _mode(self) -> Mode:
        try:
            found = wandb_settings()
        except InputError:
            raise
        except Exception:  # W&B's service does not start; `wandb.init` says why
            return "offline" if self.mode == "auto" else self.mode
        if self.mode != "auto":
            return self.mode
        mode = OLD_MODES.get(found.mode, found.mode)
        online = mode == "online" and logged_in(found.base_url) and answers(found.base_url)
        return "offline" if mode == "online" and not online else mode


def _name(cell: Cell) -> str:
    """Return what distinguishes a cell within its sweep: `token_order path_length=5 s0`. The seed is last."""
    try:
        grid = {} if cell.sweep is None else read_grid(cell.folder.parent)
    except InputError:  # a cell that is run without its sweep
        grid = {}
    differ = [word for word in cell.overrides if any(word not in words for words in grid.values())]
    differ.sort(key=lambda word: (word.startswith("seed="), not word.startswith("objective=")))
    parts = []
    for word in differ:
        key, _, value = word.lstrip("+~").partition("=")
        key = "" if key in cell.choices else "s" if key == "seed" else f"{key.rpartition('.')[2]}="
        parts.append(key + re.sub(r"[^\w.,=-]+", "_", value[-40:]))  # paths differ at their end
    return " ".join(parts)[:128] or clean(cell.name, 128)


def _stored_id(home: Path) -> str:
    """Return the id of the W&B run of a folder, which survives resuming; empty if it has none."""
    path = home / WANDB_ID_FILE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _earlier_sessions(run: Any) -> list[Path]:
    """Return the local folders of a run that earlier processes have left."""
    now = Path(run.dir).parent
    name = re.compile(rf"(offline-)?run-\d+_\d+-{re.escape(run.id)}")
    return [path for path in now.parent.iterdir() if name.fullmatch(path.name) and path != now]


def _is_sent(session: Path) -> bool:
    return session.name.startswith("run-") or any(session.glob("*.synced"))


def _set_aside(sessions: list[Path]) -> None:
    """Move sessions out of sight of `wandb leet` and `wandb sync`: the present one has all their curves."""
    for session in sessions:
        (session.parent / "earlier").mkdir(exist_ok=True)
        session.rename(session.parent / "earlier" / session.name)


def _log_plots(run: Any, sweep: Any, folder: Path) -> None:
    """Write the report of a sweep and log its plots."""
    from forethought.report import write_report

    write_report(sweep, folder)
    run.define_metric("plots/*", summary="none")  # paths and hashes
    run.log(
        {f"plots/{path.stem}": wandb.Image(str(path)) for path in sorted((folder / "plots").glob("*.png"))}
    )


@contextmanager
def _finishing(run: Any, exit_code: int = 0) -> Iterator[None]:
    """Finish a W&B run after the block. Data not uploaded in time is left for `wandb sync`."""
    try:
        yield
    except BaseException:
        exit_code = 1
        raise
    finally:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("W&B did not get all of the run: %s", error)
            if not run.offline:
                folder = Path(run.dir).parent
                folder.rename(folder.with_name(f"offline-{folder.name}"))  # what `wandb sync` looks for
                (folder / "logs").mkdir(parents=True)  # where W&B goes on writing if its service has died


def _log_errors(action: Callable[[], object]) -> None:
    """Log any exception of W&B instead of raising it."""
    try:
        action()
    except Exception:
        log.exception("W&B")
