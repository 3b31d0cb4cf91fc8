"""`hydra/sweeper=optuna`: a search by Optuna's ask and tell, whose trials are cells of the sweep."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from forethought.config import Composer, quote
from forethought.errors import InputError
from forethought.results import read_curves, read_results
from forethought.sweeps import Cell
from forethought.training.construct import construct
from forethought.validation import validated_dataclass


@validated_dataclass
class OptunaSearch:
    """A search over the values of a sweep.

    Args:
        direction: of `optimized_metric`.
        n_trials: in all; running the search again starts only the missing ones.
        n_jobs: trials that are chosen together and go to the launcher together.
        storage: URL in which Optuna keeps the trials.
        sampler: `_target_` and arguments of an Optuna sampler.
        params: values to search over, unless given on the command line.
    """

    storage: str
    study_name: str
    direction: Literal["maximize", "minimize"] = "maximize"
    n_trials: PositiveInt = 20
    n_jobs: PositiveInt = 2
    sampler: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] | None = None

    @staticmethod
    def check() -> None:
        """
        Raises:
            InputError: Optuna is missing.
        """
        if find_spec("optuna") is None:
            raise InputError("hydra/sweeper=optuna: optuna is missing; run pip install -e '.[optuna]'")

    def run(self, composer: Composer, run_cells: Callable[[list[Cell]], None]) -> tuple[list[Cell], str]:
        """Run the missing trials.

        Args:
            run_cells: runs cells, unless they have finished.

        Returns:
            the cells of this call, and a line on the best trial of all.

        Raises:
            InputError: no study can be kept in the storage, or a run has no such metric.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        distributions = {
            key: getattr(optuna.distributions, kind)(**options)
            for key, (kind, options) in composer.search_space().items()
        }
        study, metric = self._study(composer.sweep_folder), str(composer.shared.optimized_metric)
        fixed = composer.fixed_words()
        told = sum(trial.state.is_finished() for trial in study.trials)
        left = max(0, self.n_trials - told)
        print(f"{composer.sweep_folder}: {told} trials before, {left} to run")
        cells: list[Cell] = []
        while left:
            trials = [study.ask(distributions) for _ in range(min(left, self.n_jobs))]
            left -= len(trials)
            chosen = [
                composer.cell([*fixed, *(f"{key}={_word(value)}" for key, value in trial.params.items())])
                for trial in trials
            ]
            run_cells(list({cell.name: cell for cell in chosen}.values()))
            cells += chosen
            for trial, cell in zip(trials, chosen, strict=True):
                value = metric_of(cell.folder, metric)
                state = optuna.trial.TrialState.FAIL if value is None else None
                study.tell(trial, value, state=state)
        try:
            best = study.best_trial
        except ValueError:
            return cells, "no trial has finished"
        words = " ".join(f"{name}={value}" for name, value in best.params.items())
        return cells, f"best of {len(study.trials)} trials: {metric}={best.value:.4f} {words}"

    def _study(self, folder: Path) -> Any:
        import optuna

        sampler = construct(
            {"sampler": self.sampler}, "sampler", base=optuna.samplers.BaseSampler, prefix="hydra.sweeper."
        )
        if str(folder) in self.storage:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            return optuna.create_study(
                study_name=self.study_name,
                storage=self.storage,
                sampler=sampler,
                direction=self.direction,
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's, of many kinds
            said = str(error).splitlines()[0]
            raise InputError(
                f"hydra.sweeper.storage={self.storage}: {said}; use a URL such as sqlite:///trials.db"
            ) from None


def _word(value: Any) -> str:
    return quote(value) if isinstance(value, str) else str(value)


def metric_of(folder: Path, metric: str) -> float | None:
    """Return a metric from results.json, or its last value in metrics.csv. None for an unfinished run.

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
