"""Shares of right answers and of each kind of error."""

from statistics import fmean

from matplotlib.figure import Figure

from forethought.report.groups import Group, Sweep, strip_prefix
from forethought.report.plots.panels import create_rows, draw_row_legend, merge_to_rows
from forethought.report.plots.style import GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from forethought.report.wording import format_share
from forethought.results import Results

TITLE = "Kinds of errors"
CAPTION = (
    "All test answers of a run, by kind. On a path-star graph, a valid path down a wrong arm is a failure to "
    "plan; a path that starts right and breaks later is a compounding error."
)

_COLOURS = (VERMILLION, ORANGE, SKY, PURPLE, YELLOW, INK)
_CENTRED = {"ha": "center", "va": "center", "fontsize": 8.5}
_THICK, _THIN = 0.24, 0.17
_MOST_BARS = 40


def draw(sweep: Sweep) -> Figure | None:
    groups, merged = merge_to_rows(sweep)
    groups = [group for group in groups if any(_error_shares(run) for run in group.finished)]
    kinds = list(
        dict.fromkeys(kind for group in groups for run in group.finished for kind in _error_shares(run))
    )
    if not groups:
        return None
    # Draw one bar for each seed if they fit; else the mean over seeds, since means of shares add up to 1.
    per_seed = sum(len(group.finished) for group in groups) <= _MOST_BARS
    thickness = _THICK if len(groups) <= 12 else _THIN

    def stack_shares(group: Group) -> list[dict[str, float]]:
        runs = [run for run in group.finished if _error_shares(run)]
        shares = [{"right": run.metrics["test/accuracy"]} | _error_shares(run) for run in runs]
        if per_seed:
            return shares
        return [{kind: fmean(bar.get(kind, 0.0) for bar in shares) for kind in ("right", *kinds)}]

    figure, axes, rows = create_rows(
        groups,
        ("answers, one bar per seed" if per_seed else "answers, mean over seeds") + merged,
        height=lambda group: 0.32 + (thickness + 0.05) * len(stack_shares(group)),
        head=0.55,
    )
    present = {
        kind for group, _ in rows for shares in stack_shares(group) for kind, size in shares.items() if size
    }
    colours = {kind: colour for kind, colour in _assign_colours(kinds).items() if kind in present}
    for group, top in rows:
        for number, shares in enumerate(stack_shares(group)):
            y, left = top + 0.27 + (thickness + 0.05) * number + thickness / 2, 0.0
            for kind, colour in colours.items():
                size = shares.get(kind, 0.0)
                axes.barh(y, size, thickness, left=left, color=colour, edgecolor="white", linewidth=0.6)
                if size >= 0.06:
                    style = {"color": INK if colour in (ORANGE, SKY, YELLOW, PURPLE) else "white", **_CENTRED}
                    axes.text(left + size / 2, y, format_share(size), **style)
                left += size
    axes.set_xlim(0, 1)
    handles = [axes.barh([0], [0], color=c, label=kind.replace("_", " ")) for kind, c in colours.items()]
    draw_row_legend(axes, handles, x=-0.02, ncols=3, handlelength=1, handletextpad=0.4, columnspacing=1.2)
    return figure


def _assign_colours(kinds: list[str]) -> dict[str, str]:
    """Return green for `right`, grey for `other`, and the palette in order for all other kinds."""
    named = [kind for kind in kinds if kind != "other"]
    colours = {kind: _COLOURS[number % len(_COLOURS)] for number, kind in enumerate(named)}
    return {"right": GREEN, **colours, "other": MUTED}


def _error_shares(run: Results) -> dict[str, float]:
    return strip_prefix(run.metrics, "test/error_") if "test/accuracy" in run.metrics else {}
