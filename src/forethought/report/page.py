"""Self-contained HTML page of a report."""

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from forethought.report.columns import COLUMNS, MORE_COLUMNS, Column, build_metric_column
from forethought.report.findings import describe_hue_levels, describe_settings
from forethought.report.myopia import describe_myopia_gaps
from forethought.report.names import shorten_names
from forethought.report.pairs import PAIR_CAPTION, PAIR_TITLES, compare_levels, tabulate_comparisons
from forethought.report.settings import Row, list_setting_columns
from forethought.report.summary import VERDICT_COUNTS
from forethought.report.sweep import Sweep
from forethought.report.wording import count_noun, format_count, format_share, is_number
from forethought.results import Example
from forethought.results.frame import format_value
from forethought.sweeps import duration

_MOST_FINDINGS = 12  # Above it, an overview comes first and the list is folded.
_MOST_TEXTS = 5  # of one kind in the provenance
_EXAMPLES_PER_SETTING = 3
_RUN_COLUMNS = ("cell", "verdict", "accuracy", "steps", "steps to solve", "time", "parameters")


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


class _Finding(NamedTuple):
    css_class: str
    label: str
    sentence: str


class _Link(NamedTuple):
    text: str
    href: str
    """Empty without a folder."""
    hint: str = ""


def render_page(
    sweep: Sweep, folder: Path, pictures: Sequence[Picture] = (), omitted: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the HTML, with the first picture at the top.

    Args:
        folder: that of the page, for its links to the runs.
        omitted: titles of the plots that say nothing, each with the reason.
    """
    columns = _list_columns(sweep)
    findings = _list_findings(sweep)
    return _environment.get_template("page.html").render(
        title=sweep.name,
        counts=_count_runs(sweep),
        chips=_list_chips(sweep),
        findings=findings,
        overview=_list_overview(sweep) if len(findings) > _MOST_FINDINGS else [],
        pair_columns=[("", ""), *((title, "") for title in PAIR_TITLES)],
        pairs=tabulate_comparisons(compare_levels(sweep)),
        pair_caption=PAIR_CAPTION,
        parameters=list(zip(shorten_names(sweep.keys), sweep.keys, strict=True)) or [("setting", "")],
        columns=[(column.title, column.hint) for column in columns],
        rows=_list_rows(sweep, columns, folder),
        pictures=pictures,
        omitted=omitted,
        examples=_list_examples(sweep),
        unfinished=sweep.unfinished.fillna({"reason": "no reason recorded"}).to_dict("records"),
        run_columns=[(title, "") for title in _RUN_COLUMNS],
        runs=[_format_run(run, folder) for run in sweep.runs.to_dict("records")],
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
        shared = [names[name].iloc[0] for name in names if names[name].nunique() == 1]
        if names[group].nunique() == 1:
            chips.append((group, " ".join(shared)))
    chips += [("swept", key) for key in sweep.keys]
    if sweep.where is not None:
        chips.append(("where", sweep.where))
    return chips


def _list_findings(sweep: Sweep) -> list[_Finding]:
    sentences, gaps = describe_settings(sweep), describe_myopia_gaps(sweep)
    return [
        _build_finding(row, "; ".join(filter(None, (sentences[row["setting"]], gaps.get(row["setting"])))))
        for row in sweep.summary.to_dict("records")
    ]


def _list_overview(sweep: Sweep) -> list[_Finding]:
    return [_build_finding(row, sentence) for row, sentence in describe_hue_levels(sweep)]


def _build_finding(row: Row, sentence: str) -> _Finding:
    verdicts = [name for name in VERDICT_COUNTS if row[name]]
    css_class = verdicts[0] if len(verdicts) == 1 else "partial" if verdicts else "none"
    return _Finding(css_class, row["setting"], sentence.replace(" %", "\u00a0%"))


def _list_columns(sweep: Sweep) -> list[Column]:
    requested = [build_metric_column(sweep.axes.metric)] if sweep.axes.metric else []
    rows = sweep.summary.to_dict("records")
    filled = [column for column in MORE_COLUMNS if any(column.format(row) != "–" for row in rows)]
    return [*COLUMNS, *requested, *filled]


def _list_rows(sweep: Sweep, columns: Sequence[Column], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the main table: levels of the parameters, measurements, links to the runs."""
    links: dict[str, list[_Link]] = {}
    for run in sweep.runs.to_dict("records"):
        links.setdefault(run["setting"], []).append(_link_run(run, str(run["seed"]), folder))
    return [
        {
            "levels": [
                format_value(row[key]) if pd.notna(row[key]) else "–" for key in sweep.keys or ["setting"]
            ],
            "texts": [column.format(row) for column in columns],
            "runs": links[row["setting"]],
        }
        for row in sweep.summary.to_dict("records")
    ]


def _link_run(run: Row, text: str, folder: Path) -> _Link:
    has_folder = isinstance(run["folder"], str)
    path = os.path.relpath(run["folder"], folder) if has_folder else ""
    return _Link(text, quote(path) + "/" * has_folder, run["cell"])


def _format_run(run: Row, folder: Path) -> tuple[_Link, list[str]]:
    accuracy = run.get("test/accuracy")
    return _link_run(run, run["cell"], folder), [
        run["verdict"] if isinstance(run["verdict"], str) else run["status"],
        format_share(accuracy) if is_number(accuracy) else "–",
        format_count(run["steps"]),
        format_count(run["steps_to_solve"]),
        duration(run["wall_seconds"]),
        format_count(run["parameters"]),
    ]


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
    days = sorted({date[:10] for date in runs["date"].dropna()})
    commits = runs["commit"].str.slice(0, 12) + runs["dirty"].map({True: " with uncommitted changes"}).fillna(
        ""
    )
    facts = {
        "date": pd.Series([" to ".join(dict.fromkeys([days[0], days[-1]]))] if days else []),
        "time": pd.Series([f"{duration(runs['wall_seconds'].sum())} in {count_noun(len(runs), 'run')}"]),
        "training rows": pd.Series([format_count(runs["samples_seen"].sum())]),
        "command": runs["command"],
        "commit": commits,
        **{name: runs[name] for name in ("host", "cpu", "device", "versions")},
    }
    provenance = []
    for name, column in facts.items():
        texts = [str(text) for text in column.dropna().drop_duplicates()]
        more = [f"and {len(texts) - _MOST_TEXTS} more"] * (len(texts) > _MOST_TEXTS)
        provenance.append((name, texts[:_MOST_TEXTS] + more))
    return [(name, texts) for name, texts in provenance if texts]
