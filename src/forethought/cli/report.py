"""`forethought report`: tables, plots and one HTML page, from the results on disk; never torch."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep or of a run")
    parser.add_argument(
        "--where",
        metavar="FILTER",
        help="select runs by any column of cells.csv: 'objective=next_token and degree>2', "
        "'verdict in (solved, partial) or not steps_to_solve<1000'",
    )
    for axis, place in (("x", "on the x axis"), ("y", "on the y axis"), ("hue", "shown by colour")):
        parser.add_argument(f"--{axis}", metavar="KEY", help=f"parameter {place}; automatic by default")
    parser.add_argument(
        "--metric", metavar="NAME", help="metric to draw; the share of solved seeds by default"
    )


def run(options: argparse.Namespace) -> int:
    from forethought.cli.show import print_strangers
    from forethought.report import load_sweep, print_table, write_report

    axes = {axis: getattr(options, axis) for axis in ("x", "y", "hue", "metric")}
    sweep = load_sweep(options.folder, options.where, **axes)
    page = write_report(sweep, options.folder)
    print_table(sweep)
    print_strangers(options.folder)
    print(f"report: {page}")
    return 0
