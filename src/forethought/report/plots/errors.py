"""Shares of right answers and of each kind of error."""

from matplotlib.figure import Figure

from forethought.report.plots.grouping import pool_settings, strip_prefix
from forethought.report.plots.layout import Key, create_rows
from forethought.report.plots.style import GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from forethought.report.plots.titles import text_width
from forethought.report.sweep import Sweep
from forethought.report.wording import format_share

TITLE = "Kinds of errors"
CAPTION = (
    "All test answers of a run, by kind: one bar for each seed, or their mean. On a path-star graph, a valid "
    "path down a wrong arm is a failure to plan; a path that starts right and breaks later is a compounding "
    "error."
)

_COLOURS = (VERMILLION, ORANGE, SKY, PURPLE, YELLOW, INK)
_BAR = 0.16  # inches
_MOST_BARS = 40


def draw(sweep: Sweep) -> Figure | str | None:
    shares = strip_prefix(sweep.finished, "test/error_")
    if shares.empty or not len(shares.columns):
        return "no finished run has kinds of errors"
    shares.insert(0, "right", sweep.finished["test/accuracy"])
    shares = shares.dropna(how="all").fillna(0)
    colours = {"right": GREEN, "other": MUTED}
    named = sorted(
        (kind for kind in shares.columns if kind not in colours), key=lambda kind: kind != "wrong_arm"
    )
    colours |= {kind: _COLOURS[number % len(_COLOURS)] for number, kind in enumerate(named)}
    kinds = [kind for kind in ["right", *named, "other"] if kind in shares and shares[kind].max() > 0]
    key = Key([(kind.replace("_", " "), {"facecolor": colours[kind]}) for kind in kinds])
    rows, _, note = pool_settings(sweep, sweep.finished.loc[shares.index])
    bars = [shares.loc[row.runs.index, kinds] for row in rows]
    if not (per_seed := sum(map(len, bars)) <= _MOST_BARS):
        bars = [table.mean().to_frame().T for table in bars]  # Means of shares add up to 1.
    figure, axes, middles = create_rows(
        [row.title for row in rows],
        ("answers, a bar for each seed" if per_seed else "answers, mean over seeds") + note,
        [0.12 + _BAR * len(table) for table in bars],
        key,
    )
    thickness = _BAR - 0.02 if per_seed else _BAR + 0.04
    inches = axes.get_position().width * figure.get_figwidth()
    for table, middle in zip(bars, middles, strict=True):
        first = middle - _BAR * (len(table) - 1) / 2
        for number, bar in enumerate(table.to_dict("records")):
            y, left = first + _BAR * number, 0.0
            for kind, share in bar.items():
                axes.barh(
                    y, share, thickness, left=left, color=colours[kind], edgecolor="white", linewidth=0.5
                )
                text = format_share(share)
                if share * inches > text_width(text, 8) + 0.06:
                    dark = colours[kind] in (VERMILLION, GREEN, MUTED, INK)
                    axes.text(
                        left + share / 2,
                        y,
                        text,
                        ha="center",
                        va="center_baseline",
                        fontsize=8,
                        color="white" if dark else INK,
                    )
                left += share
    axes.set_xlim(0, 1)
    return figure
