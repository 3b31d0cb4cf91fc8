"""The anatomy of the answers: right, and the ways to be wrong."""

from __future__ import annotations

from matplotlib.figure import Figure

from forethought.report.groups import Group, Sweep, values
from forethought.report.plots.panels import few_rows, one_row_each
from forethought.report.plots.style import GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from forethought.report.wording import share
from forethought.results import Results

TITLE = "What the wrong answers are"
CAPTION = (
    "All test answers of a run, by kind. On a star, a valid path down a wrong arm is a failure to plan; a "
    "path that starts right and breaks later is a compounding error."
)

_COLOURS = (VERMILLION, ORANGE, SKY, PURPLE, YELLOW, INK)
_THICK, _THIN = 0.24, 0.17
_MOST_BARS = 40


def draw(sweep: Sweep) -> Figure | None:
    groups, merged = few_rows(sweep)
    groups = [group for group in groups if any(_kinds(run) for run in group.finished)]
    kinds = list(dict.fromkeys(kind for group in groups for run in group.finished for kind in _kinds(run)))
    if not groups:
        return None
    # One bar a seed while there is room; otherwise the seeds' mean, which a stack of shares may show.
    per_seed = sum(len(group.finished) for group in groups) <= _MOST_BARS
    thickness = _THICK if len(groups) <= 12 else _THIN

    def bars(group: Group) -> list[dict[str, float]]:
        runs = [run for run in group.finished if _kinds(run)]
        shares = [{"right": run.metrics["test/accuracy"]} | _kinds(run) for run in runs]
        if per_seed:
            return shares
        return [{kind: _mean([each.get(kind, 0.0) for each in shares]) for kind in ("right", *kinds)}]

    figure, axes, rows = one_row_each(
        groups,
        ("answers, one bar a seed" if per_seed else "answers, mean over seeds") + merged,
        height=lambda group: 0.32 + (thickness + 0.05) * len(bars(group)),
        head=0.55,
    )
    present = {kind for group, _ in rows for shares in bars(group) for kind, size in shares.items() if size}
    colours = {kind: colour for kind, colour in _palette(kinds).items() if kind in present}
    for group, top in rows:
        for number, shares in enumerate(bars(group)):
            y, left = top + 0.27 + (thickness + 0.05) * number + thickness / 2, 0.0
            for kind, colour in colours.items():
                size = shares.get(kind, 0.0)
                axes.barh(y, size, thickness, left=left, color=colour, edgecolor="white", linewidth=0.6)
                if size >= 0.06:
                    axes.text(
                        left + size / 2,
                        y,
                        share(size),
                        ha="center",
                        va="center",
                        fontsize=8.5,
                        color=INK if colour in (ORANGE, SKY, YELLOW, PURPLE) else "white",
                    )
                left += size
    axes.set_xlim(0, 1)
    handles = [axes.barh([0], [0], color=colour) for colour in colours.values()]
    names = [kind.replace("_", " ") for kind in colours]
    axes.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1),
        ncols=3,
        handlelength=1,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0.2,
    )
    return figure


def _palette(kinds: list[str]) -> dict[str, str]:
    """`right` green, `other` grey, the named kinds in the palette's order."""
    named = [kind for kind in kinds if kind != "other"]
    colours = {kind: _COLOURS[number % len(_COLOURS)] for number, kind in enumerate(named)}
    return {"right": GREEN, **colours, "other": MUTED}


def _kinds(run: Results) -> dict[str, float]:
    prefix = "test/error_"
    if not values([run], "test/accuracy"):
        return {}
    return {name.removeprefix(prefix): x for name, x in run.metrics.items() if name.startswith(prefix)}


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)
