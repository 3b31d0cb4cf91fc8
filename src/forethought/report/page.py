"""Self-contained HTML page of a report."""

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from forethought.report.budgets import BUDGET_CAPTION, count_by_budget, tabulate_budgets
from forethought.report.columns import MORE_COLUMNS, Column, build_metric_column, list_columns
from forethought.report.findings import describe_hue_levels, describe_settings
from forethought.report.myopia import describe_myopia_gaps
from forethought.report.names import shorten_names
from forethought.report.pairs import PAIR_CAPTION, PAIR_TITLES, compare_levels, tabulate_comparisons
from forethought.report.published_table import PUBLISHED_CAPTION, PUBLISHED_TITLES, tabulate_published
from forethought.report.settings import Row, list_setting_columns
from forethought.report.summary import VERDICT_COUNTS
from forethought.report.sweep import Sweep
from forethought.report.wording import count_noun, format_count, format_flops, format_range
from forethought.results import Example
from forethought.results.frame import format_value
from forethought.sweeps import duration

_MOST_FINDINGS = 12  # Above it, an overview comes first and the list is folded.
_MOST_TEXTS = 5  # of one kind in the provenance
_EXAMPLES_PER_SETTING = 3
_RUN_COLUMNS = (
    Column("verdict", "", lambda run: run["status"] if pd.isna(run["verdict"]) else run["verdict"]),
    Column("accuracy", "", lambda run: format_range([run.get("test/accuracy", float("nan"))])),
    Column("steps", "", lambda run: format_count(run["steps"])),
    Column("steps to solve", "", lambda run: format_count(run["steps_to_solve"])),
    Column("FLOPs to solve", "", lambda run: format_flops(run["flops_to_solve"])),
    Column("time", "", lambda run: duration(run["wall_seconds"])),
    Column("parameters", "", lambda run: format_count(run["parameters"])),
)


def _allow_breaks(name: str) -> Markup:
    """Let a line end after `_`, `/`, `=` and the dots of a name, and nowhere else in a word."""
    return Markup(re.sub(r"([_/=]+|\.(?=[a-z_]))", r"\1<wbr>", str(escape(name))))


_environment = Environment(
    loader=PackageLoader("forethought.report", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_environment.filters["breaks"] = _allow_breaks


class Picture(NamedTuple):
    title: str
    caption: str
    png: bytes

    @property
    def base64_png(self) -> str:
        return b64encode(self.png).decode()


def render_page(
    sweep: Sweep, folder: Path, pictures: Sequence[Picture] = (), omitted: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the HTML, with the first picture at the top.

    Args:
        folder: that of the page, for its links to the runs.
        omitted: titles of the plots that say nothing, each with the reason.
    """

    def link(run: Row) -> str:
        """Return the address of a run; empty without a folder."""
        return "" if pd.isna(run["folder"]) else quote(os.path.relpath(run["folder"], folder)) + "/"

    keys = sweep.keys or ["setting"]
    rows, runs = sweep.summary.to_dict("records"), sweep.runs.to_dict("records")
    levels = sweep.summary[keys].map(format_value, na_action="ignore").fillna("–")
    findings = _list_findings(sweep)
    return _environment.get_template("page.html").render(
        sweep=sweep,
        link=link,
        counts=_count_runs(sweep),
        chips=_list_chips(sweep),
        findings=findings,
        overview=_list_overview(sweep) if len(findings) > _MOST_FINDINGS else [],
        parameters=list(zip(shorten_names(keys), keys, strict=True)),
        columns=_list_columns(sweep, rows),
        rows=list(zip(rows, levels.to_numpy(), strict=True)),
        runs_of={name: list(group) for name, group in groupby(runs, key=lambda run: run["setting"])},
        pair_titles=[(title, "") for title in PAIR_TITLES],
        pairs=tabulate_comparisons(compare_levels(sweep)),
        pair_caption=PAIR_CAPTION,
        budgets=tabulate_budgets(count_by_budget(sweep)),
        budget_caption=BUDGET_CAPTION,
        published_titles=[(title, "") for title in PUBLISHED_TITLES],
        published=tabulate_published(sweep.published.comparisons),
        published_caption=PUBLISHED_CAPTION,
        published_notes=sweep.published.notes,
        pictures=pictures,
        omitted=omitted,
        examples=_list_examples(sweep),
        unfinished=sweep.unfinished.fillna({"reason": "no reason recorded"}).to_dict("records"),
        run_columns=list(_RUN_COLUMNS),
        runs=runs,
        fixed=_list_fixed_settings(sweep),
        provenance=_list_provenance(sweep.runs),
    )


def _count_runs(sweep: Sweep) -> str:
    solved, finished = (sweep.finished["verdict"] == "solved").sum(), len(sweep.finished)
    parts = [count_noun(len(sweep.runs), "run"), f"{solved:,} of {finished:,} solved the task"]
    if len(sweep.summary) > 1:
        parts.insert(0, count_noun(len(sweep.summary), "setting"))
    if len(sweep.unfinished):
        parts.append(f"{len(sweep.unfinished)} did not finish")
    return " · ".join(parts)


def _list_chips(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the choices that all runs share, such as `path_star 2x5`, the swept keys and the filter."""
    chips = []
    for group in ("task", "model", "objective"):
        names = sweep.runs.reindex(columns=[group, f"{group}.label"]).drop_duplicates()
        # A label of digits alone, such as that of addition, is a number in the config.
        shared = [format_value(names[name].iloc[0]) for name in names if names[name].nunique() == 1]
        if names[group].nunique() == 1:
            chips.append((group, " ".join(shared)))
    chips += [("swept", key) for key in sweep.keys]
    if sweep.where is not None:
        chips.append(("where", sweep.where))
    return chips


def _list_findings(sweep: Sweep) -> list[tuple[str, str, str]]:
    sentences, gaps = describe_settings(sweep), describe_myopia_gaps(sweep)
    return [
        _build_finding(row, "; ".join(filter(None, (sentences[row["setting"]], gaps.get(row["setting"])))))
        for row in sweep.summary.to_dict("records")
    ]


def _list_overview(sweep: Sweep) -> list[tuple[str, str, str]]:
    """Return a finding for each level of the hue. Levels that ended alike share one."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row, sentence in describe_hue_levels(sweep):
        css_class, label, text = _build_finding(row, sentence)
        alike.setdefault((css_class, text), []).append(label)
    return [(css_class, ", ".join(labels), text) for (css_class, text), labels in alike.items()]


def _build_finding(row: Row, sentence: str) -> tuple[str, str, str]:
    """Return the CSS class, the label and the sentence."""
    verdicts = [name for name in VERDICT_COUNTS if row[name]]
    css_class = verdicts[0] if len(verdicts) == 1 else "partial" if verdicts else "none"
    return css_class, row["setting"], sentence.replace(" %", "\u00a0%")


def _list_columns(sweep: Sweep, rows: Sequence[Row]) -> list[Column]:
    requested = [build_metric_column(sweep.axes.metric)] if sweep.axes.metric else []
    filled = [column for column in MORE_COLUMNS if any(column.format(row) != "–" for row in rows)]
    return [*list_columns(rows), *requested, *filled]


def _list_examples(sweep: Sweep) -> list[tuple[str, list[Example]]]:
    """Return sample answers to show as text: those of tasks without a drawing, wrong answers first."""
    blocks = []
    for setting, lists in sweep.finished.groupby("setting", observed=True)["examples"]:
        examples = [example for entries in lists for example in entries if example.drawing is None]
        examples.sort(key=lambda example: example.outcome == "right")
        if examples:
            blocks.append((str(setting), examples[:_EXAMPLES_PER_SETTING]))
    return blocks


def _list_fixed_settings(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the settings that every run has with the same value."""
    texts = sweep.runs[sorted(list_setting_columns(sweep.runs))].map(format_value)
    return [(key, texts[key].iloc[0]) for key in texts if texts[key].nunique() == 1]


def _list_provenance(runs: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Return the different values of each fact about the origin of the runs."""
    dirty = runs["dirty"].map({True: " with uncommitted changes"}).fillna("")
    facts = {name: runs[name] for name in ("command", "host", "cpu", "device", "versions")}
    texts = {
        "date": sorted({date[:10] for date in runs["date"].dropna()}),
        "time": [f"{duration(runs['wall_seconds'].sum())} in {count_noun(len(runs), 'run')}"],
        "training rows": [format_count(runs["samples_seen"].sum())],
        "commit": list((runs["commit"].str.slice(0, 12) + dirty).dropna().drop_duplicates()),
        **{name: list(column.dropna().drop_duplicates()) for name, column in facts.items()},
    }
    more = {name: [f"and {len(entries) - _MOST_TEXTS} more"] for name, entries in texts.items()}
    return [
        (name, entries[:_MOST_TEXTS] + more[name] * (len(entries) > _MOST_TEXTS))
        for name, entries in texts.items()
        if entries
    ]
