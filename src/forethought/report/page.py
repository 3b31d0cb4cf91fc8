"""Self-contained HTML page of a report."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from forethought.report.columns import COLUMNS, MORE_COLUMNS, Column, build_metric_column
from forethought.report.findings import describe_group, describe_hue_levels
from forethought.report.groups import Group, Sweep
from forethought.report.myopia import describe_myopia_gaps
from forethought.report.pairs import compare_objectives, explain_comparisons, tabulate_comparisons
from forethought.report.varying import collect_settings
from forethought.report.wording import format_count, format_share, format_value
from forethought.results import Example

_MOST_FINDINGS = 12  # Above it, an overview comes first and the list is folded.
_EXAMPLES_PER_GROUP = 3
_RUN_COLUMNS = ("cell", "verdict", "accuracy", "steps", "steps to solve", "minutes", "parameters")

_environment = Environment(
    loader=PackageLoader("forethought.report", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


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


def render_page(sweep: Sweep, pictures: Sequence[Picture]) -> str:
    """Return the HTML, with the first picture at the top."""
    gaps = describe_myopia_gaps(sweep)
    findings = [
        _build_finding(group, "; ".join(filter(None, (describe_group(group), gaps.get(group.label)))))
        for group in sweep.groups
    ]
    many = len(findings) > _MOST_FINDINGS
    columns = _list_columns(sweep)
    return _environment.get_template("page.html").render(
        title=sweep.name,
        counts=_count_runs(sweep),
        chips=_list_chips(sweep),
        findings=findings,
        overview=[_build_finding(*entry) for entry in describe_hue_levels(sweep)] if many else [],
        comparison=_build_comparison(sweep),
        columns=[(column.title, column.hint) for column in columns],
        groups=[(group.label, *(column.format(group) for column in columns)) for group in sweep.groups],
        pictures=pictures,
        examples=_list_examples(sweep),
        unfinished=sweep.unfinished,
        run_columns=[(title, "") for title in _RUN_COLUMNS],
        runs=_list_runs(sweep),
        fixed=_list_fixed_settings(sweep),
        provenance=_list_provenance(sweep),
    )


def _count_runs(sweep: Sweep) -> str:
    finished = [run for run in sweep.runs if run.status == "finished"]
    solved = sum(run.verdict == "solved" for run in finished)
    parts = [_count(len(sweep.runs), "run"), f"{solved:,} of {len(finished):,} solved the task"]
    if len(sweep.groups) > 1:
        parts.insert(0, _count(len(sweep.groups), "setting"))
    if sweep.unfinished:
        parts.append(f"{len(sweep.unfinished)} did not finish")
    return " · ".join(parts)


def _list_chips(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the choices that all runs share, such as `path_star 2x5`, the swept keys and the filter."""
    chips = []
    for group in ("task", "model", "objective"):
        names = set()
        for run in sweep.runs:
            config = run.config.get(group)
            label = config.get("label") if isinstance(config, Mapping) else None
            names.add(" ".join(map(str, filter(None, (run.choices.get(group), label)))))
        if len(names := names - {""}) == 1:
            chips.append((group, names.pop()))
    chips += [("swept", key) for key in sweep.keys]
    if sweep.where is not None:
        chips.append(("where", sweep.where))
    return chips


def _build_finding(group: Group, sentence: str) -> _Finding:
    verdicts = list(group.verdicts)
    css_class = "none" if not verdicts else verdicts[0].replace(" ", "-") if len(verdicts) == 1 else "partial"
    return _Finding(css_class, group.label, sentence.replace(" %", "\u00a0%"))


def _list_columns(sweep: Sweep) -> list[Column]:
    requested = [build_metric_column(sweep.axes.metric)] if sweep.axes.metric else []
    filled = [c for c in MORE_COLUMNS if any(c.format(group) != "–" for group in sweep.groups)]
    return [*COLUMNS, *requested, *filled]


def _build_comparison(sweep: Sweep) -> dict[str, Any] | None:
    comparisons = compare_objectives(sweep)
    if not comparisons:
        return None
    titles, rows = tabulate_comparisons(comparisons)
    return {
        "header": [(title, "") for title in titles],
        "rows": rows,
        "note": explain_comparisons(comparisons),
    }


def _list_examples(sweep: Sweep) -> list[tuple[str, list[Example]]]:
    """Return sample answers to show as text: those of tasks without a drawing, wrong answers first."""
    blocks = []
    for group in sweep.groups:
        examples = [example for run in group.finished for example in run.examples if example.drawing is None]
        examples.sort(key=lambda example: example.outcome == "right")
        if examples:
            blocks.append((group.label, examples[:_EXAMPLES_PER_GROUP]))
    return blocks


def _list_runs(sweep: Sweep) -> list[tuple[str, ...]]:
    return [
        (
            run.cell,
            run.verdict or run.status,
            format_share(run.metrics["test/accuracy"]) if "test/accuracy" in run.metrics else "–",
            format_count(run.steps),
            format_count(run.steps_to_solve),
            f"{run.wall_seconds / 60:.1f}",
            format_count(run.parameters),
        )
        for group in sweep.groups
        for run in group.runs
    ]


def _list_fixed_settings(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the settings that every run has with the same value."""
    settings = [
        {key: format_value(entry) for key, entry in collect_settings(run).items()} for run in sweep.runs
    ]
    return sorted(set.intersection(*(set(entries.items()) for entries in settings)))


def _list_provenance(sweep: Sweep) -> list[tuple[str, str]]:
    runs = sweep.runs
    versions = dict.fromkeys(f"{name} {v}" for run in runs for name, v in sorted(run.versions.items()))
    hours = sum(run.wall_seconds for run in runs) / 3600
    return [
        ("versions", ", ".join(versions)),
        ("device", ", ".join(dict.fromkeys(run.device for run in runs))),
        ("time", f"{hours:.1f} hours in {_count(len(runs), 'run')}"),
        ("training rows", format_count(sum(run.samples_seen for run in runs))),
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
