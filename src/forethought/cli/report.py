"""`forethought report`: tables, plots and one HTML page, from the results on disk; never torch."""

from argparse import ArgumentParser
from pathlib import Path
from typing import NoReturn

from forethought.errors import InputError


def report(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    from forethought.report import load, print_table, write_report

    asked = {axis: getattr(options, axis) for axis in ("x", "y", "hue", "metric")}
    sweep = load(options.folder, options.where, **asked)
    page = write_report(sweep, options.folder)
    print_table(sweep)
    print(f"report: {page}")
    return 0


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"report: {message}; expected `forethought report FOLDER`, options with --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="forethought report",
        description="Tables, plots and one HTML page about a sweep, written to FOLDER/report.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a sweep or of a run")
    parser.add_argument(
        "--where",
        metavar="FILTER",
        help="only these runs, by any column of cells.csv: 'objective=next_token and degree>2', "
        "'verdict in (solved, partial) or not steps_to_solve<1000'",
    )
    for axis, place in (("x", "along"), ("y", "up"), ("hue", "in colours")):
        parser.add_argument(
            f"--{axis}", metavar="PARAMETER", help=f"what goes {place}; else chosen by itself"
        )
    parser.add_argument(
        "--metric", metavar="NAME", help="what is drawn over them; else the share of solved seeds"
    )
    return parser
