"""The rejected combinations of model and objective: exactly those of the table in docs/REFERENCE.md."""

import re
from pathlib import Path

import pytest
from helpers import STAR, choices, chosen

from forethought.errors import Impossible

REFERENCE = (Path(__file__).parents[1] / "docs" / "REFERENCE.md").read_text()
TABLE = {
    name: (set(re.findall(r"`(\w+)`", models)), reason)
    for name, models, reason in re.findall(
        r"^\| `(\w+)` \| ((?:`\w+` ?)+) \| (has no .*) \|$", REFERENCE, re.M
    )
}
MASKED = {"gpt", "looped_gpt"}
FULL, CAUSAL = {"insertion", "teacherless", "masked_diffusion"}, {"full_sequence"}


@pytest.fixture
def refusal(request):
    """A function that returns the reason why objective and model do not fit, None if they do."""

    def reason(model, objective, **model_options):
        if model == "pretrained":
            model_options["name"] = request.getfixturevalue("gpt2_checkpoint")
        model_type, defaults = chosen("model", model)
        objective_type, options = chosen("objective", objective)
        extra = objective_type.extra_positions(STAR, **options)
        try:
            net = model_type.for_task(STAR, extra, **{**defaults, **model_options})
            objective_type(net, STAR, **options)
        except Impossible as error:
            return str(error)
        return None

    return reason


def test_the_table_names_choices():
    assert len(TABLE) == 5
    assert TABLE.keys() <= set(choices("objective"))
    for models, _ in TABLE.values():
        assert models <= set(choices("model"))


@pytest.mark.parametrize("model", choices("model"))
def test_what_is_refused_and_why(model, refusal):
    for objective in choices("objective"):
        message = refusal(model, objective)
        models, reason = TABLE.get(objective, (set(), ""))
        if model in models:
            assert message is not None, (model, objective)
            assert f" {reason}; use " in message
        else:
            assert message is None, (model, objective)


@pytest.mark.parametrize("mask", ["prefix", "full"])
@pytest.mark.parametrize("model", choices("model"))
def test_masks(model, mask, refusal):
    for objective in choices("objective"):
        message = refusal(model, objective, mask=mask)
        allowed = model in MASKED and (objective in FULL if mask == "full" else objective not in CAUSAL)
        assert (message is None) == allowed, (model, objective, message)
        if not allowed:
            assert f"model.mask={mask}" in message
