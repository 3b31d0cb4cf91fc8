"""Counter-based draws: against a slow twin, the same on every device and in every batch, and uniform."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from forethought.tasks import (
    Addition,
    BalancedSearch,
    BinaryTree,
    Countdown,
    Draws,
    InWeightsPathStar,
    JunctionStar,
    Maze,
    MazeDrawing,
    Multiplication,
    PathStar,
    PermutationHops,
    PlanningDistance,
    PrepareAhead,
    ProsQA,
    Sudoku,
    ThreeSat,
    TransitivePath,
    TreeStar,
    derive_seed,
)
from forethought.tasks.draw import splitmix64

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def signed(number):
    return number - 2**64 if number >= 2**63 else number


def slow_splitmix64(state):
    """Transcript of the finaliser in splitmix64.c."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


class SlowDraws:
    """The numbers of one row, one after the other."""

    def __init__(self, row, seed, *stream):
        self.counter = row * 2**32
        self.key = derive_seed(seed, *stream)

    def word(self):
        self.counter += 1
        return slow_splitmix64((self.key + self.counter * GOLDEN) & MASK)

    def integer(self, high):
        return self.word() % 2**32 * high // 2**32

    def permutation(self, size):
        words = [signed(self.word()) for _ in range(size)]
        return sorted(range(size), key=words.__getitem__)


def test_published_outputs_of_splitmix64():
    states = torch.arange(1, 6) * signed(GOLDEN) + 1234567
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        signed(9817491932198370423),
        4593380528125082431,
        signed(16408922859458223821),
    ]


def test_splitmix64_against_a_slow_twin():
    numbers = [0, 1, -1, 2**63 - 1, -(2**63), 123456789, -987654321]
    before = torch.tensor(numbers)
    after = splitmix64(before)
    assert after.tolist() == [signed(slow_splitmix64(number & MASK)) for number in numbers]
    assert before.tolist() == numbers


def test_every_kind_of_draw_against_a_slow_twin():
    draws = Draws(3, "train", 7)
    drawn = [
        draws.integers(10, 5, 2, 3),
        draws.permutation(5, 6, 4),
        draws.uniform(5, 2),
        draws.permutation(5, 4),
        draws.integers(1000, 5),
    ]
    for row in range(5):
        twin = SlowDraws(row, 3, "train", 7)
        expected = [
            [[twin.integer(10) for _ in range(3)] for _ in range(2)],
            twin.permutation(6)[:4],
            [twin.integer(2**24) / 2**24 for _ in range(2)],
            twin.permutation(4),
            twin.integer(1000),
        ]
        assert [numbers[row].tolist() for numbers in drawn] == expected


TASKS = [
    PathStar(degree=3, path_length=4, num_nodes=20),
    PathStar(edge_order="by_arm"),
    PathStar(edge_order="arms_permuted"),
    PathStar(degree=3, path_length=4, min_degree=2, min_path_length=2, flip_edges=True),
    Addition(),
    Addition(balanced=True, scratchpad="optional", pauses=2),
    BalancedSearch(),
    BalancedSearch(max_lookahead=2, num_nodes=7),
    Countdown(),
    Countdown(inputs=5, largest=10_000, tokens="digits", pauses=2),
    JunctionStar(),
    JunctionStar(difficulty="hard", reverse=True),
    Maze(),
    MazeDrawing(),
    PlanningDistance(),
    PlanningDistance(tokens="characters"),
    ThreeSat(variables=9, clauses=38),
    TransitivePath(),
    TransitivePath(graph="blocksworld", num_nodes=73),
    TreeStar(),
    BinaryTree(node_ids="by_role"),
    InWeightsPathStar(),
    PrepareAhead(),
    ProsQA(steps="path", pauses=2),
    ProsQA(distractor="twin"),
    Multiplication(scratchpad="partial_products", pauses=2),
    PermutationHops(),
    Sudoku(),
]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_row_does_not_depend_on_the_number_of_rows(task):
    few, many = (task.sample(count, Draws(1, "train", 0)) for count in (3, 5000))
    assert torch.equal(few.prompt, many.prompt[:3])
    assert torch.equal(few.answer, many.answer[:3])


class OnlyIntegers(TorchDispatchMode):
    """Rejects every operation whose result may depend on the device: floats and torch's own noise."""

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        result = operation(*arguments, **(keywords or {}))
        results = result if isinstance(result, (tuple, list)) else [result]
        for tensor in results:
            assert not tensor.dtype.is_floating_point, operation
        assert torch.Tag.nondeterministic_seeded not in operation.tags, operation
        return result


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_sampling_computes_with_integers_alone(task):
    with OnlyIntegers():
        task.sample(4, Draws(0))
    with pytest.raises(AssertionError, match="rand"), OnlyIntegers():
        torch.randint(3, (2,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_rows_on_a_gpu_are_those_on_a_cpu():
    for task in (PathStar(degree=7, path_length=7, num_nodes=100), *TASKS):
        here, there = (task.sample(4096, Draws(5, device=device)) for device in ("cpu", "cuda"))
        assert torch.equal(here.prompt, there.prompt.cpu())
    here, there = (Draws(5, device=device).uniform(1000, 3) for device in ("cpu", "cuda"))
    assert torch.equal(here, there.cpu())


def test_limits_and_shares_of_a_row_of_its_own():
    limits = torch.tensor([[1], [2], [5], [1000]]).repeat(5000, 1)
    numbers = Draws(8).below(limits, 20_000, 3)
    assert ((numbers >= 0) & (numbers < limits)).all()
    for limit in (2, 5):
        counts = numbers[limits[:, 0] == limit].flatten().bincount(minlength=limit)
        assert ((counts - 15_000 / limit).abs() < 5 * (15_000 / limit) ** 0.5).all()
    for share in (0.0, 0.3, 1.0):
        found = Draws(8).chosen(share, 20_000, 2).double().mean().item()
        assert abs(found - share) <= 4 * (share * (1 - share) / 40_000) ** 0.5


def test_uniform_numbers_are_exact_in_fp32():
    numbers = Draws(0).uniform(20_000, 2)
    assert numbers.dtype == torch.float32
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert torch.equal(numbers.double() * 2**24, (numbers.double() * 2**24).round())
    assert abs(numbers.mean().item() - 0.5) < 4 / (12 * 40_000) ** 0.5


def chi_square(cells, count):
    """Pearson's statistic of `cells` (integers below `count`) against the uniform law, as a z-score."""
    expected = len(cells) / count
    statistic = ((cells.bincount(minlength=count) - expected) ** 2 / expected).sum().item()
    return (statistic - (count - 1)) / (2 * (count - 1)) ** 0.5


ROWS = 40_000


@pytest.mark.parametrize(("size", "kept"), [(7, 7), (12, 5), (50, 9)])
def test_permutations_are_uniform(size, kept):
    """Every position, and every pair of positions, which also shows that pairs are independent."""
    orders = Draws(0, "uniform").permutation(ROWS, size, kept)
    assert all(len(set(order)) == kept for order in orders[:200].tolist())
    for position in range(kept):
        assert abs(chi_square(orders[:, position], size)) < 5
    for first, second in itertools.combinations(range(kept), 2):
        # The second is one of the size - 1 that the first leaves over.
        rank = orders[:, second] - (orders[:, second] > orders[:, first]).long()
        assert abs(chi_square(orders[:, first] * (size - 1) + rank, size * (size - 1))) < 5


def test_all_orders_of_four_are_equally_frequent():
    orders = Draws(1).permutation(ROWS, 4)
    code = (orders * torch.tensor([64, 16, 4, 1])).sum(1)
    values, places = code.unique(return_inverse=True)
    assert len(values) == 24
    assert abs(chi_square(places, 24)) < 5


@pytest.mark.parametrize("lag", [1, 2, 64])
@pytest.mark.parametrize("high", [10, 16])
def test_numbers_of_neighbouring_rows_columns_steps_and_seeds_are_independent(high, lag):
    def numbers(seed=0, step=0):
        return Draws(seed, "train", step).integers(high, ROWS, 3)

    here = numbers()
    neighbours = [
        (here[:-lag, 0], here[lag:, 0]),
        (here[:, 0], here[:, 1]),
        (here[:-lag, 0], here[lag:, 2]),
        (here[:, 0], numbers(step=lag)[:, 0]),
        (here[:, 0], numbers(seed=lag)[:, 0]),
    ]
    for one, other in neighbours:
        assert abs(chi_square(one * high + other, high * high)) < 5


def test_calls_of_one_source_and_permutations_after_them_are_independent():
    draws = Draws(2)
    first, second = draws.permutation(ROWS, 6), draws.permutation(ROWS, 6)
    assert abs(chi_square(first[:, 0] * 6 + second[:, 0], 36)) < 5


def test_streams_do_not_collide():
    seeds = {derive_seed(seed, name, step) for seed in range(10) for name in "ab" for step in range(100)}
    assert len(seeds) == 2000
