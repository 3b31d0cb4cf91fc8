"""Paired comparison of objectives over the same seeds."""

import io

import pytest
from reports import make_failed, make_run
from rich.console import Console

from forethought.report import print_table
from forethought.report.groups import group_runs
from forethought.report.page import render_page
from forethought.report.pairs import Comparison, compare_objectives, tabulate_comparisons
from forethought.report.seeds import holm, mcnemar
from forethought.results import Results


def make_runs(solved: dict[str, str], degree: int = 2) -> list[Results]:
    """Return a run for each letter, with seeds from 0: `s` solved the task, other letters did not."""
    return [
        make_run("solved" if letter == "s" else "shortcut", seed, objective, {"task.degree": degree})
        for objective, letters in solved.items()
        for seed, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (0, 6, 2 / 64), (1, 9, 22 / 1024), (4, 4, 1.0)],
)
def test_mcnemar_tosses_a_coin_for_each_discordant_pair(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p)


def test_mcnemar_supports_large_counts() -> None:
    assert 0 < mcnemar(400, 700) < 1e-10


def test_holm_steps_down() -> None:
    # 4 × 0.01; 3 × 0.015 = 0.045; 2 × 0.02 = 0.04, raised to 0.045; 1 × 0.5.
    assert holm([0.02, 0.01, 0.5, 0.015]) == pytest.approx([0.045, 0.04, 0.5, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_share_the_seed_and_every_other_setting() -> None:
    same = make_runs({"next_token": "ss---", "teacherless": "s-sss"})
    # Runs without a partner: by seed, by degree, by model, and a failed run.
    alone = [make_run("solved", 7, "teacherless"), *make_runs({"teacherless": "s"}, degree=3)]
    wide = make_run("solved", 0, "teacherless", {"model.layers": 6})
    comparisons = compare_objectives(
        group_runs([*same, *alone, wide, make_run("solved", 9), make_failed(9, objective="teacherless")])
    )
    assert comparisons == [Comparison("teacherless", "next_token", 1, 3, 1, 0)]
    assert comparisons[0].pairs == 5
    assert comparisons[0].p == pytest.approx(mcnemar(3, 1))


def test_settings_are_counted_together() -> None:
    both = [
        *make_runs({"next_token": "--", "teacherless": "ss"}),
        *make_runs({"next_token": "s", "teacherless": "-"}, 3),
    ]
    assert compare_objectives(group_runs(both)) == [Comparison("teacherless", "next_token", 0, 2, 1, 0)]


def test_many_are_compared_with_next_token_and_two_with_each_other() -> None:
    many = make_runs({"next_token": "-", "myopic": "-", "teacherless": "s"})
    assert [
        (comparison.objective, comparison.baseline) for comparison in compare_objectives(group_runs(many))
    ] == [("myopic", "next_token"), ("teacherless", "next_token")]
    two = make_runs({"teacherless": "s", "myopic": "-"})
    assert compare_objectives(group_runs(two)) == [Comparison("teacherless", "myopic", 0, 1, 0, 0)]
    assert compare_objectives(group_runs(make_runs({"a": "s", "b": "s", "c": "s"}))) == []
    assert compare_objectives(group_runs(make_runs({"next_token": "s"}))) == []


def test_swept_options_of_an_objective_count_as_objectives() -> None:
    weights = [make_run("solved", 0, "teacherless", {"objective.next_token_weight": w}) for w in (0.1, 0.5)]
    comparisons = compare_objectives(group_runs([make_run("shortcut", 0), *weights]))
    assert [comparison.objective for comparison in comparisons] == [
        "teacherless next_token_weight=0.1",
        "teacherless next_token_weight=0.5",
    ]
    assert all(comparison.only_objective == 1 for comparison in comparisons)


def test_table_adjusts_for_several_comparisons() -> None:
    titles, rows = tabulate_comparisons([Comparison("a", "b", 0, 6, 0, 2)])
    assert titles == ["", "pairs", "both", "objective only", "b only", "neither", "p"]
    assert rows == [["a", "8", "0", "6", "0", "2", "0.031"]]
    titles, rows = tabulate_comparisons([Comparison("a", "b", 0, 6, 0, 2), Comparison("c", "b", 1, 20, 0, 2)])
    assert titles[-1] == "p, Holm"
    assert [row[-2:] for row in rows] == [["0.031", "0.031"], ["<0.001", "<0.001"]]


def test_comparison_is_on_the_page_and_on_the_terminal() -> None:
    sweep = group_runs(make_runs({"next_token": "------", "teacherless": "ssssss"}))
    console = Console(width=100, file=io.StringIO(), record=True)
    print_table(sweep, console)
    text = console.export_text()
    assert "next_token only" in text
    assert "0.031" in text
    html = render_page(sweep, [])
    assert "Paired comparison" in html
    assert "<td>0.031</td>" in html
