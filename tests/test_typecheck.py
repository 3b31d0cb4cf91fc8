"""The checker of shapes itself: it checks in every test, and only the first calls of a function."""

import pytest
import torch
from jaxtyping import TypeCheckError
from typecheck import CALLS

from forethought.objectives.base import mean_where

VALUES, RIGHT, WRONG = (
    torch.zeros(3, 2),
    torch.ones(3, 2, dtype=torch.bool),
    torch.ones(1, 2, dtype=torch.bool),
)


@pytest.mark.parametrize("test", ["one", "another"])
def test_the_first_calls_are_checked_in_every_test(test):
    with pytest.raises(TypeCheckError):
        mean_where(VALUES, WRONG)
    for _ in range(CALLS):
        assert mean_where(VALUES, RIGHT) == 0
    assert mean_where(VALUES, WRONG) == 0  # the shapes broadcast, which the annotation forbids
