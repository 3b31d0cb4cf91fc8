"""`forethought dashboard`: a W&B workspace laid out for the question, over the runs of one sweep."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forethought.errors import InputError

if TYPE_CHECKING:
    from forethought.results import Results

_X = "trainer/global_step"
_CURVES = ("val/accuracy", "val/decision_accuracy", "val/forced_local_accuracy", "train/loss")
_COLUMNS = ("verdict", "test/accuracy", "test/decision_accuracy", "test/chance", "steps_to_solve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep or run with logger=wandb")


def run(options: argparse.Namespace) -> int:
    from forethought.cli.show import print_offline_runs
    from forethought.results import collect

    folder = options.folder
    runs = [run for run in collect(folder).values() if run.choices.get("logger") == "wandb"]
    if not runs:
        raise InputError(f"{folder}: has no runs in W&B; use a sweep or run with logger=wandb")
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        raise InputError(
            "dashboard: wandb-workspaces is missing; run pip install 'forethought[dashboard]'"
        ) from None
    print(f"dashboard: {_save(runs)}")
    print_offline_runs(folder, "" if (folder / "wandb").is_dir() else "*/")
    return 0


def _save(runs: list[Results]) -> str:
    """Write the workspace to W&B. Return its address."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    from forethought.loggers.wandb import answers, logged_in, wandb_settings

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

    from forethought.report.plots import PLOTS

    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))

    def bars(title: str, prefix: str) -> Any:
        return reports.BarPlot(title=title, metrics=[name for name in metrics if name.startswith(prefix)])

    def section(name: str, *panels: Any) -> Any:
        return workspaces.Section(name=name, panels=list(panels), is_open=True)

    sections = [
        section(
            "Solved, or a shortcut?",
            bars("accuracy: free-running", "test/accuracy"),
            bars("the decision alone", "test/decision_accuracy"),
            bars("all other tokens, teacher-forced", "test/forced_local_accuracy"),
        ),
        section("Learning", *(reports.LinePlot(title=name, x=_X, y=[name]) for name in _CURVES)),
        section(
            "Positions and errors",
            bars("free-running, by position", "test/token_accuracy_"),
            bars("teacher-forced, by position", "test/forced_token_accuracy_"),
            bars("wrong answers, by kind", "test/error_"),
        ),
        section(
            "Figures and sample answers",
            reports.MediaBrowser(media_keys=["figures/per_position", "figures/error_anatomy"]),
            reports.WeavePanelSummaryTable(table_name="examples"),
        ),
    ]
    sweep = runs[0].sweep
    if sweep is not None:
        sections.append(
            section(
                "Over seeds",
                *(reports.WeavePanelSummaryTable(table_name=name) for name in ("table", "cells")),
                reports.MediaBrowser(media_keys=[f"plots/{name}" for name in PLOTS]),
            )
        )
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=sweep or runs[0].cell,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=_X, max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=And(Metric("Group") == sweep if sweep is not None else Metric("Name") == runs[0].cell),
            pinned_columns=[f"summary:{name}" for name in _COLUMNS],
        ),
    )
