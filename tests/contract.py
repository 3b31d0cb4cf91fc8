"""What every model owes the objectives, whatever it is made of."""

import torch

from forethought.evaluation.grad_flow import grad_flow
from forethought.objectives import NextToken, Teacherless
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.joint_multi_token import JointMultiToken
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.plan_tokens import PlanTokens
from forethought.tasks import Draws, PathStar

TASK = PathStar(degree=2, path_length=4, num_nodes=8)
CONTEXT = TASK.prompt_length + TASK.answer_length + 4  # PlanTokens reads four tokens more
OBJECTIVES = {
    NextToken: {},
    Teacherless: {},
    MultiToken: {"horizon": 3},
    BeliefState: {},
    JointMultiToken: {"horizon": 3},
    PlanTokens: {},
}


def sees_the_past_alone(model, length):
    """Gradients of each position's output reach the inputs up to its own."""
    tokens = torch.randint(model.embedding.num_embeddings, (1, length))
    x = model.embed(tokens).detach().requires_grad_()
    hidden = model(x)
    for i in range(length):
        (gradient,) = torch.autograd.grad(hidden[0, i].sin().sum(), x, retain_graph=True)
        assert [j for j in range(length) if gradient[0, j].abs().max() > 0] == list(range(i + 1))


@torch.no_grad()
def decodes_as_in_one_pass(model, tokens, prompt_length, **tolerance):
    whole, length = model(tokens, prompt_length), tokens.shape[1]
    for pieces in (
        [prompt_length] + [1] * (length - prompt_length),
        [1] * length,
        [prompt_length, 2, length - prompt_length - 2],
    ):
        cache = model.init_cache(len(tokens), length)
        parts = [model(part, prompt_length, cache) for part in tokens.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, **tolerance)


@torch.no_grad()
def takes_embeddings_and_restores(model, other, tokens):
    """`other` is the same model with other weights."""
    hidden = model(tokens)
    torch.testing.assert_close(model(model.embed(tokens)), hidden)
    assert not torch.allclose(other(tokens), hidden)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(tokens), hidden)


def serves_objective(build, objective_class):
    """A loss with gradients, teacher-forced logits and an answer of the right form."""
    torch.manual_seed(0)
    objective = objective_class(build(), TASK, **OBJECTIVES.get(objective_class, {}))
    rows = TASK.sample(4, Draws(1))
    loss = objective.loss(rows)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())
    assert any(p.grad.abs().sum() > 0 for p in objective.model.parameters() if p.grad is not None)
    assert objective.answer_logits(rows).shape == (4, TASK.answer_length, len(TASK.vocabulary))
    with torch.no_grad():
        answer = objective.generate(rows.prompt, TASK.answer_length)
    assert answer.shape == rows.answer.shape
    assert answer.max() < len(TASK.vocabulary)
    if objective_class is NextToken:
        flow = grad_flow(objective, rows)
        assert flow.shape == (TASK.answer_length, TASK.prompt_length + TASK.answer_length - 1)
        assert flow[-1, 0] > 0


def trains_in_bfloat16(model, tokens):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(tokens)
        cache = model.init_cache(len(tokens), tokens.shape[1])
        for part in tokens.split(1, 1):
            model(part, 0, cache)
    hidden.float().sin().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def builds_on_meta(build):
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in build().parameters())
