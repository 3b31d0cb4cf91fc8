"""Table of the runs in results/ beside the published figures that they are small siblings of."""

from forethought import load_sweep
from forethought.report.published import compare_published
from forethought.report.published_table import tabulate_comparison
from forethought.results.cells_file import is_file_of_runs
from tables.rows import RESULTS


def render_siblings() -> str:
    """Return the table in Markdown: a row for each published cell with runs."""
    files = filter(is_file_of_runs, sorted(RESULTS.glob("*.csv")))
    lines = ["| experiment | cell | published, % | grade | here, % | seeds |", "|---|---|---|---|---|---|"]
    for each in compare_published(load_sweep(*files)).comparisons:
        published, grade, ours, seeds, *_ = tabulate_comparison(each)
        lines.append(
            f"| `{each.experiment}` | {each.cell.label} | {published} | {grade} | {ours} | {seeds} |"
        )
    return "\n".join(lines)
