"""The split of the gradient at the decision, against passes in which one state is a constant."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import STAR, gpt, random_gpt, rows, untied, with_random_weights

from forethought.evaluation import gradient_split
from forethought.models import LSTM, LoopedGPT
from forethought.objectives import MultiToken, NextToken, Teacherless
from forethought.objectives.belief_state import BeliefState
from forethought.objectives.myopic import Myopic
from forethought.tasks import Addition, FirstHop, PathStar

# Decisions, first tokens and ends of rows stand in different places.
NOTES = PathStar(
    degree=3, path_length=4, min_degree=2, min_path_length=3, num_nodes=12, scratchpad="breadth_first"
)


def slow_gradients(objective, row, names, stopped=None):
    """Return the gradient of each token's loss by all weights of these names, as vectors (A, N).

    With `stopped`, the output of this module at this position is a constant.
    """

    def stop(module, inputs, output):
        place = stopped[1] - (row.prompt.shape[1] + row.answer.shape[1] - 1)  # from the end
        constant = output.clone()
        constant[0, place] = output[0, place].detach()
        return constant

    handle = stopped[0].register_forward_hook(stop) if stopped else None
    logits = objective.answer_logits(row)[0]
    if handle:
        handle.remove()
    weights = [weight for name, weight in objective.model.named_parameters() if names(name)]
    gradients = []
    for scores, token in zip(logits, row.answer[0], strict=True):
        loss = F.cross_entropy(scores, token) * (token != objective.task.dummy)
        parts = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(gradients)


def slow_split(objective, batch):
    model, deciding = objective.model, objective.task.decision_mask(batch)
    modules, table = [model.embedding, *model.blocks], []
    for k, module in enumerate(modules):
        below = ("embedding.", "position.", *(f"blocks.{i}." for i in range(k)))[: None if k else 1]
        parts = [0, 0, 0]
        for r in range(len(batch)):
            if not deciding[r].any():
                continue
            i, row = deciding[r].int().argmax().item(), batch[r : r + 1]
            position = row.prompt.shape[1] + i - 1
            plain = slow_gradients(objective, row, lambda name: True)
            through = plain - slow_gradients(objective, row, lambda name: True, (module, position))
            assert (through[:i] == 0).all()
            rest = slow_gradients(objective, row, lambda n, b=below: n.startswith(b), (module, position))
            parts = [parts[0] + through[i], parts[1] + through[i + 1 :].sum(0), parts[2] + rest.sum(0)]
        count = deciding.any(1).sum()
        cosine = F.cosine_similarity(parts[0], parts[1], dim=0)
        table.append(torch.stack([*(part.norm() / count for part in parts), cosine]))
    return torch.stack(table)


@pytest.mark.parametrize(
    ("task", "mask", "tied"),
    [
        (STAR, "causal", False),
        (STAR, "prefix", True),
        (NOTES, "causal", False),
        (Addition(digits=2), "causal", False),
    ],
)
def test_the_split_against_constants(task, mask, tied):
    model, batch = random_gpt(task, mask=mask), rows(task, 12)
    objective = NextToken(model if tied else untied(model), task)
    deciding = task.decision_mask(batch).any(1)
    assert deciding.any()
    assert deciding.all() != isinstance(task, Addition)
    split, expected = gradient_split(objective, batch), slow_split(objective, batch)
    assert split.shape == (3, 4)
    assert (split[:2, :3] > 1e-6).all()
    assert split[2, 1] == split[2, 3] == 0  # no later token reads the last layer there
    if tied:  # the slow gradient holds the use of the embedding as output layer, too
        split, expected = split[:, [0, 1, 3]], expected[:, [0, 1, 3]]
    torch.testing.assert_close(split, expected, atol=1e-9, rtol=1e-6)


def test_nothing_is_pre_cached_without_a_reader():
    model = random_gpt()
    split = {kind: gradient_split(kind(copy.deepcopy(model), STAR), rows()) for kind in (Myopic, NextToken)}
    assert (split[Myopic][:, 1] == 0).all()
    assert (split[Myopic][:, [0, 2]] > 0).all()
    assert (split[NextToken][:2, 1] > 0).all()
    task = FirstHop(degree=2, path_length=4, num_nodes=8)
    assert (gradient_split(NextToken(gpt(task), task), rows(task))[:, 1] == 0).all()


def test_states_are_counted_by_the_layers_that_a_token_passes():
    looped = LoopedGPT.for_task(STAR, layers=2, loops=2, width=16, heads=2, conv="blocks")
    assert gradient_split(NextToken(with_random_weights(looped), STAR), rows()).shape == (5, 4)
    lstm = LSTM.for_task(STAR, layers=2, width=16)
    assert (gradient_split(NextToken(lstm, STAR), rows())[:2, :3] > 0).all()
    with torch.no_grad():  # works there too, and leaves nothing behind
        objective = MultiToken(random_gpt(), STAR)
        split = gradient_split(objective, rows())
    assert not split.requires_grad
    assert all(parameter.grad is None for parameter in objective.parameters())
    assert not any(module._forward_hooks for module in objective.modules())
    assert torch.equal(gradient_split(objective, rows()), split)


def test_there_is_no_split_without_a_decision_or_the_layout():
    assert gradient_split(Teacherless(gpt(extra=1), STAR), rows()) is None
    assert gradient_split(BeliefState(gpt(), STAR), rows()) is None
    task = Addition(digits=2)
    batch = rows(task, 50)
    undecided = batch[~task.decision_mask(batch).any(1)]
    assert gradient_split(NextToken(gpt(task), task), undecided) is None
