"""README's table of refused cells is what the code refuses, and nothing else."""

import re
from pathlib import Path

import pytest
from helpers import choices

from forethought.config import Composer
from forethought.errors import Impossible
from forethought.training import check

README = (Path(__file__).parents[1] / "README.md").read_text()
TABLE = {
    name: (set(re.findall(r"`(\w+)`", models)), reason)
    for name, models, reason in re.findall(r"^\| `(\w+)` \| ((?:`\w+` ?)+) \| (has no .*) \|$", README, re.M)
}
MASKED = {"gpt", "looped_gpt"}
FULL = {"teacherless", "masked_diffusion"}


def refusal(*words):
    """Why these words make no cell; None if they make one."""
    (cell,) = Composer(list(words)).cells()
    try:
        check(cell.config)
    except Impossible as error:
        return str(error)
    return None


def test_the_table_names_choices():
    assert len(TABLE) == 3
    assert TABLE.keys() <= set(choices("objective"))
    for models, _ in TABLE.values():
        assert models <= set(choices("model"))


@pytest.mark.parametrize("model", choices("model"))
def test_what_is_refused_and_why(model, needed):
    for objective in choices("objective"):
        found = refusal(f"model={model}", f"objective={objective}", *needed(model))
        models, reason = TABLE.get(objective, (set(), ""))
        if model in models:
            assert found is not None, (model, objective)
            assert f" {reason}; expected" in found
        else:
            assert found is None, (model, objective)


@pytest.mark.parametrize("mask", ["prefix", "full"])
@pytest.mark.parametrize("model", choices("model"))
def test_masks(model, mask, needed):
    for objective in choices("objective"):
        found = refusal(f"model={model}", f"objective={objective}", f"model.mask={mask}", *needed(model))
        allowed = model in MASKED and (mask == "prefix" or objective in FULL)
        assert (found is None) == allowed, (model, objective, found)
        if not allowed:
            assert f"model.mask={mask}" in found
