"""A shuffled list of edges that join into one circle: find an order that training did not show."""

from typing import ClassVar

from forethought.tasks.edge_list import EdgeList
from forethought.validation import validated_dataclass


@validated_dataclass
class CircleConstruction(EdgeList):
    """Any N edges that join into one circle of N = `nodes` of M = `labels` labels, in any order.

    With N = 4 and M = 6:

            1 → 4           text     qxbau=4,0|1,4|3,1|0,3
            ↑   ↓           prompt   q x b a u =
            3 ← 0           answer   4 0 1 4 3 1 0 3          loss on all of these

    The walk from the first edge 4 → 0 takes the edges in the order 1, 4, 3, 2, which is the resolving
    permutation. A circle with other labels and the same order is the same object. Training rows have one
    drawn at random, so that no single token decides: each is free as long as the rest can be completed. A
    policy that only uses each label once as a tail and once as a head often closes several circles: its
    chance is (N - 1)! / D_N, .30 by default, with D_N the permutations without a fixed point.

    Source: Nagarajan et al., "Roll the dice & look before you leap" (2504.15266), §2; sizes of
    github.com/bansal-vansh/ntp-seed-conditioning. With N = 6, 3,000 rows show all 120 permutations.

    Args: as of `EdgeList`.
    """

    closes: ClassVar = True
