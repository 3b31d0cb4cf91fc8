"""Checks of the contract between a model and the objectives."""

import torch

from forethought.evaluation import diagnose
from forethought.evaluation.grad_flow import grad_flow
from forethought.objectives import NextToken, Teacherless
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.joint_multi_token import JointMultiToken
from forethought.objectives.multi_token import MultiToken
from forethought.objectives.myopic import detach_past
from forethought.objectives.plan_tokens import PlanTokens
from forethought.tasks import Draws, PathStar

TASK = PathStar(degree=2, path_length=4, num_nodes=8)
CONTEXT = TASK.prompt_length + TASK.answer_length + 4  # PlanTokens reads four more tokens
OBJECTIVES = {
    NextToken: {},
    Teacherless: {},
    MultiToken: {"horizon": 3},
    BeliefState: {},
    JointMultiToken: {"horizon": 3},
    PlanTokens: {},
}


def check_causal(model, length):
    """The gradient of each position's output reaches exactly the inputs up to that position."""
    tokens = torch.randint(model.embedding.num_embeddings, (1, length))
    x = model.embed(tokens).detach().requires_grad_()
    hidden = model(x)
    for i in range(length):
        (gradient,) = torch.autograd.grad(hidden[0, i].sin().sum(), x, retain_graph=True)
        assert [j for j in range(length) if gradient[0, j].abs().max() > 0] == list(range(i + 1))


@torch.no_grad()
def check_cache(model, tokens, prompt_length, **tolerance):
    """Reading in pieces, with a cache, gives the hidden states of one pass."""
    whole, length = model(tokens, prompt_length), tokens.shape[1]
    rest = length - prompt_length
    cuts = [[prompt_length] + [1] * rest, [prompt_length, 2, rest - 2], [prompt_length + 2, rest - 2]]
    if model.mask == "causal":  # A prefix must be read in one piece.
        cuts.append([1] * length)
    for pieces in cuts:
        cache = model.init_cache(len(tokens), length)
        parts = [model(part, prompt_length, cache) for part in tokens.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, **tolerance)


@torch.no_grad()
def check_embeddings_and_state_dict(model, other, tokens):
    """Embeddings can replace tokens; `other`, with other weights, loads the state dict of `model`."""
    hidden = model(tokens)
    torch.testing.assert_close(model(model.embed(tokens)), hidden)
    assert not torch.allclose(other(tokens), hidden)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(tokens), hidden)


def check_myopic(model, tokens, prompt_length):
    """Values are unchanged; gradients of a position's output reach that position only (Wu et al., §2)."""
    x = model.embed(tokens).detach().requires_grad_()
    plain, names = model(x, prompt_length), model.state_dict().keys()
    detach_past(model)
    assert model.state_dict().keys() == names
    hidden = model(x, prompt_length)
    torch.testing.assert_close(hidden, plain)
    for i in range(tokens.shape[1]):
        (gradient,) = torch.autograd.grad(hidden[0, i].sum(), x, retain_graph=True)
        assert [j for j in range(tokens.shape[1]) if gradient[0, j].abs().max() > 0] == [i]


def check_objective(build, objective_class):
    """Loss, gradients, teacher-forced logits, answers and the metrics of eight rows."""
    torch.manual_seed(0)
    objective = objective_class(build(), TASK, **OBJECTIVES.get(objective_class, {}))
    rows = TASK.sample(8, Draws(1))
    loss = objective.loss(rows)
    loss.backward()
    assert loss.isfinite()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
    assert any(p.grad.abs().sum() > 0 for p in objective.model.parameters() if p.requires_grad)
    with torch.no_grad():
        logits = objective.answer_logits(rows)
        answer = objective.generate(rows.prompt, TASK.answer_length)
        with objective.reads_once(rows.prompt, TASK.answer_length):
            for _ in range(2):
                torch.testing.assert_close(objective.answer_logits(rows), logits, rtol=1e-4, atol=1e-5)
                assert torch.equal(objective.generate(rows.prompt, TASK.answer_length), answer)
    assert logits.shape == (8, TASK.answer_length, len(TASK.vocabulary))
    assert answer.shape == rows.answer.shape
    assert answer.max() < len(TASK.vocabulary)
    assert "accuracy" in diagnose(objective, TASK, rows)
    if objective_class is NextToken:
        flow = grad_flow(objective, rows)
        assert flow.shape == (TASK.answer_length, TASK.prompt_length + TASK.answer_length - 1)
        assert flow[-1].min() > 0


def check_bfloat16(model, tokens):
    """Under autocast, hidden states are near those in fp32, also with a cache; gradients are finite."""
    with torch.no_grad():
        exact = model(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(tokens)
        cache = model.init_cache(len(tokens), tokens.shape[1])
        parts = torch.cat([model(part, 0, cache) for part in tokens.split(1, 1)], 1)
    torch.testing.assert_close(hidden.float(), exact, rtol=0.05, atol=0.1)
    torch.testing.assert_close(parts.float(), exact, rtol=0.05, atol=0.1)
    hidden.float().sin().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def check_meta(build):
    """The model can be built without memory for its weights."""
    with torch.device("meta"):
        assert all(parameter.is_meta for parameter in build().parameters())
