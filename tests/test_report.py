"""Report on synthetic results, without training."""

import csv
import io
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from matplotlib.figure import Figure
from reports import STAR, build_report, make_failed, make_repairs, make_run, make_sweep, save_runs
from rich.console import Console

from forethought import load_sweep
from forethought.cli.main import run as command
from forethought.errors import InputError
from forethought.report import build_sweep, print_table, wilson
from forethought.report.findings import describe_hue_levels, describe_settings
from forethought.report.myopia import describe_myopia_gaps
from forethought.report.page import _list_provenance, render_page
from forethought.report.plots import attention, grad_flow, gradient_split, probes, render_plot
from forethought.report.plots.graph_layout import layout_graph
from forethought.report.wording import (
    format_count,
    format_odds,
    format_quartiles,
    format_range,
    format_share,
    wrap_name,
)
from forethought.results import Example, Results, Stretch


def list_labels(runs: Sequence[Results]) -> list[str]:
    return make_sweep(runs).summary.setting.tolist()


def find_keys(runs: Sequence[Results]) -> list[str]:
    return make_sweep(runs).keys


def describe(*runs: Results) -> list[str]:
    return list(describe_settings(make_sweep(runs)).values())


def render_table(runs: Path | Sequence[Results], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    sweep = build_sweep(load_sweep(runs)) if isinstance(runs, Path) else make_sweep(runs)
    print_table(sweep, console)
    return console.export_text()


# Seeds


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_covers_all_rates_without_trials() -> None:
    low, high = wilson(2, 7)
    assert wilson(5, 7) == pytest.approx((1 - high, 1 - low))
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(3, 3)[1] == 1.0


def test_steps_to_solve_are_over_solved_seeds() -> None:
    runs = [make_run("solved", seed, steps_to_solve=steps) for seed, steps in enumerate((1000, 2000, 4000))]
    text = render_table([*runs, make_run("shortcut", 3)])
    assert re.search(r"3 of 4.* 2,000 +3 solved", text)
    assert "(1,500–3,000)" in text
    assert format_quartiles([1750.0] * 3, format_count) == "1,750"


def test_creativity_of_open_ended_tasks() -> None:
    accuracy = {"test/accuracy": 1.0, "test/chance": 0.2}
    creative = [make_run("partial", seed, metrics={**accuracy, "test/creativity": 0.3}) for seed in range(2)]
    text = render_table(creative)
    assert re.search("chance +accuracy +decision +creativity +steps", text)
    assert re.search(" 20 +100 +– +30 ", text)
    assert "decision, creativity and the interval in per" in text
    assert "creativity" not in render_table([make_run(metrics=accuracy)])


def test_numbers_as_text() -> None:
    assert [format_share(x) for x in (0.0, 0.004, 0.5, 0.996, 1.0)] == ["0", "0.4", "50", "99.6", "100"]
    assert format_range([0.5, 0.501]) == "50"
    assert format_range([0.2, 0.996]) == "20–99.6"
    assert format_range([]) == "–"
    assert [format_odds(x) for x in (0.2, 1 / 3, 0.857, 0.0)] == ["1/5", "1/3", "86 %", "0 %"]


# The DataFrame


def test_a_row_has_all_of_a_run(tmp_path: Path) -> None:
    stretch = {"first_step": 0, "last_step": 9, "began": 0.0, "date": "2026-11-25T10:00:00", "host": "h1"}
    stretch |= {"cpu": "c", "device": "cpu", "instructions": "AVX2", "versions": {}, "commit": "abc"}
    runs = [
        make_run(stretches=[Stretch(**stretch), Stretch(**stretch | {"host": "h2", "dirty": True})]),
        make_run("solved", 1, "teacherless", {"task.degree": 3, "task.sizes": [1, 2]}),
        make_failed(),
    ]
    frame = load_sweep(save_runs(tmp_path, runs)).set_index("seed")
    assert frame["task.degree"].tolist() == [2, 2, 3]  # ordered by cell
    solved = frame.loc[1, ["objective", "task.sizes", "steps_to_solve"]]
    assert solved.tolist() == ["teacherless", "[1,2]", 2500]
    assert frame.loc[0, ["host", "dirty", "commit", "command"]].fillna("").tolist() == ["h2", True, "abc", ""]
    assert frame.loc[[0, 9], ["objective.next_token_weight", "steps_to_solve"]].isna().all(axis=None)
    assert frame.loc[9, ["verdict", "test/accuracy"]].isna().all()
    assert frame.loc[1, "folder"] == str(tmp_path / runs[1].cell)
    assert frame.loc[0, "examples"][0].drawing == STAR
    metrics = list(frame.columns[frame.columns.get_loc("examples") + 1 :])
    assert metrics.index("test/token_accuracy_9") + 1 == metrics.index("test/token_accuracy_10")


def test_curves_are_a_frame_of_logged_steps(tmp_path: Path) -> None:
    folder = save_runs(tmp_path, [make_run(), make_run(seed=1)])
    curves = load_sweep(folder, curves=True)
    assert curves.groupby("cell").size().tolist() == [8, 8]
    assert curves[["step", "val/accuracy"]].iloc[-1].tolist() == [2000, 0.8]
    sweep = build_sweep(load_sweep(folder))
    assert sweep.curves.groupby(["setting", "seed"], observed=True).size().tolist() == [8, 8]
    assert make_sweep([make_run()]).curves.empty


# Settings


def test_runs_that_differ_in_the_seed_share_a_setting() -> None:
    sweep = make_sweep(make_repairs())
    assert sweep.keys == ["objective", "task.reverse"]
    assert sweep.summary.setting.tolist() == ["next_token", "next_token reverse=true", "teacherless"]
    assert sweep.summary.solved.tolist() == [0, 2, 1]
    assert sweep.summary["task.reverse"].tolist() == [False, True, False]


def test_objectives_are_ordered_by_what_they_reached() -> None:
    verdicts = {"a": "partial", "b": "undertrained", "c": "solved", "next_token": "shortcut", "d": "partial"}
    sweep = make_sweep([make_run(verdict, 0, name) for name, verdict in verdicts.items()])
    assert sweep.levels("objective") == ["next_token", "c", "a", "d", "b"]
    assert sweep.summary.objective.tolist() == sweep.levels("objective")


def test_labels_omit_parameters_on_request() -> None:
    levels = product((2, 3), (1, 2))
    sweep = make_sweep([make_run(config={"task.degree": d, "model.layers": n}) for d, n in levels])
    row = sweep.summary.iloc[-1]
    assert sweep.label(row) == "degree=3 layers=2"
    assert sweep.label(row, without=["task.degree"]) == "layers=2"
    assert sweep.label(row, without=sweep.keys) == ""


def test_null_is_a_value_of_a_swept_parameter() -> None:
    runs = [make_run(seed=s, config={"model.window": window}) for window in (None, 4) for s in (0, 1)]
    assert list_labels(runs) == ["window=null", "window=4"]
    flags = [make_run(config={"model.window": window}) for window in (None, False, True)]
    assert len(set(list_labels(flags))) == 3


def test_the_same_cells_of_several_sweeps_are_told_apart(tmp_path: Path) -> None:
    def save(name: str, sweep: str) -> Path:
        return save_runs(tmp_path / name, [run.model_copy(update={"sweep": sweep}) for run in make_repairs()])

    first, second, third = save("a", "one"), save("b", "two"), save("c", "two")
    assert build_sweep(load_sweep(first)).keys == ["objective", "task.reverse"]
    sweep = build_sweep(load_sweep(first, second, first))
    assert (sweep.name, len(sweep.runs), sweep.keys[0]) == ("one, two", 12, "sweep")
    assert "sweep=two next_token reverse=true" in sweep.summary.setting.tolist()
    assert build_sweep(load_sweep(third, second)).levels("sweep") == [str(third), str(second)]


def test_a_summary_has_rates_and_quartiles_of_finished_runs() -> None:
    runs = [make_run("solved", seed, steps_to_solve=steps) for seed, steps in enumerate((1000, 2000, 4000))]
    runs += [make_run("shortcut", 3), make_failed()]
    (row,) = make_sweep(runs).summary.to_dict("records")
    assert [row[name] for name in ("runs", "finished", "solved", "shortcut", "partial")] == [5, 4, 3, 1, 0]
    assert (row["solve_rate"], row["low"], row["high"]) == (0.75, *wilson(3, 4))
    assert [row[f"steps_to_solve_{q}"] for q in ("min", "q1", "median", "q3")] == [1000, 1500, 2000, 3000]
    assert (row["test/accuracy_min"], row["test/accuracy_median"]) == (0.5, 1)
    (row,) = make_sweep([make_failed()]).summary.to_dict("records")
    assert row["finished"] == 0
    assert pd.isna(row["solve_rate"])


def test_a_single_run_is_named_after_its_objective() -> None:
    assert list_labels([make_run()]) == ["next_token"]


def test_a_flag_that_is_off_is_in_the_label_if_nothing_else_is() -> None:
    assert list_labels([make_run(), make_run(config={"task.reverse": True})]) == [
        "reverse=false",
        "reverse=true",
    ]


def test_numbers_are_sorted_as_numbers() -> None:
    runs = [make_run(config={"task.degree": degree}) for degree in (10, 2, 5)]
    assert list_labels(runs) == ["degree=2", "degree=5", "degree=10"]


def test_options_of_one_objective_are_listed_only_if_they_vary() -> None:
    weights = [
        make_run(objective="teacherless", config={"objective.next_token_weight": w}) for w in (0.1, 0.5)
    ]
    assert find_keys([make_run(), make_run(objective="teacherless")]) == ["objective"]
    assert list_labels([make_run(), *weights]) == [
        "next_token",
        "teacherless next_token_weight=0.1",
        "teacherless next_token_weight=0.5",
    ]


def test_parameters_determined_by_others_are_omitted() -> None:
    runs = [
        make_run(
            config={
                "task.degree": d,
                "task.path_length": n,
                "task.num_nodes": d * n,
                "task.label": f"{d}x{n}",
            },
            overrides=[f"task.degree={d}", f"task.path_length={n}"],
        )
        for d in (2, 3)
        for n in (4, 5)
    ]
    assert find_keys(runs) == ["task.degree", "task.path_length"]


def test_determined_parameters_are_listed_if_set_on_the_command_line() -> None:
    runs = [
        make_run(
            config={"task.degree": d, "task.path_length": d + 2},
            overrides=[f"task.degree={d}", f"task.path_length={d + 2}"],
        )
        for d in (2, 3)
    ]
    assert list_labels(runs) == ["degree=2 path_length=4", "degree=3 path_length=5"]


def test_a_parameter_set_to_the_seed_is_no_setting_of_its_own() -> None:
    def runs(word: str) -> list[Results]:
        return [
            make_run(seed=seed, config={"task.degree": d, "task.path_length": 3 + seed}, overrides=[word])
            for d in (2, 3)
            for seed in (0, 1)
        ]

    assert find_keys(runs("task.path_length=${seed}")) == ["task.degree"]
    assert find_keys(runs("task.path_length=4")) == ["task.path_length", "task.degree"]


def test_ambiguous_names_are_full_names() -> None:
    runs = [make_run(config={"model.layers": n, "objective.layers": n + m}) for n in (1, 2) for m in (0, 1)]
    assert list_labels(runs)[0] == "model.layers=1 objective.layers=1"


def test_a_failed_run_without_a_config_adds_no_parameters() -> None:
    assert find_keys([*make_repairs(), make_failed().model_copy(update={"config": {}})]) == find_keys(
        make_repairs()
    )


def test_no_results_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        build_report(tmp_path / "none")
    with pytest.raises(InputError, match="no runs"):
        make_sweep([])
    assert not list(tmp_path.iterdir())


# Words and tables


def test_findings() -> None:
    shortcut, solved, mixed = describe(*make_repairs())
    assert shortcut.startswith("0 of 2 solved; teacher-forced later tokens 99.9 %, decision 50 %")
    assert shortcut.endswith("the Clever Hans shortcut")
    assert solved == "2 of 2 solved, after 2,500 steps (median); accuracy 100 % (chance 50 %)"
    assert mixed == (
        "1 of 2 solved, after 2,500 steps; unsolved seeds: 1 partial; "
        "accuracy 70 %, decision 70 % (chance 50 %)"
    )
    assert "undertrained" in describe(make_run("undertrained"))[0]
    assert describe(make_failed()) == ["the run did not finish"]


def test_findings_over_settings_do_not_count_to_one() -> None:
    degrees = [
        *(make_run("solved" if d == 2 else "shortcut", config={"task.degree": d}) for d in (2, 3, 4)),
        *(make_run("shortcut", 0, "myopic", {"task.degree": d}) for d in (2, 3)),
        make_run("shortcut", 0, "teacherless", {"task.degree": 2}),
    ]
    assert [sentence for _, sentence in describe_hue_levels(make_sweep(degrees))] == [
        "1 of 3 solved, after 2,500 steps; 1 of 3 settings solved by every seed, 2 by no seed",
        "0 of 1 solved",
        "0 of 2 solved; no setting solved by every seed, 2 by no seed",
    ]


def test_names_are_wrapped_between_words() -> None:
    name = "lookahead_insertion next_token_weight=0.5"
    assert wrap_name(name, 24) == ["lookahead_insertion", "next_token_weight=0.5"]
    assert wrap_name(name, 12) == ["lookahead_", "insertion", "next_token_", "weight=0.5"]
    runs = [make_run(objective="ranking_into_the_future"), *make_repairs()]
    for line in render_table(runs, width=80).splitlines():
        assert not re.match(r" *(uture|ture|ure|re|e|oken|ken|en|n) ", line), line


def make_myopic_pair(seed: int, gap: float = 0.25) -> list[Results]:
    """Return a next-token run and its myopic counterpart with a loss that is higher by `gap`."""
    pair = [make_run("shortcut", seed), make_run("undertrained", seed, "myopic")]
    for run, loss in zip(pair, (0.5, 0.5 + gap), strict=True):
        run.metrics["test/forced_loss"] = loss + seed
        run.grad_flow = [[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    pair[0].grad_flow = [[1.0, 0.5, 2.0, 0.0], [0.1, 3.0, 0.0, 1.0]]
    return pair


def test_myopia_gap_is_paired_over_seeds() -> None:
    """Losses differ more between seeds than the gap. Seeds of only one of the two groups are ignored."""
    runs = [
        *make_myopic_pair(0),
        *make_myopic_pair(1, 0.75),
        *make_myopic_pair(2, 0.5),
        make_myopic_pair(3)[1],
    ]
    gaps = describe_myopia_gaps(make_sweep(runs))
    assert list(gaps) == ["myopic"]
    assert gaps["myopic"].startswith("myopia gap 0.500 nats per token (0.250 to 0.750 over 3 seeds)")
    assert "accuracy 1 % against 50 %" in gaps["myopic"]
    assert "myopic: myopia gap 0.500 nats" in " ".join(render_table(runs).split())


def test_myopia_gap_compares_only_like_with_like() -> None:
    wide = {"model.layers": 6}
    plain, myopic = make_run("shortcut"), make_run("shortcut", 0, "myopic", config=wide)
    for run in (plain, myopic):
        run.metrics["test/forced_loss"] = 1.0
    assert describe_myopia_gaps(make_sweep([plain, myopic])) == {}
    baseline = make_run("shortcut", config=wide)
    baseline.metrics["test/forced_loss"] = 0.5
    assert len(describe_myopia_gaps(make_sweep([plain, myopic, baseline]))) == 1
    assert describe_myopia_gaps(make_sweep(make_repairs())) == {}


def test_maps_of_gradient_flow_are_drawn(tmp_path: Path) -> None:
    runs = [*make_myopic_pair(0), *make_myopic_pair(1)]
    path = build_report(save_runs(tmp_path, runs))
    assert (tmp_path / "report" / "plots" / "grad_flow.png").stat().st_size > 1000
    assert grad_flow.TITLE in path.read_text()
    figure = grad_flow.draw(make_sweep(runs))
    assert figure is not None
    by_title = {axes.get_label(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    assert by_title["next_token"].tolist() == [
        [0.5, 0.25, 1.0, None],
        [pytest.approx(0.1 / 3), 1.0, None, 1 / 3],
    ]
    assert by_title["myopic"].tolist() == [[None, None, 1.0, None], [None, None, None, 1.0]]
    assert grad_flow.draw(make_sweep(make_repairs())) is None


def test_parts_of_the_gradient_are_shares_of_their_sum() -> None:
    runs = [make_run(seed=seed) for seed in range(2)]
    runs[0].gradient_split = [[1.0, 1.0, 2.0, 0.5], [3.0, 0.0, 1.0, 0.0]]
    runs[1].gradient_split = [[2.0, 2.0, 0.0, -0.5], [1.0, 0.0, 1.0, 0.0]]
    figure = gradient_split.draw(make_sweep(runs))
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    medians = [[*map(float, line.get_ydata())] for line in axes.lines]
    assert medians == [[0.375, 0.625], [0.375, 0.0], [0.25, 0.375]]
    assert gradient_split.draw(make_sweep(make_repairs())) is None


def test_attention_is_drawn_by_layer() -> None:
    runs = [make_run(seed=seed) for seed in range(2)]
    runs[0].attention = {"goal": [[0.25, 0.5], [0.0, 1.0]]}
    runs[1].attention = {"goal": [[0.75, 1.0], [0.0, 0.5]]}
    figure = attention.draw(make_sweep(runs))
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    mean, largest = ([*map(float, line.get_ydata())] for line in axes.lines)
    assert (mean, largest) == ([0.5, 0.0], [0.75, 0.75])
    (seeds,) = axes.collections
    assert [line.tolist() for line in seeds.get_segments()] == [[[1, 0.5], [2, 1.0]], [[1, 1.0], [2, 0.5]]]
    assert attention.draw(make_sweep(make_repairs())) is None


def test_maps_of_probes_are_medians() -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    for share, run in zip((0.25, 0.5, 1.0), runs, strict=True):
        run.probes = [[share, 0.0], [share, 1.0], [None, share]]
    figure = probes.draw(make_sweep(runs))
    assert isinstance(figure, Figure)
    assert figure.axes[0].images[0].get_array().tolist() == [[0.5, 0.5, None], [0.0, 1.0, 0.5]]
    assert probes.draw(make_sweep(make_repairs())) is None


def test_terminal_table_fits_and_lists_failures() -> None:
    text = render_table([*make_repairs(), make_failed(reason="ValueError: [red]brackets[/red]")])
    assert all(len(line.rstrip()) <= 100 for line in text.splitlines())
    assert re.search(r"next_token +0 of 2 +0–66 +50 +50 +50 +99.9 +– +2 shortcut", text)
    assert re.search(r"reverse=true", text)
    assert "ValueError: [red]brackets[/red]" in text


def test_narrow_terminal_keeps_the_verdicts() -> None:
    text = render_table(make_repairs(), width=80)
    assert re.search(r"next_token +0 of 2 +0–66 +50 +50 +– +2 shortcut", text)
    assert "forced" not in text.splitlines()[1]
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


def test_terminal_table_reads_a_folder(tmp_path: Path) -> None:
    assert render_table(save_runs(tmp_path, make_repairs())) == render_table(make_repairs())


def test_cells_csv_has_a_row_for_each_run(tmp_path: Path) -> None:
    build_report(save_runs(tmp_path, [*make_repairs(), make_failed()]))
    with open(tmp_path / "report" / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    columns = list(rows[0])
    assert columns[:5] == ["cell", "sweep", "setting", "folder", "status"]
    assert {"task", "objective", "task.degree", "seed", "overrides", "steps_to_solve"} <= set(columns)
    assert columns.index("test/token_accuracy_9") + 1 == columns.index("test/token_accuracy_10")
    bad = next(row for row in rows if row["status"] == "failed")
    assert (bad["verdict"], bad["test/accuracy"], bad["seed"]) == ("", "", "9")
    assert bad["reason"] == "ValueError: no <b>luck</b>"
    good = next(row for row in rows if row["setting"] == "next_token reverse=true")
    assert (good["task.reverse"], float(good["test/accuracy"])) == ("true", 1.0)


# The page


def test_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> & 50$ ${title} {{ title }}"
    runs = [
        *make_repairs(),
        make_failed(reason=hostile),
        make_run("shortcut", 5, config={"task.edge_order": hostile}),
    ]
    runs[-1] = runs[-1].model_copy(update={"cell": "hostile", "sweep": hostile})
    page = build_report(save_runs(tmp_path, [run.model_copy(update={"sweep": hostile}) for run in runs]))
    html = page.read_text()
    assert page == tmp_path / "report" / "report.html"
    assert "<script>alert" not in html.replace("<wbr>", "")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; 50$ ${title} {{ title }}" in html
    assert not re.search(r'src=(?!"data:)|href=(?!"\.\./)|https?://|@import|url\(', html)
    for name in ("clever_hans", "accuracy", "solve_rate", "errors", "learning", "example"):
        assert (tmp_path / "report" / "plots" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "report" / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert html.count("data:image/png;base64,") == 6


def test_objectives_that_ended_alike_share_a_line_at_the_top(tmp_path: Path) -> None:
    names = ("teacherless", "multi_token", "token_order", "next_latent", "belief_state", "plan_tokens")
    runs = [make_run("solved" if name < "c" else "shortcut", 0, name) for name in ("next_token", *names)]
    more = [make_run("shortcut", 0, name, {"task.degree": 5}) for name in names]
    html = render_page(make_sweep([*runs, *more]), tmp_path).replace("<wbr>", "")
    top = html[html.index('<div class="hero">') : html.index("All 13 settings")]
    labels = re.findall("<b>(.*?)</b>", top)
    assert [sorted(label.split(", ")) for label in labels] == [
        ["next_token"],
        ["belief_state"],
        sorted({*names} - {"belief_state"}),
    ]


def test_main_table_has_a_column_for_each_parameter_and_links(tmp_path: Path) -> None:
    runs = [run.model_copy(update={"wall_seconds": 20.0}) for run in make_repairs()]
    html = build_report(save_runs(tmp_path / "a b", runs)).read_text()
    assert '<th title="objective">objective</th>\n<th title="task.reverse">reverse</th>\n<th' in html
    row = next(line for line in html.splitlines() if '<td class="level">true</td>' in line)
    assert row.startswith("<tr><th>next_<wbr>token</th>")
    links = re.findall(r'href="([^"]+)"', row)
    assert len(links) == 2
    for link in links:
        assert (tmp_path / "a b" / "report" / unquote(link) / "results.json").exists()
    assert "<dd>2 min in 6 runs</dd>" in html
    assert "0 of 1" not in html


def test_provenance_of_a_page() -> None:
    def stretch(**fields: Any) -> Stretch:
        defaults = {"first_step": 0, "last_step": 9, "began": 0.0, "date": "2026-11-24T10:00:00"}
        defaults |= {"host": "h1", "cpu": "c", "device": "cpu", "instructions": "AVX2", "versions": {}}
        defaults |= {"commit": "0123456789abcdef", "command": "forethought train -m"}
        return Stretch(**defaults | fields)

    runs = [
        make_run(stretches=[stretch()]),
        make_run(seed=1, stretches=[stretch(host="h2", dirty=True, date="2026-11-25T10:00:00")]),
    ]
    provenance = dict(_list_provenance(make_sweep(runs).runs))
    assert provenance["date"] == ["2026-11-24", "2026-11-25"]
    assert provenance["host"] == ["h1", "h2"]
    assert provenance["commit"] == ["0123456789ab", "0123456789ab with uncommitted changes"]
    assert provenance["command"] == ["forethought train -m"]
    assert provenance["versions"] == ["torch=2.13.0"]


def test_tables_for_other_programs(tmp_path: Path) -> None:
    build_report(save_runs(tmp_path, make_repairs()))
    report = tmp_path / "report"
    groups = pd.read_csv(report / "groups.csv").set_index("setting")
    assert groups.loc["teacherless", "test/error_wrong_arm_q3"] == pytest.approx(0.225)
    assert groups.loc["next_token reverse=true", ["task.reverse", "solve_rate"]].tolist() == [True, 1]
    pairs = pd.read_csv(report / "pairs.csv").set_index("parameter")
    assert pairs.loc["task.reverse", ["level", "baseline", "only_level"]].tolist() == ["true", "false", 2]
    text = (report / "table.tex").read_text()
    assert r"next\_token & true & 2 of 2 & 34--100 & 50 & 100 & 2,500 \\" in text
    assert r"\toprule" in text


@pytest.mark.slow
def test_several_folders_share_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [save_runs(tmp_path / name, make_repairs()) for name in ("a", "b")]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    words = ["report", *map(str, folders)]
    assert command(words) == 2
    assert "--out" in capsys.readouterr().err
    assert command([*words, "--out", str(folders[0] / make_repairs()[0].cell)]) == 2
    assert "--out=" in capsys.readouterr().err
    assert command([*words, "--out", str(tmp_path / "both")]) == 0
    assert len(pd.read_csv(tmp_path / "both" / "cells.csv")) == 12
    assert {path: path.read_bytes() for path in before} == before
    assert not (folders[0] / "report").exists()


def test_report_without_curves_or_finished_runs(tmp_path: Path) -> None:
    html = build_report(save_runs(tmp_path, [make_failed(0), make_failed(1)], curves=False)).read_text()
    assert "none of 2 runs finished" in html
    assert "<img" not in html
    assert not list((tmp_path / "report" / "plots").iterdir())


def test_report_of_a_single_run(tmp_path: Path) -> None:
    save_runs(tmp_path, [make_run(sweep=None)])
    folder = next(tmp_path.iterdir())
    build_report(folder)
    assert (folder / "report" / "plots" / "learning.png").exists()


@pytest.mark.parametrize("rows", ["250,oops", "250,0.5,1,2", "250.5,0.5,1", "\n250,0.5,1", '"'])
def test_broken_curves_are_an_input_error(tmp_path: Path, rows: str) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    folder = save_runs(tmp_path, runs)
    path = folder / runs[1].cell / "metrics.csv"
    path.write_text(f"step,train/loss,val/accuracy\n{rows}\n")
    with pytest.raises(InputError, match=r"-s1/metrics\.csv: corrupt, no learning curves"):
        load_sweep(folder, curves=True)
    path.write_text("step,train/loss,val/accuracy\n")
    assert set(load_sweep(folder, curves=True)["cell"]) == {runs[0].cell, runs[2].cell}


@pytest.mark.slow
def test_a_report_can_be_written_again(tmp_path: Path) -> None:
    folder = save_runs(
        tmp_path, [make_run(config={"task.degree": d, "task.path_length": n}) for d in (2, 3) for n in (4, 5)]
    )
    build_report(folder)
    plots = folder / "report" / "plots"
    assert (plots / "phase_diagram.png").exists()
    for cell in folder.glob("*task.path_length=5*"):
        (cell / "results.json").unlink()
    build_report(folder)
    assert not (plots / "phase_diagram.png").exists()


def test_a_label_may_be_a_number(tmp_path: Path) -> None:
    """As `label: ${.digits}` in the file of addition."""
    save_runs(tmp_path, [make_run(seed=seed, config={"task.label": 3}) for seed in range(2)])
    page = build_report(tmp_path).read_text()
    assert "path_star 3" in page


def test_examples_without_a_graph_are_shown_as_text(tmp_path: Path) -> None:
    example = Example(text="27+62=089", truth=list("089"), answer=list("0<9"), outcome="carry")
    strata = {f"test/accuracy_carry_{i}": 1 - i / 10 for i in range(4)}
    run = make_run("partial", examples=[example])
    run.metrics |= strata
    html = build_report(save_runs(tmp_path, [run])).read_text()
    assert "27+62=089" in html
    assert "0 &lt; 9" in html
    assert {path.stem for path in (tmp_path / "report" / "plots").iterdir()} >= {"strata", "errors"}
    assert not (tmp_path / "report" / "plots" / "example.png").exists()


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        (["5", "2", "8"], []),
        (["5", "2", "8"], ["5", "|", "77"]),
        (["5", "2", "8"], ["5", "5", "8", "8"]),
        (["8", "2", "5"], ["8", "3", "5"]),
    ],
)
def test_any_answer_can_be_drawn(truth: list[str], answer: list[str]) -> None:
    example = Example(text="", truth=truth, answer=answer, outcome="other", drawing=STAR)
    images = render_plot("example", make_sweep([make_run(examples=[example])]))
    assert isinstance(images, dict), images
    assert images.keys() == {"png", "pdf"}


# Plots


def test_layout_gives_every_node_its_own_point() -> None:
    points = layout_graph([*STAR["edges"], ["2", "9"], ["70", "71"]], "5")
    assert points["5"][0] == 0
    assert {points[node][0] for node in ("2", "9")} == {1}
    assert len(set(points.values())) == len(points) == 7


def test_the_report_needs_no_torch() -> None:
    code = (
        "import sys, forethought.report as r; assert 'matplotlib' not in sys.modules; "
        "import forethought.report.plots; "
        "never = {'torch', 'lightning', 'hydra', 'omegaconf', 'wandb', 'matplotlib.pyplot'}; "
        "bad = never & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
