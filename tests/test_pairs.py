"""Paired comparison over the same seeds."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from reports import make_failed, make_run, make_sweep
from rich.console import Console

from forethought.report import print_table
from forethought.report.page import render_page
from forethought.report.pairs import compare_levels
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


COUNTS = ["level", "baseline", "both", "only_level", "only_baseline", "neither"]


def compare(runs: Sequence[Results], key: str = "objective") -> list[list[Any]]:
    table = compare_levels(make_sweep(runs))
    return table.loc[table["parameter"] == key, COUNTS].values.tolist()


def test_pairs_share_the_seed_and_every_other_setting() -> None:
    same = make_runs({"next_token": "ss---", "teacherless": "s-sss"})
    # Runs without a partner: by seed, by degree, by model, and a failed run.
    alone = [make_run("solved", 7, "teacherless"), *make_runs({"teacherless": "s"}, degree=3)]
    wide = make_run("solved", 0, "teacherless", {"model.layers": 6})
    runs = [*same, *alone, wide, make_run("solved", 9), make_failed(9, objective="teacherless")]
    table = compare_levels(make_sweep(runs))
    (row,) = table[table["parameter"] == "objective"].to_dict("records")
    assert [row[name] for name in COUNTS] == ["teacherless", "next_token", 1, 3, 1, 0]
    assert row["pairs"] == 5
    assert row["p"] == pytest.approx(mcnemar(3, 1))


def test_settings_are_counted_together() -> None:
    both = [
        *make_runs({"next_token": "--", "teacherless": "ss"}),
        *make_runs({"next_token": "s", "teacherless": "-"}, 3),
    ]
    assert compare(both) == [["teacherless", "next_token", 0, 2, 1, 0]]


def test_objectives_are_compared_with_next_token_or_the_first() -> None:
    many = make_runs({"teacherless": "-", "next_token": "-", "myopic": "s"})
    assert [row[:2] for row in compare(many)] == [["myopic", "next_token"], ["teacherless", "next_token"]]
    two = make_runs({"teacherless": "s", "myopic": "-"})
    assert compare(two) == [["myopic", "teacherless", 0, 0, 1, 0]]
    assert compare(make_runs({"next_token": "s"})) == []


def test_swept_options_of_an_objective_count_as_objectives() -> None:
    weights = [make_run("solved", 0, "teacherless", {"objective.next_token_weight": w}) for w in (0.1, 0.5)]
    runs = [make_run("shortcut", 0), *weights]
    assert compare(runs) == [
        ["teacherless next_token_weight=0.1", "next_token", 0, 1, 0, 0],
        ["teacherless next_token_weight=0.5", "next_token", 0, 1, 0, 0],
    ]
    assert compare(runs, "objective.next_token_weight") == [["0.5", "0.1", 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("key", "levels", "baseline"),
    [
        ("task.reverse", (True, False), "false"),
        ("model.layers", (10, 9, 6), "6"),
        ("model.mask", ("prefix", "causal"), "causal"),
        ("model.window", (None, 4), "4"),
    ],
)
def test_every_swept_parameter_is_compared(key: str, levels: Sequence[Any], baseline: str) -> None:
    """Also where other fields of the same group follow from the parameter."""
    runs = [
        make_run("shortcut" if str(level).lower() == baseline else "solved", seed, objective, config)
        for level in levels
        for config in [{key: level, f"{key.split('.')[0]}.derived": f"of {level}"}]
        for objective in ("next_token", "teacherless")
        for seed in range(2)
    ]
    rows = compare(runs, key)
    assert [row[1:] for row in rows] == [[baseline, 0, 4, 0, 0]] * (len(levels) - 1)
    assert compare(runs) == [["teacherless", "next_token", 4 * len(levels) // 2 - 2, 0, 0, 2]]


def test_p_is_adjusted_for_the_comparisons_of_a_parameter() -> None:
    runs = make_runs({"next_token": "-" * 20, "a": "s" * 6 + "-" * 14, "b": "s" * 20})
    table = compare_levels(make_sweep(runs))
    assert table["level"].tolist() == ["b", "a"]
    assert table["p"].tolist() == pytest.approx([mcnemar(20, 0), mcnemar(6, 0)])
    assert table["p_holm"].tolist() == pytest.approx([2 * mcnemar(20, 0), mcnemar(6, 0)])


def test_comparison_is_on_the_page_and_on_the_terminal() -> None:
    sweep = make_sweep(make_runs({"next_token": "------", "teacherless": "ssssss"}))
    console = Console(width=100, file=io.StringIO(), record=True)
    print_table(sweep, console)
    text = console.export_text()
    assert "teacherless / next_token" in text
    assert "0.031" in text
    html = render_page(sweep, Path("report"))
    assert "Paired comparison" in html
    assert "<td>0.031</td>" in html
