"""The first hop alone: path-star's graphs, one answer token."""

import pytest
import torch
from helpers import gpt_with_large_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.errors import InputError
from forethought.objectives import NextToken
from forethought.objectives.decision_only import DecisionOnly
from forethought.tasks import Batch, Draws, FirstHop, PathStar


def both(degree=3, path_length=4, **options):
    """The task and the path-star task of the same size."""
    return tuple(kind(degree=degree, path_length=path_length, **options) for kind in (FirstHop, PathStar))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(2, 5),
    st.sampled_from(["shuffled", "by_arm", "arms_permuted"]),
    st.sampled_from(["last", "first"]),
)
def test_rows_are_those_of_path_star_cut_after_the_first_hop(degree, length, edge_order, query_position):
    hop, star = both(degree, length, num_nodes=25, edge_order=edge_order, query_position=query_position)
    batch, paths = hop.sample(20, Draws(1)), star.sample(20, Draws(1))
    assert torch.equal(batch.prompt, paths.prompt)
    assert torch.equal(batch.answer, paths.answer[:, 1:2])
    assert torch.equal(hop.fingerprint(batch), star.fingerprint(paths))
    assert (hop.check(batch.prompt, batch.answer) == 0).all()
    assert hop.decision_mask(batch).all()
    assert (hop.chance, hop.needs_plan) == (star.chance, True)


def test_every_possible_answer_has_its_outcome():
    hop, star = both(num_nodes=12)
    batch, paths = hop.sample(30, Draws(2)), star.sample(30, Draws(2))
    tails, heads, start, _ = star._graph(batch.prompt)
    for token in range(len(hop.vocabulary)):
        answer = torch.full_like(batch.answer, token)
        for row, outcome in enumerate(hop.check(batch.prompt, answer).tolist()):
            after_start = heads[row][tails[row] == start[row]].tolist()
            expected = "wrong_arm" if token in after_start else "other"
            expected = "right" if token == paths.answer[row, 1] else expected
            assert hop.outcomes[outcome] == expected


@pytest.mark.parametrize("degree", [2, 5])
def test_chance_is_the_accuracy_of_a_random_neighbour_of_the_start(degree):
    hop, _ = both(degree, 4)
    batch = hop.sample(20_000, Draws(3))
    tails, heads, start, _ = hop._graph(batch.prompt)
    noise = torch.rand(tails.shape, generator=torch.Generator().manual_seed(0))
    guess = heads.gather(1, noise.masked_fill(tails != start, -1).argmax(1, keepdim=True))
    accuracy = (hop.check(batch.prompt, guess) == 0).double().mean().item()
    assert accuracy == pytest.approx(hop.chance, abs=0.015)


def test_path_star_files_are_read(tmp_path):
    hop, star = both(num_nodes=15)
    batch, paths = hop.sample(5, Draws(4)), star.sample(5, Draws(4))
    lines = [star.text(prompt, path) for prompt, path in zip(paths.prompt, paths.answer, strict=True)]
    assert [hop.text(*row) for row in zip(batch.prompt, batch.answer, strict=True)] == lines
    path = tmp_path / "graphs.txt"
    path.write_text("\n".join(lines))
    for rows in (hop.read(str(path)), hop.pad(*zip(*map(hop.parse, lines), strict=True))):
        assert torch.equal(rows.prompt, batch.prompt)
        assert torch.equal(rows.answer, batch.answer)
    with pytest.raises(InputError, match="not the path from 1 to 3"):
        FirstHop(degree=2, path_length=2, num_nodes=10).parse("1,2|1,3/1,3=1,2")


def test_decision_only_predicts_the_same_token_one_position_later():
    """Its loss is that of the hop, asked with the start appended to the prompt."""
    hop, star = both()
    batch, paths = hop.sample(6, Draws(5)), star.sample(6, Draws(5))
    model = gpt_with_large_weights(star)
    asked = Batch(torch.cat([batch.prompt, paths.answer[:, :1]], 1), batch.answer)
    expected = NextToken(model, hop).loss(asked).item()
    assert DecisionOnly(model, star).loss(paths).item() == pytest.approx(expected)


def test_there_is_nothing_to_reverse():
    with pytest.raises(Exception, match="reverse"):
        FirstHop(reverse=True)
