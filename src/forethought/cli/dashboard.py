"""`forethought dashboard`: a W&B workspace laid out for the question, over the runs of one sweep."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forethought.errors import InputError

if TYPE_CHECKING:
    from forethought.results import Results

_CURVES = ("val/accuracy", "val/decision_accuracy", "val/forced_local_accuracy", "train/loss")
_COLUMNS = ("status", "verdict", "test/accuracy", "test/decision_accuracy", "test/chance", "steps_to_solve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep or run with logger=wandb")


def run(options: argparse.Namespace) -> int:
    from forethought.cli.show import print_wandb_commands
    from forethought.results import collect
    from forethought.sweeps import GRID_FILE

    folder = options.folder
    runs = [run for run in collect(folder).values() if run.choices.get("logger") == "wandb"]
    if not runs:
        raise InputError(f"{folder}: has no runs in W&B; use a sweep or run with logger=wandb")
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        raise InputError(
            "dashboard: wandb-workspaces is missing; run pip install -e '.[dashboard]'"
        ) from None
    print(f"dashboard: {_save(runs)}")
    print_wandb_commands(folder if runs[0].sweep is None or (folder / GRID_FILE).exists() else folder.parent)
    return 0


def _save(runs: list[Results]) -> str:
    """Write the workspace to W&B. Return its address."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    from forethought.loggers.wandb_environment import answers, logged_in, wandb_settings

    server = wandb_settings().base_url
    if not logged_in(server):
        raise InputError(f"dashboard: no API key for {server}; run `wandb login` first")
    if not answers(server):
        raise InputError(f"dashboard: {server} does not answer")
    logger = runs[0].config["logger"]
    try:
        entity = str(logger["entity"] or wandb.Api().default_entity)
        return str(workspace(runs, entity, logger["project"]).save().url)
    except (wandb.errors.Error, WandbApiFailedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"dashboard: {server} rejects the workspace: {reason}") from None


def workspace(runs: list[Results], entity: str, project: str) -> Any:
    """Return the workspace, not yet saved: abilities and failures of each objective.

    Args:
        runs: those of one sweep, or a single one.
    """
    import wandb_workspaces.reports.v2 as reports
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import And, Metric

    from forethought.loggers.solve_rates import solve_rates
    from forethought.loggers.wandb_names import clean
    from forethought.report import build_sweep
    from forethought.report.plots import PLOTS
    from forethought.results.frame import build_frame

    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
    rates = solve_rates(build_sweep(build_frame((None, run) for run in runs)))

    def bars(title: str, prefix: str) -> Any:
        return reports.BarPlot(title=title, metrics=[name for name in metrics if name.startswith(prefix)])

    def section(name: str, *panels: Any) -> Any:
        return workspaces.Section(name=name, panels=list(panels), is_open=True)

    def rate_chart(name: str, lines: list[str]) -> Any:
        title = name.replace("_", " ")
        if rates.x is None:
            return reports.BarPlot(title=title, metrics=lines, range_x=(0, 1))
        return reports.LinePlot(title=title, y=lines, title_x=rates.x, range_y=(0, 1))

    sections = [
        section(
            "Solved, or a shortcut?",
            bars("accuracy: free-running", "test/accuracy"),
            bars("the decision alone", "test/decision_accuracy"),
            bars("all other tokens, teacher-forced", "test/forced_local_accuracy"),
        ),
        section("Learning", *(reports.LinePlot(title=name, y=[name]) for name in _CURVES)),
        section(
            "Positions and errors",
            bars("free-running, by position", "test/token_accuracy_"),
            bars("teacher-forced, by position", "test/forced_token_accuracy_"),
            bars("wrong answers, by kind", "test/error_"),
        ),
    ]
    sweep = runs[0].sweep
    if sweep is not None:
        pictures = reports.MediaBrowser(title="the report", media_keys=[f"plots/{name}" for name in PLOTS])
        charts = [rate_chart(name, lines) for name, lines in rates.charts.items()]
        sections.insert(0, section("Solve rate over seeds", *charts, pictures))
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=sweep or runs[0].cell,
        sections=sections,
        settings=workspaces.WorkspaceSettings(max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=And(Metric("Group") == sweep if sweep else Metric("Name") == clean(runs[0].cell, 128)),
            pinned_columns=[f"summary:{name}" for name in _COLUMNS],
        ),
    )
