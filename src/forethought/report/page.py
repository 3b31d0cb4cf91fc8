"""The report as one HTML page that needs nothing from outside."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import NamedTuple

from forethought.report.columns import COLUMNS, MORE_COLUMNS, metric_column
from forethought.report.findings import finding, overview
from forethought.report.groups import Group, Sweep
from forethought.report.myopia import myopia_gaps
from forethought.report.pairs import comparison_table, comparisons, meaning
from forethought.report.varying import settings
from forethought.report.wording import share, steps, value
from forethought.results import Example, Results

_MOST_FINDINGS = 12
_EXAMPLES = 3  # a group


class Picture(NamedTuple):
    title: str
    caption: str
    png: bytes


def page(sweep: Sweep, pictures: Sequence[Picture]) -> str:
    """The whole page; the first picture stands at the top."""
    template = files("forethought.report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(sweep.name),
        summary=escape(_summary(sweep)),
        fixed=_fixed(sweep),
        findings=_findings(sweep),
        table=_table(sweep),
        picture="".join(map(_picture, pictures[:1])),
        compared=_compared(sweep),
        pictures="".join(map(_picture, pictures[1:])),
        examples=_examples(sweep),
        unfinished=_unfinished(sweep),
        runs=_runs(sweep),
        settings=_settings(sweep),
        made=_made(sweep),
    )


def _summary(sweep: Sweep) -> str:
    finished = [run for run in sweep.runs if run.status == "finished"]
    solved = sum(run.verdict == "solved" for run in finished)
    parts = [_count(len(sweep.runs), "run"), f"{solved:,} of {len(finished):,} solved the task"]
    if len(sweep.groups) > 1:
        parts.insert(0, _count(len(sweep.groups), "setting"))
    if sweep.unfinished:
        parts.append(f"{len(sweep.unfinished)} did not finish")
    return " · ".join(parts)


def _fixed(sweep: Sweep) -> str:
    """What all runs have in common, by name, as in `path_star 2x5`."""
    chips = []
    for group in ("task", "model", "objective"):
        names = {
            " ".join(filter(None, (run.choices.get(group), _label(run, group)))) for run in sweep.runs
        } - {""}
        if len(names) == 1:
            chips.append(f"<li><span>{group}</span> {escape(names.pop())}</li>")
    chips += [f"<li><span>swept</span> {escape(key)}</li>" for key in sweep.keys]
    if sweep.where is not None:
        chips.append(f"<li><span>where</span> {escape(sweep.where)}</li>")
    return "".join(chips)


def _label(run: Results, group: str) -> str:
    config = run.config.get(group)
    return str(config.get("label", "")) if isinstance(config, Mapping) else ""


def _findings(sweep: Sweep) -> str:
    gaps = myopia_gaps(sweep)
    lines = [
        _finding(group, finding(group) + (f"; {gaps[group.label]}" if group.label in gaps else ""))
        for group in sweep.groups
    ]
    if len(lines) <= _MOST_FINDINGS:
        return f"<ul class=findings>{''.join(lines)}</ul>"
    parts = [_finding(group, words) for group, words in overview(sweep)]
    each = f"<summary>Each of {len(lines)} settings</summary><ul class=findings>{''.join(lines)}</ul>"
    return f"<ul class=findings>{''.join(parts)}</ul><details>{each}</details>"


def _finding(group: Group, words: str) -> str:
    return f'<li class="{_mood(group)}"><b>{escape(group.label)}</b> {_sentence(words)}.</li>'


def _sentence(words: str) -> str:
    return escape(words).replace(" %", "&nbsp;%")


def _mood(group: Group) -> str:
    """The class that colours a sentence."""
    if not group.finished:
        return "none"
    if len(group.verdicts) == 1:
        return next(iter(group.verdicts)).replace(" ", "-")
    return "partial"


def _table(sweep: Sweep) -> str:
    asked = [metric_column(sweep.axes.metric)] if sweep.axes.metric else []
    columns = [
        column
        for column in (*COLUMNS, *asked, *MORE_COLUMNS)
        if column in (*COLUMNS, *asked) or any(column.cell(group) != "–" for group in sweep.groups)
    ]
    head = "".join(f'<th title="{escape(column.hint)}">{escape(column.title)}</th>' for column in columns)
    rows = "".join(_row(group.label, [column.cell(group) for column in columns]) for group in sweep.groups)
    meaning = "".join(f"<dt>{escape(c.title)}</dt><dd>{escape(c.hint)}</dd>" for c in columns)
    return (
        f"<div class=scroll><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        "<p class=note>Shares in per cent; a range is the lowest to the highest seed.</p>"
        f"<details><summary>What the columns mean</summary><dl>{meaning}</dl></details>"
    )


def _compared(sweep: Sweep) -> str:
    compared = comparisons(sweep)
    if not compared:
        return ""
    titles, rows = comparison_table(compared)
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(_row(name, cells) for name, *cells in rows)
    return (
        "<section><h2>Over the same seeds</h2><div class=scroll>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p class=note>{escape(meaning(compared))}</p></section>"
    )


def _row(name: str, cells: Iterable[str]) -> str:
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _picture(picture: Picture) -> str:
    data = b64encode(picture.png).decode()
    title = escape(picture.title)
    return (
        f'<figure><h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _examples(sweep: Sweep) -> str:
    """Answers as text, for tasks that are no graph."""
    blocks = []
    for group in sweep.groups:
        examples = [each for run in group.finished for each in run.examples if each.drawing is None]
        # Show the wrong ones first: they say more.
        examples.sort(key=lambda each: each.outcome == "right")
        if examples:
            lines = "".join(map(_example, examples[:_EXAMPLES]))
            blocks.append(f"<h3>{escape(group.label)}</h3><ul class=examples>{lines}</ul>")
    return f"<section><h2>What the model answers</h2>{''.join(blocks)}</section>" if blocks else ""


def _example(example: Example) -> str:
    mark = "right" if example.outcome == "right" else "wrong"
    outcome = example.outcome.replace("_", " ")
    return (
        f"<li><code>{escape(example.text)}</code><br>the model wrote <code class={mark}>"
        f"{escape(' '.join(example.answer))}</code> <em class={mark}>{escape(outcome)}</em></li>"
    )


def _unfinished(sweep: Sweep) -> str:
    if not sweep.unfinished:
        return ""
    rows = "".join(
        f"<li><b>{run.status}</b> <code>{escape(run.cell)}</code><br>"
        f"{escape(run.reason or 'no reason was left')}</li>"
        for run in sweep.unfinished
    )
    return f"<section><h2>Runs that did not finish</h2><ul class=unfinished>{rows}</ul></section>"


def _runs(sweep: Sweep) -> str:
    head = "".join(
        f"<th>{name}</th>"
        for name in ("cell", "verdict", "accuracy", "steps", "steps to solve", "minutes", "parameters")
    )
    rows = "".join(_row(run.cell, _run(run)) for group in sweep.groups for run in group.runs)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _run(run: Results) -> tuple[str, ...]:
    accuracy = run.metrics.get("test/accuracy")
    return (
        run.verdict or run.status,
        "–" if accuracy is None else share(accuracy),
        steps(run.steps),
        steps(run.steps_to_solve),
        f"{run.wall_seconds / 60:.1f}",
        steps(run.parameters),
    )


def _settings(sweep: Sweep) -> str:
    """What was held fixed: the settings with one value over all runs."""
    table = [settings(run) for run in sweep.runs]
    seen: dict[str, set[str]] = {}
    for row in table:
        for key, entry in row.items():
            seen.setdefault(key, set()).add(value(entry))
    lines = (
        f"<dt>{escape(key)}</dt><dd>{escape(next(iter(entries)))}</dd>"
        for key, entries in sorted(seen.items())
        if len(entries) == 1 and all(key in row for row in table)
    )
    return f"<dl>{''.join(lines)}</dl>"


def _made(sweep: Sweep) -> str:
    lines = {
        "versions": Counter(f"{name} {v}" for run in sweep.runs for name, v in sorted(run.versions.items())),
        "device": Counter(run.device for run in sweep.runs),
    }
    hours = sum(run.wall_seconds for run in sweep.runs) / 3600
    shared = any(run.config.get("replicas", 1) > 1 for run in sweep.runs)
    each = ", replicas that trained at once counted one by one" if shared else ""
    rows = "".join(f"<dt>{name}</dt><dd>{escape(', '.join(found))}</dd>" for name, found in lines.items())
    samples = sum(run.samples_seen for run in sweep.runs)
    return (
        f"<dl>{rows}<dt>time</dt><dd>{hours:.1f} hours in {_count(len(sweep.runs), 'run')}{each}</dd>"
        f"<dt>training rows</dt><dd>{steps(samples)}</dd></dl>"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
