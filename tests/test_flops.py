"""Count of floating-point operations, against sums written out by hand."""

import pytest
import torch
from helpers import STAR, chosen, gpt, rows

from forethought.models import LSTM, Mamba
from forethought.objectives import MultiToken, NextToken, PolicyGradient
from forethought.training import count_flops

ROWS = 6  # more than are counted
TOKENS = ROWS * (STAR.prompt_length + STAR.answer_length - 1)


def linear(rows, layer):
    """Of a product with the layer's weights, and of its gradients with respect to input and weights."""
    return 3 * 2 * rows * layer.weight.numel()


def test_next_token_prediction_of_a_gpt():
    """Query, MLP and output of the last layer read the answer's positions alone."""
    model = gpt(layers=1, width=16, heads=2)
    block, answers = model.blocks[0], ROWS * STAR.answer_length
    length = TOKENS // ROWS
    projections = linear(TOKENS, block.attention.input) * 2 // 3 + linear(answers, block.attention.input) // 3
    attention = 2 * 2 * answers * length * 16
    others = [block.attention.output, block.mlp.input, block.mlp.output, model.embedding]
    expected = projections + attention + sum(linear(answers, layer) for layer in others)
    counted = count_flops(NextToken(model, STAR), rows(count=ROWS))
    assert counted == pytest.approx(expected + 2.5 * attention)  # backward, the kernel computes five products


@pytest.mark.parametrize(("kind", "share"), [(LSTM, 0.02), (Mamba, 0.35)])
def test_six_operations_for_each_parameter_and_token(kind, share):
    """Of any model without attention. Mamba's scan comes on top; its embedding is no product."""
    model = kind.for_task(STAR, width=64, layers=2)
    parameters = sum(p.numel() for p in model.parameters()) - model.embedding.weight.numel()
    expected = 6 * parameters * TOKENS + linear(ROWS * STAR.answer_length, model.embedding)
    assert count_flops(NextToken(model, STAR), rows(count=ROWS)) == pytest.approx(expected, rel=share)


def test_what_an_objective_adds_is_counted():
    model, batch = gpt(), rows(count=ROWS)
    one, two, three = (count_flops(MultiToken(model, STAR, horizon=k), batch) for k in (1, 2, 3))
    assert three - two == pytest.approx(two - one, rel=0.2)  # a block and an output for each head
    assert two - one > 0.2 * one
    target, options = chosen("objective", "policy_gradient")
    assert target is PolicyGradient
    assert count_flops(target(model, STAR, **options), batch) > 8 * one  # samples


def test_counting_changes_nothing():
    objective = NextToken(gpt(), STAR)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    torch.manual_seed(1)
    noise = torch.rand(3)
    torch.manual_seed(1)
    count_flops(objective, rows())
    assert torch.equal(torch.rand(3), noise)
    assert all(p.grad is None for p in objective.parameters())
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


def test_a_loss_that_asks_for_its_trainer_is_not_counted(caplog):
    class Asking(NextToken):
        def loss(self, batch):
            return super().loss(batch) / self.trainer.max_steps

    assert count_flops(Asking(gpt(), STAR), rows()) is None
    assert "training_flops unknown" in caplog.text


@pytest.mark.parametrize("model", [gpt(), LSTM.for_task(STAR, width=16)])
def test_shapes_alone_give_the_same_number(model):
    objective = NextToken(model, STAR)
    assert count_flops(objective, rows(count=ROWS), fake=True) == count_flops(objective, rows(count=ROWS))


def test_a_loss_that_looks_at_values_is_counted_with_values():
    class Looking(NextToken):
        def loss(self, batch):
            loss = super().loss(batch)
            return loss * (loss.item() > 0)

    objective = Looking(gpt(), STAR)
    assert count_flops(objective, rows(), fake=True) == count_flops(NextToken(gpt(), STAR), rows())
