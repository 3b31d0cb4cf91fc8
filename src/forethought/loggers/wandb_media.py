"""Figures and tables for Weights & Biases: those of the report, as W&B's own media."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import wandb

from forethought.report.columns import COLUMNS
from forethought.report.sweep import Sweep
from forethought.results import Results


def run_media(results: Results) -> dict[str, Any]:
    """Return a table of sample answers."""
    examples = wandb.Table(
        columns=["prompt", "truth", "answer", "outcome"],
        data=[
            # The text form of a row is its prompt, `=` and its answer.
            [each.text.rsplit("=", 1)[0], " ".join(each.truth), " ".join(each.answer), each.outcome]
            for each in results.examples
        ],
    )
    return {"examples": examples}


def sweep_media(sweep: Sweep, folder: Path) -> dict[str, Any]:
    """Return the report of a sweep: its table over seeds, its table of runs, and its plots."""
    rows = sweep.summary.to_dict("records")
    groups = [[row["setting"], *(column.format(row) for column in COLUMNS)] for row in rows]
    with open(folder / "report" / "cells.csv", encoding="utf-8", newline="") as file:
        names, *runs = csv.reader(file)
    columns = [_typed([row[number] for row in runs]) for number in range(len(names))]
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
