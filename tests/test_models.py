"""The base class of the models, and `for_task` of every model in conf/."""

import inspect
import pkgutil

import contract
import pytest
import torch
from helpers import CONF, STAR, choices
from omegaconf import OmegaConf
from torch import nn

from forethought.errors import Impossible
from forethought.models import Model
from forethought.objectives.any_order import AnyOrder
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.lookahead_insertion import LookaheadInsertion
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.next_token import NextToken


class Smallest(Model):
    """No more than the base class requires: each hidden state is the mean of the embeddings so far."""

    def __init__(self, vocabulary_size, context_length, width=8, mask="causal", token_names=()):
        super().__init__(width, mask)
        self.context_length, self.token_names = context_length, token_names
        self.embedding = nn.Embedding(vocabulary_size, width)

    def forward(self, x, prompt_length=0, cache=None):
        x = x if x.is_floating_point() else self.embed(x)
        total, count = cache["past"] if cache else (0, 0)
        counts = torch.arange(1, x.shape[1] + 1)[:, None] + count
        sums = x.cumsum(1) + total
        if cache is not None:
            cache["past"] = sums[:, -1:], count + x.shape[1]
        return sums / counts

    def init_cache(self, batch_size, length):
        return {"past": (0, 0)}


def test_for_task():
    model = Smallest.for_task(STAR, extra_positions=3, width=4)
    assert model.embedding.weight.shape == (len(STAR.vocabulary), 4)
    assert model.context_length == STAR.prompt_length + STAR.answer_length + 3
    assert model.token_names == STAR.vocabulary


@pytest.mark.parametrize("objective", [NextToken, LookaheadInsertion, BeliefState])
def test_the_smallest_model_serves_objectives_without_further_blocks(objective):
    contract.check_cache(Smallest(7, 9).double(), torch.randint(7, (3, 9)), 5)
    contract.check_objective(lambda: Smallest.for_task(contract.TASK, 4), objective)


def test_missing_abilities_are_named():
    model = Smallest.for_task(STAR)
    with pytest.raises(Impossible, match=r"^model: Smallest .*new_block"):
        MultiToken(model, STAR, horizon=2)
    with pytest.raises(Impossible, match=r"^model: Smallest "):
        AnyOrder(model, STAR)
    with pytest.raises(Impossible, match=r"^model\.mask=full: .*Smallest.*causal"):
        Smallest.for_task(STAR, mask="full")


@pytest.mark.parametrize("name", choices("model"))
def test_for_task_of_every_model(name, request):
    kind = pkgutil.resolve_name(OmegaConf.load(CONF / "model" / f"{name}.yaml")["_target_"])
    assert issubclass(kind, Model)
    options = {"name": request.getfixturevalue("gpt2_checkpoint")} if name == "pretrained" else {}
    with torch.device("meta"):
        model = kind.for_task(STAR, **options)
    assert model.embedding.weight.shape == (len(STAR.vocabulary), model.width)
    assert model.mask in kind.masks
    assert {"x", "prompt_length", "cache"} <= inspect.signature(kind.forward).parameters.keys()
