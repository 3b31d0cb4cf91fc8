"""The logger of `metrics.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from forethought.results import read_curves, write_curves


class CurvesLogger(Logger):
    """Learning curves in metrics.csv: one row a step, in a form that a resume can cut back.

    Lightning's CSVLogger appends, so a run that was killed after its last checkpoint would have the steps
    since then twice.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._by_step: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        return "curves"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config stands in results.json."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        shown = {name: value for name, value in metrics.items() if name not in ("epoch", "step")}
        if shown and step is not None:
            self._by_step.setdefault(step, {"step": step}).update(shown)

    def write(self) -> None:
        """Write metrics.csv. Called before each checkpoint, so that no curve lags behind its checkpoint."""
        write_curves(self.path, [self._by_step[step] for step in sorted(self._by_step)])

    def resume(self, step: int) -> None:
        """Continue the curves on disk after this step, without rows of a later one."""
        rows = {int(row["step"]): row | {"step": int(row["step"])} for row in read_curves(self.path)}
        self._by_step = {at: row for at, row in rows.items() if at <= step}
