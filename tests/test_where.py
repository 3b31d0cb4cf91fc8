"""`--where`: a filter over the columns of cells.csv."""

import pytest
from reports import failed, run

from forethought.errors import InputError
from forethought.report.groups import group
from forethought.report.where import select

RUNS = [
    run("shortcut", 0, config={"optimizer": {"lr": 1e-3}}),
    run("solved", 1, config={"task.degree": 3, "task.reverse": True}),
    run("solved", 2, "teacherless", {"task.degree": 5}, steps=900),
    failed(9, reason="it said: (oh, no)"),
]
SWEEP = group(RUNS)


def seeds(where: str) -> list[int]:
    return sorted(each.seed for each in select(SWEEP, where))


@pytest.mark.parametrize(
    ("where", "found"),
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
        # What is not there equals only null.
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
def test_runs_are_selected(where: str, found: list[int]) -> None:
    assert seeds(where) == found


def test_a_group_can_be_named_as_in_the_table() -> None:
    label = next(each.label for each in SWEEP.groups if each.runs[0].seed == 1)
    assert seeds(f"group='{label}'") == [1]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "ends too early; expected COLUMN = VALUE"),
        ("degree>", "ends too early"),
        ("degree=2 and", "ends too early"),
        ("(degree=2", "ends too early"),
        ("degree=2)", r"cannot be read from '\)' on"),
        ("degree >> 2", "cannot be read from '> 2' on"),
        ("degree", "ends too early"),
        ("degree 2", "cannot be read from '2' on"),
        ("degree=2 seed=1", "cannot be read from 'seed=1' on"),
        ("degree in 2", "cannot be read from '2' on"),
        ("degree in ()", r"cannot be read from '\)' on"),
        ("and=2", "cannot be read from 'and=2' on"),
        ('model="gpt', "cannot be read from '\"gpt' on"),
        ("__import__('os')=1", r"__import__: no column; expected one of .*task\.degree"),
        ("degre>2", r"degre: no column; expected one of task\.degree, .*test/token_accuracy_<i>"),
        ("threads=1 and _target_=x", r"_target_ may be task\._target_ or model\._target_ or"),
        ("degree>many", r"task\.degree>many: expected numbers on both sides; task\.degree is 2, 3, 5"),
        ("objective<3", "objective is next_token, teacherless"),
        ("objective=next_tokn", "holds for none of 4 runs; objective is next_token, teacherless"),
    ],
)
def test_a_wrong_filter_is_one_line(where: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        select(SWEEP, where)
    assert str(error.value).startswith("--where")
    assert "\n" not in str(error.value)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InputError, match="too deeply"):
        select(SWEEP, "(" * 10_000 + "seed=1" + ")" * 10_000)
    assert seeds("(" * 50 + "seed=1" + ")" * 50) == [1]
