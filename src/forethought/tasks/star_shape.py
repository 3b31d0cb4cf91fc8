"""Is a graph that was read a star of equally long arms, and a path one of them? Later code relies on it."""

import torch
from jaxtyping import Int
from torch import Tensor

from forethought.errors import InputError


def verify_star(edges: list[tuple[int, int]], start: int, path: list[int]) -> None:
    """Raise InputError if the edges are not arms as long as the path, or the path is none of them."""
    degree, length = len(edges) // (len(path) - 1), len(path)
    parents = {head: tail for tail, head in edges}
    leaves = parents.keys() - {tail for tail, _ in edges}
    tails = [tail for tail, _ in edges if tail != start]

    def path_to(node: int) -> list[int]:
        found = [node]
        while found[-1] in parents and len(found) < length:
            found.append(parents[found[-1]])
        return found[::-1]

    one_in, one_out = len(parents) == len(edges), len(set(tails)) == len(tails)
    arms = [path_to(leaf) for leaf in leaves]
    whole = len(arms) == degree and all(len(arm) == length and arm[0] == start for arm in arms)
    if not (one_in and one_out and whole and start not in parents):
        raise InputError(f"the edges are not a star around {start}; expected {degree} arms of {length} nodes")
    if path not in arms:
        wrong = ",".join(map(str, path))
        raise InputError(f"{wrong} is not the path from {start} to {path[-1]}; correct the answer")


def are_stars(
    pairs: Int[Tensor, "B E 2"], start: Int[Tensor, "B 1"], path: Int[Tensor, "B L"], num_nodes: int
) -> bool:
    """Return True if `verify_star` accepts every row."""
    tails, heads = pairs.unbind(2)
    empty, one = start.new_zeros(len(start), num_nodes), torch.ones_like(tails)
    leaving, entering = empty.scatter_add(1, tails, one), empty.scatter_add(1, heads, one)
    degree = pairs.shape[1] // (path.shape[1] - 1)
    arms_leave = leaving.gather(1, start) == degree
    leaving = leaving.scatter(1, start, 1)
    if not arms_leave.all() or entering.gather(1, start).any() or (leaving > 1).any() or (entering > 1).any():
        return False
    first = (tails != start).int().argsort(dim=1, stable=True)[:, :degree]
    arms = [heads.gather(1, first)]
    successor = empty.scatter(1, tails, heads)
    while len(arms) < path.shape[1] - 1:
        arms.append(successor.gather(1, arms[-1]))
    # d arms of l - 1 nodes hold all edges, as no node is entered twice.
    if not leaving.gather(1, torch.cat([start, *arms[:-1]], 1)).all() or leaving.gather(1, arms[-1]).any():
        return False
    along = (path[:, 1:, None] == torch.stack(arms, 1)).all(1).any(1)
    return bool((along & (path[:, 0] == start[:, 0])).all())


def point_outwards(edges: list[tuple[int, int]], start: int) -> list[tuple[int, int]]:
    """Return undirected edges as pairs that point away from the start; the unreached as they are."""
    outwards, rest, reached = list[tuple[int, int]](), list(edges), [start]
    for node in reached:  # which grows
        for edge in [edge for edge in rest if node in edge]:
            rest.remove(edge)
            other = edge[0] + edge[1] - node
            outwards.append((node, other))
            reached.append(other)
    return outwards + rest
