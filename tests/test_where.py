"""Filter over the columns of cells.csv: `--where`."""

import pytest
from reports import make_failed, make_run, make_sweep

from forethought.errors import InputError
from forethought.report.where import select_runs

RUNS = [
    make_run("shortcut", 0, config={"optimizer": {"lr": 1e-3}}),
    make_run("solved", 1, config={"task.degree": 3, "task.reverse": True}),
    make_run("solved", 2, "teacherless", {"task.degree": 5}, steps=900),
    make_failed(9, reason="it said: (oh, no)"),
]
SWEEP = make_sweep(RUNS)


def select_seeds(where: str) -> list[int]:
    return sorted(select_runs(SWEEP.runs, where).seed)


@pytest.mark.parametrize(
    ("where", "seeds"),
    [
        ("objective=teacherless", [2]),
        ("objective!=teacherless", [0, 1, 9]),
        ("degree>2", [1, 2]),
        ("task.degree >= 3", [1, 2]),
        ("degree<3", [0, 9]),
        ("degree<=3 and seed<9", [0, 1]),
        ("degree=3.0", [1]),
        ("optimizer.lr=0.001", [0]),
        ("lr == 1e-3", [0]),
        ("reverse=true", [1]),
        ("reverse=False and status=finished", [0, 2]),
        ("model=gpt AND seed in (1, 2,7)", [1, 2]),
        ("seed not in (1, 2)", [0, 9]),
        ("not seed in (1, 2)", [0, 9]),
        ("test/accuracy>0.4 and accuracy<1", [0]),
        ("reason='it said: (oh, no)'", [9]),
        ('label="2x4" and verdict=solved', [1, 2]),
        # A missing value equals only null.
        ("verdict=null", [9]),
        ("steps_to_solve!=null", [1, 2]),
        ("accuracy<2", [0, 1, 2]),
        ("not accuracy<2", [9]),
        # `and` binds closer than `or`, `not` closest.
        ("seed=0 or seed=1 and degree=2", [0]),
        ("(seed=0 or seed=1) and degree=3", [1]),
        ("not seed=0 and not (seed=1 or seed=9)", [2]),
        ("not not seed=0", [0]),
    ],
)
def test_runs_are_selected(where: str, seeds: list[int]) -> None:
    assert select_seeds(where) == seeds


def test_a_setting_can_be_named_as_in_the_table() -> None:
    (label,) = SWEEP.runs.setting[SWEEP.runs.seed == 1]
    assert select_seeds(f"setting='{label}'") == [1]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "incomplete; expected COLUMN = VALUE"),
        ("degree>", "incomplete"),
        ("degree=2 and", "incomplete"),
        ("(degree=2", "incomplete"),
        ("degree=2)", r"syntax error at '\)'"),
        ("degree >> 2", "syntax error at '> 2'"),
        ("degree", "incomplete"),
        ("degree 2", "syntax error at '2'"),
        ("degree=2 seed=1", "syntax error at 'seed=1'"),
        ("degree in 2", "syntax error at '2'"),
        ("degree in ()", r"syntax error at '\)'"),
        ("and=2", "syntax error at 'and=2'"),
        ('model="gpt', "syntax error at '\"gpt'"),
        ("__import__('os')=1", r"__import__: .*task\.degree"),
        ("degre>2", r"degre: .* task\.degree, .*test/token_accuracy_<i>"),
        ("threads=1 and _target_=x", r"_target_: .*task\._target_, model\._target_"),
        ("degree>many", r"task\.degree>many: .*numbers.* task\.degree is 2, 3, 5"),
        ("objective<3", "objective is next_token, teacherless"),
        ("objective=next_tokn", "none of 4 runs; objective is next_token, teacherless"),
    ],
)
def test_an_invalid_filter_is_one_line(where: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        select_runs(SWEEP.runs, where)
    assert str(error.value).startswith("--where")
    assert "\n" not in str(error.value)


def test_code_in_a_filter_is_a_value() -> None:
    """Also of the syntax of `DataFrame.query`: `@` and backticks."""
    for code in (
        "@__import__('os')",
        "`seed`",
        "1) or (1",
        "@select_runs",
        "x' or 1 == 1 or 'x",
        "a\\",
        "{seed}",
    ):
        quote = "'" if "'" not in code else '"'
        with pytest.raises(InputError, match="none of 4 runs"):
            select_runs(SWEEP.runs, f"objective={quote}{code}{quote}")
        assert len(select_runs(SWEEP.runs, f"objective!={quote}{code}{quote}")) == 4
    with pytest.raises(InputError, match="unknown column"):
        select_runs(SWEEP.runs.assign(**{"a` or @f() or `b": 1}), "'a` or @f() or `b'=1")


def test_deep_nesting_is_rejected() -> None:
    with pytest.raises(InputError, match="nesting"):
        select_runs(SWEEP.runs, "(" * 10_000 + "seed=1" + ")" * 10_000)
    with pytest.raises(InputError, match="nesting"):
        select_runs(SWEEP.runs, "not " * 10_000 + "seed=1")
    assert select_seeds("(" * 50 + "seed=1" + ")" * 50) == [1]
    assert select_seeds(" or ".join(["seed=1"] * 100)) == [1]
