"""Pictures of the report on synthetic sweeps of every size."""

import warnings
from itertools import combinations, product
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from synthetic import LONG, OBJECTIVES, SWEEPS, make_card, save_sweep, simulate

from forethought import load_sweep
from forethought.report import Sweep, build_sweep
from forethought.report.plots import PLOTS, render_plot
from forethought.report.plots.style import INK, STYLE, WIDTH, look_of_objective
from forethought.report.plots.titles import fit_labels, text_width
from forethought.results import Results


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that builds a synthetic sweep by name, once."""
    folders: dict[str, Path] = {}

    def build(name: str, **axes: str) -> Sweep:
        if name not in folders:
            folders[name] = save_sweep(tmp_path_factory.mktemp(name), SWEEPS[name]())
        return build_sweep(load_sweep(folders[name]), **axes)

    return build


def draw(plot: str, sweep: Sweep) -> Any:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("error")
        return PLOTS[plot].draw(sweep)


def build(tmp_path: Path, runs: list[Results], **axes: str) -> Sweep:
    return build_sweep(load_sweep(save_sweep(tmp_path, runs)), **axes)


def list_tick_labels(figure: Figure) -> list[Any]:
    axes: list[Any] = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    return [
        tick.label1
        for axis in axes
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        if tick.label1.get_visible() and min(view := axis.get_view_interval()) <= tick.get_loc() <= max(view)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_every_picture_is_legible(sweeps: Any, name: str) -> None:
    """No warning; no text leaves the figure or covers another text; no figure is much taller than wide."""
    sweep, drawn = sweeps(name), []
    for plot in PLOTS:
        figure = draw(plot, sweep)
        assert figure is None or isinstance(figure, str | Figure)
        if isinstance(figure, Figure):
            drawn.append(plot)
            with warnings.catch_warnings(action="error"), matplotlib.rc_context(STYLE):
                figure.draw_without_rendering()
            width, height = figure.get_size_inches()
            assert width == WIDTH
            assert height < 12, plot
            texts = [text for text in (*figure.texts, *list_tick_labels(figure)) if text.get_text()]
            boxes = [text.get_window_extent() for text in texts]
            for box in boxes:
                assert box.x0 >= -1, plot
                assert box.y0 >= -1, plot
                assert box.x1 <= figure.bbox.x1 + 1, plot
                assert box.y1 <= figure.bbox.y1 + 1, plot
            for one, other in combinations(zip(boxes, texts, strict=True), 2):
                assert not one[0].padded(-1).overlaps(other[0].padded(-1)), (plot, one[1], other[1])
    assert {"example", "learning", "clever_hans"} <= {*drawn}
    assert ("phase_diagram" in drawn) == (sweep.axes.y is not None)


def test_images_are_written_in_each_format(sweeps: Any) -> None:
    images = render_plot("survival", sweeps("2-objectives"))
    assert isinstance(images, dict)
    assert images["png"].startswith(b"\x89PNG")
    assert images["pdf"].startswith(b"%PDF")
    assert render_plot("survival", sweeps("2-objectives")) == images
    assert "no seed" in render_plot("survival", sweeps("1"))


# Phase diagram


def list_fields(axes: Any) -> dict[tuple[float, float], tuple[str, str]]:
    """Return text and colour of each field by its place; a hatched field has the text `hatched`."""
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    return {
        (place := (patch.get_x() + 0.5, patch.get_y() + 0.5)): (
            "hatched" if patch.get_hatch() else texts[place],
            to_hex(patch.get_facecolor()),
        )
        for patch in axes.patches
    }


def describe(run: Results) -> dict[str, Any]:
    task, horizon = run.config["task"], run.config["objective"].get("horizon", "")
    place = {"objective": run.choices["objective"], "horizon": str(horizon)}
    return place | {"degree": task["degree"], "length": task["path_length"]}


def test_phase_diagram_gives_the_counts_of_each_panel(tmp_path: Path) -> None:
    gone = {"objective": "multi_token", "degree": 3, "length": 4}
    runs = [run for run in make_card(degrees=(2, 3)) if describe(run) | gone != describe(run)]
    sweep = build(tmp_path, runs, x="degree", y="path_length")
    panels = {
        axes.get_label(): list_fields(axes) for axes in draw("phase_diagram", sweep).axes if axes.patches
    }
    assert len(panels) == 9
    assert next(iter(panels)) == "next_token"
    for label, fields in panels.items():
        objective, _, horizon = label.partition(" horizon=")
        assert len(fields) == 2 * 3
        for (i, j), (text, colour) in fields.items():
            place = {"objective": objective, "horizon": horizon, "degree": 2 + int(i), "length": 3 + int(j)}
            verdicts = [run.verdict for run in runs if describe(run) == place]
            solved = verdicts.count("solved")
            assert text == (f"{solved}/{len(verdicts)}" if verdicts else "hatched")
            if verdicts:
                assert colour == to_hex(matplotlib.colormaps["Blues"](solved / len(verdicts)))
    assert sum(text == "hatched" for fields in panels.values() for text, _ in fields.values()) == 4


def test_phase_diagram_packs_the_panels_if_a_line_for_each_objective_is_mostly_empty(tmp_path: Path) -> None:
    single = ("next_token", "teacherless", "token_order", "belief_state")
    variants = [*product(single, [None]), ("multi_token", 3), ("multi_token", 4)]
    runs = [simulate(o, 0, d, n, h) for (o, h), d, n in product(variants, (2, 3), (3, 4))]
    figure = draw("phase_diagram", build(tmp_path, runs, x="path_length", y="degree"))
    panels = [axes for axes in figure.axes if axes.patches]
    assert len(panels) == 6
    assert len({round(axes.get_position().y0, 3) for axes in panels}) == 2


def test_phase_diagram_shows_the_baseline_beside_a_parameter_that_it_lacks(sweeps: Any) -> None:
    figure = draw("phase_diagram", sweeps("80", x="horizon", y="degree"))
    panels = [axes for axes in figure.axes if axes.patches]
    assert len(panels) == 2 * 3
    for axes in panels:
        fields = list_fields(axes)
        assert [fields[x, y][0] for x, y in fields if x < 0] == ["0/3"] * 3
    labels = [tick.get_text() for tick in panels[-1].get_xticklabels()]
    assert labels == ["base", "1", "2", "3", "4"]


# Lines


@pytest.mark.parametrize("name", ["80", "horizon"])
def test_trend_shows_the_baseline_in_every_panel(sweeps: Any, name: str) -> None:
    figure = draw("trend", sweeps(name))
    assert len(figure.axes) == (9 if name == "80" else 1)
    for axes in figure.axes:
        level = [line for line in axes.lines if line.get_color() == INK and len({*line.get_ydata()}) == 1]
        assert len(level) == 1
        assert any(to_rgba(patch.get_facecolor())[:3] == to_rgba(INK)[:3] for patch in axes.patches)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3", "4"]
    labels = [axes.get_label() for axes in figure.axes]
    assert labels == sorted(labels)


@pytest.mark.slow
def test_lines_of_many_objectives_have_the_baseline_beside_each(sweeps: Any) -> None:
    figure = draw("learning", sweeps("all-objectives"))
    assert [axes.get_label() for axes in figure.axes] == sweeps("all-objectives").levels("objective")[1:]
    assert all(INK in {line.get_color() for line in axes.lines} for axes in figure.axes)


def test_learning_keeps_the_horizons_apart(sweeps: Any) -> None:
    labels = [axes.get_label() for axes in draw("learning", sweeps("80")).axes]
    assert len(labels) == 36
    assert all("horizon=" in label for label in labels)


@pytest.mark.parametrize(("name", "answers"), [("2-objectives", True), ("all-objectives", False)])
def test_learning_of_open_ended_tasks_shows_creativity(sweeps: Any, name: str, answers: bool) -> None:
    """Beside whole answers for few settings, alone for many. The decision token is not drawn."""
    sweep = sweeps(name)
    sweep.curves["val/creativity"] = 0.25
    sweep.curves["val/accuracy"] = 0.75
    for axes in draw("learning", sweep).axes:
        heights = {y for line in axes.lines if len(line.get_xdata()) > 2 for y in line.get_ydata()}
        assert heights == ({0.25, 0.75} if answers else {0.25})


def test_survival_over_a_wide_range_of_rows_is_logarithmic(tmp_path: Path) -> None:
    solved = {"steps": 100, "steps_to_solve": 50, "samples_seen": 6400, "verdict": "solved"}
    runs = [simulate("next_token"), simulate("token_order").model_copy(update=solved)]
    (axes,) = draw("survival", build(tmp_path, runs)).axes
    assert axes.get_xscale() == "log"
    assert {text.get_text() for text in axes.texts} == {"next_token 0/1", "token_order 1/1"}


@pytest.mark.parametrize("objectives", [1, 3, 4])
def test_survival_has_bands_for_a_few_curves(tmp_path: Path, objectives: int) -> None:
    names = ("next_token", "token_order", "teacherless", "belief_state")[:objectives]
    runs = [simulate(name, seed) for name in names for seed in range(4)]
    solved = {"verdict": "solved", "steps_to_solve": 500, "samples_seen": 48000, "steps": 750}
    runs.append(simulate(names[-1], 4).model_copy(update=solved))
    axes = draw("survival", build(tmp_path, runs)).axes[0]
    assert len(axes.collections) == (objectives if objectives <= 3 else 0)
    for band in axes.collections:
        low, high = band.get_paths()[0].get_extents().intervaly
        assert 0 <= low < high <= 1


def test_compute_is_drawn_where_it_differs(tmp_path: Path) -> None:
    """Along the operations of training, of which `token_order` is simulated to take twice as many."""
    runs = [simulate(objective, seed) for objective in ("next_token", "token_order") for seed in range(3)]
    axes = draw("compute", build(tmp_path / "two", runs)).axes[0]
    ends = {line.get_xdata()[-1] for line in axes.lines if line.get_drawstyle() == "steps-post"}
    assert max(ends) == max(run.training_flops for run in runs)
    assert "plot before" in draw("compute", build(tmp_path / "one", runs[:3]))
    older = [run.model_copy(update={"training_flops": None, "flops_to_solve": None}) for run in runs]
    assert "counted" in draw("compute", build(tmp_path / "older", older))


# Clever Hans and example


def test_the_arrow_explains_the_baseline(sweeps: Any) -> None:
    figure = draw("clever_hans", sweeps("80"))
    explained = {axes.get_label() for axes in figure.axes if any("guess" in t.get_text() for t in axes.texts)}
    assert explained == {"next_token degree=5 path_length=3"}
    assert [axes.get_label().split()[0] for axes in figure.axes] == [
        "next_token",
        "multi_token",
        "next_latent",
    ]


def test_the_baseline_fails_beside_a_repair_on_the_same_graph(sweeps: Any) -> None:
    figure = draw("example", sweeps("80"))
    wrong, right = (axes.get_label() for axes in figure.axes)
    assert wrong.startswith("next_token ")
    assert not right.startswith("next_token ")
    differing = {word for word in right.split() if not word.startswith("horizon")} - {*wrong.split()}
    assert differing == {right.split()[0]}
    notes = {text.get_text() for text in figure.texts}
    assert {"wrong arm", "right answer", "answer without an edge"} <= notes


def test_separators_end_and_padding_are_not_drawn(tmp_path: Path) -> None:
    run = simulate("next_token", degree=2, length=3)
    (example,) = run.examples
    first, second, third = example.truth
    example.truth = [first, "/", second, "/", third, "end"]
    example.answer = [first, "/", second, "=", "end", "$"]
    figure = draw("example", build(tmp_path, [run]))
    nodes = {node for edge in example.drawing["edges"] for node in edge}
    assert {text.get_text() for text in figure.axes[0].texts} == {*nodes, "=", "", "start", "goal"}


# Titles, colours and metrics


def test_long_titles_keep_what_differs() -> None:
    labels = [f"next_token edge_order={LONG.format(variant)}" for variant in ("a", "b", "c")]
    fitted = fit_labels(labels, 1.3, 8.5, "bold", lines=3)
    assert len({*fitted}) == 3
    for variant, text in zip("abc", fitted, strict=True):
        assert f"variant_{variant}" in text.replace("\n", "")
        assert all(text_width(line, 8.5, "bold") <= 1.3 for line in text.split("\n"))


def test_a_title_is_cut_in_the_middle() -> None:
    (fitted,) = fit_labels(["first " + "between " * 20 + "last"], 1.0, 9, lines=2)
    assert fitted.startswith("first")
    assert fitted.endswith("last")
    assert "…" in fitted


def test_names_break_between_words() -> None:
    (fitted,) = fit_labels(["ranking_into_the_future"], 1.2, 9)
    assert fitted.split("\n") == ["ranking_into_the_", "future"]


def test_objectives_have_looks_of_their_own() -> None:
    looks = {look_of_objective(name)[::2] for name in OBJECTIVES}
    assert len(looks) == len(OBJECTIVES)
    assert look_of_objective("next_token").color == INK
    assert look_of_objective("mine") == look_of_objective("mine")


def test_a_metric_without_values_gives_a_sentence(tmp_path: Path) -> None:
    runs = [simulate("next_token", degree=d, length=n) for d in (2, 3) for n in (3, 4)]
    sweep = build(tmp_path, runs, metric="steps_to_solve")
    for plot in ("phase_diagram", "trend"):
        assert "steps_to_solve" in draw(plot, sweep)


def test_other_metrics_are_drawn(sweeps: Any) -> None:
    figure = draw("phase_diagram", sweeps("16", metric="accuracy"))
    assert "50" in {text for text, _ in list_fields(figure.axes[0]).values()}
    assert isinstance(draw("trend", sweeps("16", metric="steps")), Figure)
