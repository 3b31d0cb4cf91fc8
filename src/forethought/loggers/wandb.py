"""The logger of Weights & Biases, whose server may be away at any time."""

from __future__ import annotations

import logging
import math
import netrc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlparse

import requests
import wandb
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from pydantic import Field, PositiveFloat

from forethought.errors import InputError
from forethought.results import Results, collect, read_curves
from forethought.sweeps import Cell
from forethought.validation import validated

log = logging.getLogger(__name__)

STEP = "trainer/global_step"  # the name that Lightning's logger gives it
_PROBE = 5.0  # seconds that the server has to answer at all
_INIT = 15.0  # seconds that it has to accept a run

_BEST: dict[str, Literal["max", "min"]] = {
    "val/accuracy": "max",
    "val/decision_accuracy": "max",
    "val/forced_accuracy": "max",
    "val/forced_loss": "min",
    "train/loss": "min",
}
"""Metrics whose best value W&B keeps in its summary; for all other metrics, the last value."""


class WandB(Logger):
    """Weights & Biases: group = sweep, job type = objective, tags = task and model, id = cell.

    Nothing that happens to its server changes a run or its results. Data that does not arrive stays on
    disk, in the form that `wandb sync` sends. Lightning's WandbLogger, which sends the curves, is wrapped
    for that: it raises where the server fails and knows nothing of resumed curves.

    Args:
        mode: `auto` is online if an API key is found and the server answers, otherwise offline; a run that
            must be `online` and cannot start there fails. W&B never prompts.
        finish_timeout: seconds that a finished run waits for its upload.
        cell: the cell that is run.

    Raises:
        InputError: online without an API key.
    """

    @validated
    def __init__(
        self,
        project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] = "forethought",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline"] = "auto",
        finish_timeout: PositiveFloat = 60.0,
        cell: Cell | None = None,
    ) -> None:
        super().__init__()
        self.project, self.entity, self.mode = project, entity, mode
        self.finish_timeout, self.cell = finish_timeout, cell
        self._curves: _Curves | None = None
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
    def experiment(self) -> Any:
        """The W&B run, which starts when it is first asked for."""
        if self._curves is None:
            cell = self.cell
            assert cell is not None
            run = self._start(
                cell.folder,
                id=cell.name,
                group=cell.sweep,
                job_type=cell.choices.get("objective"),
                tags=[cell.choices[group] for group in ("task", "model") if group in cell.choices],
                config=cell.config,
            )
            self._curves = _Curves(experiment=run)
            run.define_metric(STEP)
            run.define_metric("*", step_metric=STEP, step_sync=True)
            for name, best in _BEST.items():
                run.define_metric(name, step_metric=STEP, step_sync=True, summary=best)
            self._catch_up(run)
        return self._curves.experiment

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.experiment  # noqa: B018
        assert self._curves is not None
        self._curves.log_metrics(metrics, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run starts with the config."""

    def publish(self, results: Results | None) -> None:
        """Send the results and finish the run, as failed if there are none."""
        run = self.experiment
        with _finishing(run, exit_code=int(results is None)):
            if results is not None:
                _log_errors(lambda: self._summarise(run, results))

    def _catch_up(self, run: Any) -> None:
        """Log the curves of earlier stretches that W&B lacks: offline, killed, or without W&B."""
        assert self.cell is not None
        assert self._curves is not None
        stretches = len(list(self.cell.folder.glob("wandb/*run-*-*")))
        known = run.summary.get(STEP, -1) if run.resumed else -1
        if run.offline and stretches > 1:
            known = math.inf  # the file of an earlier one has them
        for row in read_curves(self.cell.folder / "metrics.csv"):
            step = int(row.pop("step"))
            if step > known:
                self._curves.log_metrics(row, step)

    def _summarise(self, run: Any, results: Results) -> None:
        from forethought.loggers.wandb_media import run_media

        assert self.cell is not None
        _log_media(run, run_media(results))
        run.summary.update(results.metrics)
        for name in ("verdict", "steps_to_solve", "steps", "parameters", "wall_seconds"):
            run.summary[name] = getattr(results, name)
        rows = read_curves(self.cell.folder / "metrics.csv")
        for name, best in _BEST.items():
            values = [row[name] for row in rows if name in row]
            if values:  # of all stretches; W&B itself knows those of this one
                run.summary[name] = {best: max(values) if best == "max" else min(values)}

    @contextmanager
    def sweep(self, name: str, folder: Path) -> Iterator[None]:
        """Surround all runs of a sweep: look once for the server, and end with a run of its own.

        That run (job type `summary`, in the sweep's group) holds the report: tables and plots.
        """
        before = os.environ.get("WANDB_MODE")
        if not self._online():
            os.environ["WANDB_MODE"] = "offline"  # read by all processes of the sweep
        wandb.teardown()  # each has a W&B service of its own
        try:
            yield
            if collect(folder):
                _log_errors(lambda: self._report(name, folder))
        finally:
            _log_errors(wandb.teardown)
            os.environ.pop("WANDB_MODE", None)
            if before is not None:
                os.environ["WANDB_MODE"] = before

    def _report(self, name: str, folder: Path) -> None:
        from forethought.loggers.wandb_media import sweep_media
        from forethought.report import build_sweep, write_report
        from forethought.results.frame import load_sweep

        sweep = build_sweep(load_sweep(folder))
        write_report(sweep, folder / "report")
        run = self._start(folder / "report", id=f"{name}-summary", group=name, job_type="summary")
        with _finishing(run):
            _log_media(run, sweep_media(sweep, folder))

    def _start(self, folder: Path, id: str, **about: Any) -> Any:
        def start(mode: Literal["online", "offline"]) -> Any:
            return wandb.init(
                project=self.project,
                entity=self.entity,
                id=id,
                name=id,
                dir=folder.absolute(),  # its service may have another current folder
                mode=mode,
                resume="allow",  # also offline: `wandb sync` then joins the sessions of a run
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

        try:
            return start("online" if self._online() else "offline")
        except Exception as error:
            if self.mode == "online":
                raise
            log.warning("W&B: %s; offline instead", error)
            _log_errors(wandb.teardown)  # its service has died, or holds the run for the server that is away
            return start("offline")

    def _online(self) -> bool:
        if self.mode != "auto":
            return self.mode == "online"
        found = wandb_settings()
        return found.mode == "online" and logged_in(found.base_url) and answers(found.base_url)


class _Curves(WandbLogger):
    """Lightning's logger, except that W&B's first error ends the logging and not the training."""

    failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self.failed:
            return
        try:
            super().log_metrics(metrics, step)
        except Exception:
            log.exception("W&B gets no more curves")
            self.failed = True


def _log_media(run: Any, media: Mapping[str, Any]) -> None:
    try:
        run.log(media)
    except wandb.errors.Error:
        # A table is an artifact too, about which W&B asks its server now, and whose upload `finish_timeout`
        # does not bound. Without a server it stays a file of the run.
        for key, value in media.items():
            if isinstance(value, wandb.Table):
                value.bind_to_run(run, key, run.step)
        run.log(media)


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


def wandb_settings() -> Any:
    """Return the settings that W&B finds in the environment and in its own files."""
    return wandb.setup(wandb.Settings(show_info=False)).settings  # warnings stay


def logged_in(base_url: str) -> bool:
    """Tell whether an API key is found without a prompt (environment or netrc file)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return (
            netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).hostname or "") is not None
        )
    except (OSError, netrc.NetrcParseError):
        return False


def answers(base_url: str) -> bool:
    """Tell whether a server answers there within seconds, even if with a client error."""
    try:
        return requests.get(base_url, timeout=_PROBE, allow_redirects=False).status_code < 500
    except requests.RequestException:
        return False
