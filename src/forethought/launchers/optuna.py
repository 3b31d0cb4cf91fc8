"""`hydra/sweeper=optuna`: cells that are chosen by what the cells before them came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from forethought.cli.compose import Composer
from forethought.errors import InputError
from forethought.results import read_curves, read_results
from forethought.sweep import Cell


def search(composer: Composer, run: Callable[[list[Cell]], None]) -> tuple[list[Cell], str]:
    """
    Args:
        run: runs cells, unless they have finished.

    Returns:
        the cells of this call, and a line on the best trial of all.

    Raises:
        InputError: no study can be kept where it was asked for, or a run has no such metric.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = composer.sweep_config
    options, folder = config.hydra.sweeper, Path(str(config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            study_name=options.study_name,
            storage=options.storage,
            direction=options.direction,
            load_if_exists=True,
        )
    except Exception as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"hydra.sweeper.storage={options.storage}: {said}; expected a URL such as sqlite:///trials.db"
        ) from None
    told = sum(trial.state.is_finished() for trial in study.trials)
    trials = _Trials(composer, run, config.optimized_metric)
    # The plugin counts the trials of one call, and would send them to Hydra's launcher, past our bookkeeping.
    sweeper = composer.sweeper(n_trials=max(0, options.n_trials - told))
    sweeper.sweeper.launcher = trials
    print(f"{folder}: {told} trials before, {sweeper.sweeper.n_trials} to go")
    try:
        sweeper.sweep(list(config.hydra.overrides.task))
    except ValueError as error:
        if "No trials are completed" not in str(error):
            raise
        return trials.cells, "no trial has finished"
    best = study.best_trial
    words = " ".join(f"{name}={value}" for name, value in best.params.items())
    return (
        trials.cells,
        f"best of {len(study.trials)} trials: {config.optimized_metric}={best.value:.4f} {words}",
    )


class _Trials(Launcher):
    """Runs the trials that the sweeper has chosen as cells of the sweep, and tells it what came out."""

    def __init__(self, composer: Composer, run: Callable[[list[Cell]], None], metric: str) -> None:
        self.composer, self.run, self.metric = composer, run, metric
        self.cells: list[Cell] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        cells = [self.composer.cell(list(overrides), sweep=True) for overrides in job_overrides]
        self.run(list({cell.name: cell for cell in cells}.values()))
        self.cells += cells
        return [
            JobReturn(
                overrides=cell.overrides,
                _return_value=metric_of(cell.folder, self.metric),
                status=JobStatus.COMPLETED,
            )
            for cell in cells
        ]


def metric_of(folder: Path, metric: str) -> float | None:
    """The value from results.json or else the last one of the curves; None if the run has not finished.

    Raises:
        InputError: a finished run has no such metric.
    """
    results = read_results(folder)
    if results is None or results.status != "finished":
        return None
    values: dict[str, Any] = {}
    for row in read_curves(folder / "metrics.csv"):
        values.update(row)
    values.update(results.metrics)
    if metric not in values:
        raise InputError(f"optimized_metric={metric}: no such metric; expected one of {', '.join(values)}")
    return float(values[metric])
