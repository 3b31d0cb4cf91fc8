"""Figures and tables for Weights & Biases: those of the report, as W&B's own media."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import wandb
from PIL import Image

from forethought.report.columns import COLUMNS
from forethought.report.groups import Sweep, group_runs
from forethought.report.plots import render_plot
from forethought.results import Results

_FIGURES = {"figures/per_position": "clever_hans", "figures/error_anatomy": "errors"}
"""Plots of the report for a single run, by their name in W&B."""


def run_media(results: Results) -> dict[str, Any]:
    """Return the figures of a single run and a table of sample answers."""
    alone = group_runs([results])
    images = {key: render_plot(plot, alone).get("png") for key, plot in _FIGURES.items()}
    media: dict[str, Any] = {
        key: wandb.Image(Image.open(io.BytesIO(image))) for key, image in images.items() if image is not None
    }
    media["examples"] = wandb.Table(
        columns=["prompt", "truth", "answer", "outcome"],
        data=[
            # The text form of a row is its prompt, `=` and its answer.
            [each.text.rsplit("=", 1)[0], " ".join(each.truth), " ".join(each.answer), each.outcome]
            for each in results.examples
        ],
    )
    return media


def sweep_media(sweep: Sweep, folder: Path) -> dict[str, Any]:
    """Return the report of a sweep: its table over seeds, its table of runs, and its plots."""
    groups = [[each.label, *(column.format(each) for column in COLUMNS)] for each in sweep.groups]
    with open(folder / "report" / "cells.csv", encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    columns = [_typed([row[number] for row in rows]) for number in range(len(names))]
    return {
        "table": wandb.Table(columns=["setting", *(column.title for column in COLUMNS)], data=groups),
        "cells": wandb.Table(columns=[*names], data=[list(row) for row in zip(*columns, strict=True)]),
        **{
            f"plots/{path.stem}": wandb.Image(str(path))
            for path in sorted((folder / "report" / "plots").glob("*.png"))
        },
    }


def _typed(column: list[str]) -> list[float | None] | list[str | None]:
    """Convert a column of a CSV file to numbers if it holds some. Empty entries are missing."""
    try:
        return [float(entry) if entry else None for entry in column]
    except ValueError:
        return [entry or None for entry in column]
