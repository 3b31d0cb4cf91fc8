"""A shuffled list of edges that join into one line: find an order that training did not show."""

from typing import ClassVar

from forethought.tasks.edge_list import EdgeList
from forethought.validation import validated_dataclass


@validated_dataclass
class LineConstruction(EdgeList):
    """Any N - 1 edges that join into one line of N = `nodes` of M = `labels` labels, in any order.

    With N = 4 and M = 6:

        3 → 1 → 4 → 0       text     qxbau=4,0|3,1|1,4
                            prompt   q x b a u =
                            answer   4 0 3 1 1 4            loss on all of these

    The walk takes the edges in the order 2, 3, 1, which is the resolving permutation: a line with other
    labels and the same order is the same object. All else is as of `CircleConstruction`. What differs from
    the source: its size is not known.

    Source: Nagarajan et al., "Roll the dice & look before you leap" (2504.15266), §2.

    Args: as of `EdgeList`.
    """

    closes: ClassVar = False
