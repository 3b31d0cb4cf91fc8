"""Curves, figures and answers in Weights & Biases, which may be away at any time."""

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
from lightning.pytorch.loggers import WandbLogger
from pydantic import Field, PositiveFloat

from forethought.errors import InputError
from forethought.results import Results, collect, read_curves
from forethought.run.logger import Dashboard
from forethought.sweep import Cell
from forethought.validation import validated_dataclass

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
"""What W&B's summary keeps of a curve; of all others the last value."""


@validated_dataclass
class WandB:
    """Weights & Biases: group = sweep, job type = objective, tags = task and model, id = cell.

    Nothing that happens to its server changes a run or its results: what does not arrive stays on disk, in
    the form that `wandb sync` sends.

    Args:
        mode: `auto` is online where an API key is to be found and the server answers, otherwise offline;
            a run that must be `online` and cannot begin there fails. Nothing ever asks at a prompt.
        finish_timeout: seconds that a run which has ended waits for its upload.

    Raises:
        InputError: online without an API key.
    """

    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")]
    entity: str | None
    mode: Literal["auto", "online", "offline"]
    finish_timeout: PositiveFloat

    def __post_init__(self) -> None:
        if self.mode == "online" and not logged_in(settings().base_url):
            raise InputError(
                f"logger.mode=online: no API key for {settings().base_url}; expected `wandb login` first, "
                "or auto or offline"
            )

    @contextmanager
    def open(self, cell: Cell) -> Iterator[Dashboard]:
        """Around one run."""
        run = self._start(
            cell.folder,
            id=cell.name,
            group=cell.sweep,
            job_type=cell.choices.get("objective"),
            tags=[cell.choices[group] for group in ("task", "model") if group in cell.choices],
            config=cell.config,
        )
        with _finishing(run):
            yield _WandBDashboard(run, cell.folder)

    @contextmanager
    def sweep(self, name: str, folder: Path) -> Iterator[None]:
        """Around all the runs of a sweep: looks once for the server, and ends with a run of its own.

        That run (job type `summary`, in the sweep's group) holds the report: tables and plots.
        """
        before = os.environ.get("WANDB_MODE")
        if not self._online():
            os.environ["WANDB_MODE"] = "offline"  # what all processes of the sweep go by
        wandb.teardown()  # each has a W&B service of its own
        try:
            yield
            if collect(folder):
                _at_any_rate(lambda: self._report(name, folder))
        finally:
            _at_any_rate(wandb.teardown)
            os.environ.pop("WANDB_MODE", None)
            if before is not None:
                os.environ["WANDB_MODE"] = before

    def _report(self, name: str, folder: Path) -> None:
        from forethought.report import load, write_report
        from forethought.run.wandb_media import sweep_media

        sweep = load(folder)
        write_report(sweep, folder)
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
                dir=folder,
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
            _at_any_rate(wandb.teardown)  # its service has died, or holds the run for the server that is away
            return start("offline")

    def _online(self) -> bool:
        if self.mode != "auto":
            return self.mode == "online"
        found = settings()
        return found.mode == "online" and logged_in(found.base_url) and answers(found.base_url)


class _WandBDashboard(Dashboard):
    def __init__(self, run: Any, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.lightning = _Curves(experiment=run)
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        for name, best in _BEST.items():
            run.define_metric(name, step_metric=STEP, step_sync=True, summary=best)
        self._catch_up()

    def _catch_up(self) -> None:
        """Log the curves of earlier sessions that W&B has not got: offline, killed, or without it."""
        sessions = len(list(self.folder.glob("wandb/*run-*-*")))
        known = self.run.summary.get(STEP, -1) if self.run.resumed else -1
        if self.run.offline and sessions > 1:
            known = math.inf  # the file of an earlier one has them
        for row in read_curves(self.folder / "metrics.csv"):
            step = int(row.pop("step"))
            if step > known:
                self.lightning.log_metrics(row, step)

    def summarise(self, results: Results) -> None:
        _at_any_rate(lambda: self._summarise(results))

    def _summarise(self, results: Results) -> None:
        from forethought.run.wandb_media import run_media

        _log_media(self.run, run_media(results))
        self.run.summary.update(results.metrics)
        for name in ("verdict", "steps_to_solve", "steps", "parameters", "wall_seconds"):
            self.run.summary[name] = getattr(results, name)
        rows = read_curves(self.folder / "metrics.csv")
        for name, best in _BEST.items():
            values = [row[name] for row in rows if name in row]
            if values:  # of all sessions; W&B itself knows those of this one
                self.run.summary[name] = {best: max(values) if best == "max" else min(values)}


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
def _finishing(run: Any) -> Iterator[None]:
    """Finish a W&B run, as failed after an exception; what is not uploaded in time is for `wandb sync`."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("W&B did not get all of the run: %s", error)
            if not run.offline:
                folder = Path(run.dir).parent
                folder.rename(folder.with_name(f"offline-{folder.name}"))  # what `wandb sync` looks for
                (folder / "logs").mkdir(parents=True)  # where W&B goes on writing if its service has died


def _at_any_rate(action: Callable[[], object]) -> None:
    """Whatever W&B has against it, the run goes on."""
    try:
        action()
    except Exception:
        log.exception("W&B")


def settings() -> Any:
    """As W&B finds them in the environment and in its own files."""
    return wandb.setup(wandb.Settings(show_info=False)).settings  # warnings stay


def logged_in(base_url: str) -> bool:
    """Whether an API key is to be found without asking (environment, or the netrc file)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return (
            netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(base_url).hostname or "") is not None
        )
    except (OSError, netrc.NetrcParseError):
        return False


def answers(base_url: str) -> bool:
    """Whether a server answers there within seconds, be it with an error of ours."""
    try:
        return requests.get(base_url, timeout=_PROBE, allow_redirects=False).status_code < 500
    except requests.RequestException:
        return False
