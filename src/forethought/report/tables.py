"""Files of a report for other programs: CSV and LaTeX."""

import pandas as pd

from forethought.report.columns import COLUMNS
from forethought.report.names import shorten_names
from forethought.report.sweep import Sweep
from forethought.results.columns import OBJECTS
from forethought.results.frame import format_value

_LATEX_COLUMNS = ("solved", "95 %", "chance", "accuracy", "steps")


def format_csv(table: pd.DataFrame) -> str:
    """Return the text of a CSV file, values as on the command line. Missing values are empty."""
    columns = [name for name in table if name not in OBJECTS]
    return table[columns].map(format_value, na_action="ignore").to_csv(index=False)


def format_latex(sweep: Sweep) -> str:
    """Return a table of all settings for LaTeX (booktabs): parameters, solve rate, accuracy and steps."""
    keys = sweep.keys or ["setting"]
    table = sweep.summary[keys].map(format_value, na_action="ignore").fillna("–")
    table.columns = shorten_names(keys)
    rows = sweep.summary.to_dict("records")
    for column in COLUMNS:
        if column.title in _LATEX_COLUMNS:
            table[column.title] = [column.format(row) for row in rows]
    layout = "l" * len(keys) + "r" * len(_LATEX_COLUMNS)
    text = table.to_latex(index=False, escape=True, column_format=layout)
    return f"% Requires \\usepackage{{booktabs}}. Shares in per cent.\n{text.replace('–', '--')}"
