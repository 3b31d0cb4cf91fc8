"""Two objectives compared over the same seeds."""

import io

import pytest
from reports import failed, run
from rich.console import Console

from forethought.report import print_table
from forethought.report.groups import group
from forethought.report.page import page
from forethought.report.pairs import Comparison, comparison_table, comparisons
from forethought.report.seeds import holm, mcnemar
from forethought.results import Results


def runs(solved: dict[str, str], degree: int = 2) -> list[Results]:
    """One run a letter, seeds from 0: s solved it, any other letter did not."""
    return [
        run("solved" if letter == "s" else "shortcut", seed, objective, {"task.degree": degree})
        for objective, letters in solved.items()
        for seed, letter in enumerate(letters)
    ]


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (0, 6, 2 / 64), (1, 9, 22 / 1024), (4, 4, 1.0)],
)
def test_mcnemar_tosses_a_coin_for_each_pair_that_differs(one: int, other: int, p: float) -> None:
    assert mcnemar(one, other) == pytest.approx(p)


def test_mcnemar_bears_large_counts() -> None:
    assert 0 < mcnemar(400, 700) < 1e-10


def test_holm_steps_down() -> None:
    # 4 × 0.01; 3 × 0.015 = 0.045; 2 × 0.02 = 0.04, kept at 0.045; 0.5 alone.
    assert holm([0.02, 0.01, 0.5, 0.015]) == pytest.approx([0.045, 0.04, 0.5, 0.045])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_share_the_seed_and_every_other_setting() -> None:
    same = runs({"next_token": "ss---", "teacherless": "s-sss"})
    # No partner: a seed, a degree and a model of its own; a run that failed.
    alone = [run("solved", 7, "teacherless"), *runs({"teacherless": "s"}, degree=3)]
    wide = run("solved", 0, "teacherless", {"model.layers": 6})
    found = comparisons(group([*same, *alone, wide, run("solved", 9), failed(9, objective="teacherless")]))
    assert found == [Comparison("teacherless", "next_token", 1, 3, 1, 0)]
    assert found[0].pairs == 5
    assert found[0].p == pytest.approx(mcnemar(3, 1))


def test_settings_are_counted_together() -> None:
    both = [
        *runs({"next_token": "--", "teacherless": "ss"}),
        *runs({"next_token": "s", "teacherless": "-"}, 3),
    ]
    assert comparisons(group(both)) == [Comparison("teacherless", "next_token", 0, 2, 1, 0)]


def test_many_are_compared_with_next_token_and_two_with_each_other() -> None:
    many = runs({"next_token": "-", "myopic": "-", "teacherless": "s"})
    assert [(each.objective, each.baseline) for each in comparisons(group(many))] == [
        ("myopic", "next_token"),
        ("teacherless", "next_token"),
    ]
    two = runs({"teacherless": "s", "myopic": "-"})
    assert comparisons(group(two)) == [Comparison("teacherless", "myopic", 0, 1, 0, 0)]
    assert comparisons(group(runs({"a": "s", "b": "s", "c": "s"}))) == []
    assert comparisons(group(runs({"next_token": "s"}))) == []


def test_an_objectives_own_parameters_make_it_several() -> None:
    weights = [run("solved", 0, "teacherless", {"objective.next_token_weight": w}) for w in (0.1, 0.5)]
    found = comparisons(group([run("shortcut", 0), *weights]))
    assert [each.objective for each in found] == [
        "teacherless next_token_weight=0.1",
        "teacherless next_token_weight=0.5",
    ]
    assert all(each.only_objective == 1 for each in found)


def test_table_adjusts_for_several_comparisons() -> None:
    titles, rows = comparison_table([Comparison("a", "b", 0, 6, 0, 2)])
    assert titles == ["", "pairs", "both", "only it", "only b", "neither", "p"]
    assert rows == [["a", "8", "0", "6", "0", "2", "0.031"]]
    titles, rows = comparison_table([Comparison("a", "b", 0, 6, 0, 2), Comparison("c", "b", 1, 20, 0, 2)])
    assert titles[-1] == "p, Holm"
    assert [row[-2:] for row in rows] == [["0.031", "0.031"], ["<0.001", "<0.001"]]


def test_comparison_is_on_the_page_and_on_the_terminal() -> None:
    sweep = group(runs({"next_token": "------", "teacherless": "ssssss"}))
    console = Console(width=100, file=io.StringIO(), record=True)
    print_table(sweep, console)
    text = console.export_text()
    assert "only next_token" in text
    assert "0.031" in text
    html = page(sweep, [])
    assert "Over the same seeds" in html
    assert "<td>0.031</td>" in html
