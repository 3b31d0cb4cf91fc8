"""Drawings of a test graph: the answer of the baseline beside that of a repair."""

from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from forethought.report.objectives import BASELINE
from forethought.report.plots.graph_layout import Point, layout_graph
from forethought.report.plots.grouping import strip_prefix
from forethought.report.plots.layout import Key, create_panels
from forethought.report.plots.style import BLUE, GREEN, HALO, INK, MUTED, PALE, VERMILLION
from forethought.report.sweep import Sweep
from forethought.results import Example

TITLE = "Sample answers on the graph"
CAPTION = (
    "A test graph. The task is to walk from the start (left) to the goal, the end of one arm: next-token "
    "prediction beside an objective that repairs it if the sweep has both, on the same graph if the runs "
    "share one."
)

_MOST_COLUMNS, _MOST_ROWS = 16, 24  # Larger graphs are illegible.
_BESIDE = 7  # With more columns, the drawings are above each other.


class _Scene(NamedTuple):
    label: str
    example: Example
    points: dict[str, Point]

    @property
    def is_right(self) -> bool:
        return self.example.outcome == "right"

    @property
    def answer(self) -> list[str]:
        """Tokens of the answer without separators, end and padding: these are in right answers, too."""
        marks = {*self.example.truth, "$"} - self.points.keys()
        return [token for token in self.example.answer if token not in marks]

    @property
    def columns(self) -> float:
        return max(1 + max(x for x, _ in self.points.values()), len(self.answer))

    @property
    def rows(self) -> float:
        below = any(token not in self.points for token in self.answer)
        return max(2, 1 + max(y for _, y in self.points.values()) + below)


_KEY = Key(
    [
        ("true path", {"facecolor": GREEN, "alpha": 0.28}),
        ("answer along an edge", {"color": BLUE, "linewidth": 2}),
        ("answer without an edge", {"color": VERMILLION, "linewidth": 2, "linestyle": (0, (3, 2))}),
    ]
)


def draw(sweep: Sweep) -> Figure | str | None:
    scenes = _choose_scenes(sweep)
    if not scenes:
        return "no finished run has a test row with a graph that is small enough to draw"
    rows = max(scene.rows for scene in scenes)
    figure, grid = create_panels(
        [scene.label for scene in scenes],
        "",
        "",
        height=(0.46 if rows <= 6 else 0.34) * rows,
        key=_KEY,
        columns=len(scenes) if all(scene.columns <= _BESIDE for scene in scenes) else 1,
        notes=[scene.example.outcome.replace("_", " ") + " answer" * scene.is_right for scene in scenes],
        left=0.2,
        foot=0.0,
    )
    for scene, axes in zip(scenes, grid, strict=True):
        _draw(axes, scene)
    columns = max(scene.columns for scene in scenes)
    grid[0].set(xlim=(-0.45, columns - 0.55), ylim=(rows - 0.3, -0.6))
    return figure


def _choose_scenes(sweep: Sweep) -> list[_Scene]:
    """Return a wrong answer, of the baseline if it has one, and a right one, of a repair if it has one.

    Both are of the same test row if there is such a pair.
    """
    layouts: dict[str, dict[str, Point]] = {}
    # Candidates by test row: the best to show of each row, with its rank.
    wrong: dict[str, tuple[tuple[bool, bool, int], _Scene]] = {}
    right: dict[str, tuple[tuple[bool, bool, int], _Scene]] = {}
    errors = strip_prefix(sweep.finished, "test/error_")
    typical = errors.fillna(-1).idxmax(axis=1) if len(errors.columns) else sweep.finished["setting"]
    runs = sweep.finished[["setting", "objective", "verdict", "examples"]].assign(typical=typical)
    for order, run in enumerate(runs.to_dict("records")):
        is_baseline = run["objective"] == BASELINE
        for example in run["examples"]:
            if not example.drawing or not example.truth:
                continue
            if example.text not in layouts:
                layouts[example.text] = layout_graph(example.drawing["edges"], example.drawing["start"])
            scene = _Scene(run["setting"], example, layouts[example.text])
            if scene.columns > _MOST_COLUMNS or scene.rows > _MOST_ROWS:
                continue
            if scene.is_right:
                side, rank = right, (is_baseline, run["verdict"] != "solved", order)
            else:
                atypical = run["verdict"] != "shortcut" or example.outcome != run["typical"]
                side, rank = wrong, (not is_baseline, atypical, order)
            side[example.text] = min(side.get(example.text, (rank, scene)), (rank, scene), key=itemgetter(0))
    # The two objectives matter more than the same row.
    for side in (wrong, right):
        first = min((rank[0] for rank, _ in side.values()), default=True)
        for text in [text for text, (rank, _) in side.items() if rank[0] != first]:
            del side[text]
    if shared := wrong.keys() & right.keys():
        # Of equally good pairs, the largest graph; ties are broken by name.
        text = min(
            shared, key=lambda text: (wrong[text][0][:2], right[text][0][:2], -len(layouts[text]), text)
        )
        return [wrong[text][1], right[text][1]]
    return [min(side.values(), key=itemgetter(0))[1] for side in (wrong, right) if side]


def _draw(axes: Any, scene: _Scene) -> None:
    example, points = scene.example, dict(scene.points)
    drawing: dict[str, Any] = example.drawing or {}
    backwards = example.truth[0] == drawing["goal"] != drawing["start"]
    edges = {(tail, head) for tail, head in drawing["edges"]}
    answer = _place_tokens(scene.answer, points, backwards)
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
