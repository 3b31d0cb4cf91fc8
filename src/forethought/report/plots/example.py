"""Drawings of test graphs with the answer of the model."""

from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from forethought.report.groups import Sweep, strip_prefix
from forethought.report.plots.graph_layout import Point, layout_graph
from forethought.report.plots.panels import draw_colour_key
from forethought.report.plots.style import BLUE, GREEN, HALO, INK, MUTED, PALE, VERMILLION, WIDTH
from forethought.report.wording import truncate
from forethought.results import Example, Results

TITLE = "Sample answers on the graph"
CAPTION = (
    "One test graph. The task is to walk from the start (left) to the goal, the end of one arm. The broad "
    "band is the true path. The arrows are the answer of the model; a dashed arrow follows no edge."
)

_MOST_COLUMNS, _MOST_ROWS = 16, 24  # Larger graphs are illegible.


class _Scene(NamedTuple):
    label: str
    example: Example
    points: dict[str, Point]

    @property
    def height(self) -> float:
        rows = 1 + max(y for _, y in self.points.values())
        rows += any(token not in self.points for token in self.example.answer)
        return 0.4 + (0.46 if rows <= 6 else 0.34) * max(rows, 2)


def draw(sweep: Sweep) -> Figure | None:
    scenes = _select_scenes(sweep)
    if not scenes:
        return None
    head = 0.55
    heights = [scene.height for scene in scenes]
    total = head + sum(heights)
    figure = Figure(figsize=(WIDTH, total))
    draw_colour_key(figure, [("broad band: the true path", GREEN), ("arrows: the model's answer", BLUE)])
    top = head
    for scene, height in zip(scenes, heights, strict=True):
        axes = figure.add_axes((0.02, 1 - (top + height) / total, 0.96, (height - 0.4) / total))
        _draw(axes, scene)
        top += height
    return figure


def _select_scenes(sweep: Sweep) -> list[_Scene]:
    """Return a typical failure and a success: from a shortcut run and a solved run if there are any."""
    wrong: list[tuple[bool, bool, int, _Scene]] = []
    right: list[tuple[bool, int, _Scene]] = []
    for group in sweep.groups:
        for run in group.finished:
            for example in run.examples:
                scene = _build_scene(group.label, example)
                if scene and example.outcome == "right":
                    right.append((run.verdict != "solved", len(right), scene))
                elif scene:
                    typical = example.outcome == _most_common_error(run)
                    wrong.append((run.verdict != "shortcut", not typical, len(wrong), scene))
    return [*(entry[-1] for entry in sorted(wrong)[:1]), *(entry[-1] for entry in sorted(right)[:1])]


def _most_common_error(run: Results) -> str | None:
    errors = strip_prefix(run.metrics, "test/error_")
    return max(errors, key=errors.__getitem__, default=None)


def _build_scene(label: str, example: Example) -> _Scene | None:
    if not example.drawing or not example.truth:
        return None
    points = layout_graph(example.drawing["edges"], example.drawing["start"])
    columns, rows = (1 + max(axis) for axis in zip(*points.values(), strict=True))
    return _Scene(label, example, points) if columns <= _MOST_COLUMNS and rows <= _MOST_ROWS else None


def _draw(axes: Any, scene: _Scene) -> None:
    example, points = scene.example, dict(scene.points)
    drawing: dict[str, Any] = example.drawing or {}
    backwards = example.truth[0] == drawing["goal"] != drawing["start"]
    edges = {(tail, head) for tail, head in drawing["edges"]}
    answer = _place_tokens(example.answer, points, backwards)
    size = 15.0 if len(points) <= 40 else 11.0

    for tail, head in edges:
        axes.plot(*zip(points[tail], points[head], strict=True), color=PALE, linewidth=1.6, zorder=1)
    band = [points[node] for node in example.truth if node in points]
    axes.plot(*zip(*band, strict=True), color=GREEN, alpha=0.28, linewidth=size - 2, zorder=2)
    for (token, tail_point), (next_token, head_point) in pairwise(answer):
        exists = ((next_token, token) if backwards else (token, next_token)) in edges
        if tail_point != head_point:
            axes.annotate(
                "",
                head_point,
                tail_point,
                zorder=4,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": BLUE if exists else VERMILLION,
                    "linewidth": 2,
                    "linestyle": "-" if exists else (0, (3, 2)),
                    "shrinkA": size / 2 + 1,
                    "shrinkB": size / 2 + 1,
                    "connectionstyle": "arc3" if exists else "arc3,rad=0.25",
                },
            )
    for node, point in [*points.items(), *(step for step in answer if step[0] not in points)]:
        _draw_node(axes, node, point, size, drawing, node in points)
    right = example.outcome == "right"
    outcome = "right" if right else f"wrong: {example.outcome.replace('_', ' ')}"
    axes.set_title(
        f"{truncate(scene.label, 38)} – {outcome}", color=GREEN if right else VERMILLION, fontsize=10.5
    )
    xs, ys = zip(*points.values(), *(point for _, point in answer), strict=True)
    axes.set(xlim=(min(xs) - 0.45, max(xs) + 0.45), ylim=(max(ys) + 0.7, min(ys) - 0.6))
    axes.axis("off")


def _place_tokens(answer: list[str], points: dict[str, Point], backwards: bool) -> list[tuple[str, Point]]:
    """Return the point of each written token. Tokens that are no node go below, in writing order."""
    below = 1 + max(y for _, y in points.values())
    order = range(len(answer))[::-1] if backwards else range(len(answer))
    return [
        (token, points.get(token, (float(column), below)))
        for token, column in zip(answer, order, strict=True)
    ]


def _draw_node(axes: Any, node: str, point: Point, size: float, drawing: dict[str, Any], known: bool) -> None:
    special = node in (drawing["start"], drawing["goal"])
    axes.plot(
        *point,
        "o",
        markersize=size,
        markerfacecolor=INK if special else "white",
        markeredgecolor=(INK if special else MUTED) if known else VERMILLION,
        markeredgewidth=1.2,
        zorder=5,
        clip_on=False,
    )
    axes.text(
        *point,
        node,
        color="white" if special else INK if known else VERMILLION,
        ha="center",
        va="center_baseline",
        fontsize=(8.5 if len(node) < 3 else 6.5) * size / 15,
        zorder=6,
    )
    if special:
        name = "start" if node == drawing["start"] else "goal"
        below = (0, -size / 2 - 3)
        axes.annotate(
            name,
            point,
            below,
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8.5,
            path_effects=HALO,
            zorder=6,
        )
