"""Layout of a graph in layers by depth."""

from collections import defaultdict
from collections.abc import Sequence

Point = tuple[float, float]


def layout_graph(edges: Sequence[Sequence[str]], start: str) -> dict[str, Point]:
    """Return a point for each node: x is the depth below the start, y a row.

    Each leaf has a row; the row of a parent is midway between its first and its last child. Edges count in
    both directions, so that every node of a connected graph has a depth. Other components follow below.
    """
    neighbours: dict[str, list[str]] = defaultdict(list)
    for tail, head in edges:
        neighbours[tail].append(head)
        neighbours[head].append(tail)
    points: dict[str, Point] = {}
    row = 0.0
    for root in [start, *neighbours]:
        if root not in points:
            tree, depth = _build_tree(neighbours, root, points)
            rows: dict[str, float] = {}
            # Assign rows to leaves in preorder first: a parent needs the rows of its children.
            for node in _walk_preorder(tree, root):
                if not tree[node]:
                    rows[node] = row
                    row += 1
            for node in reversed(_walk_preorder(tree, root)):
                if tree[node]:
                    child_rows = [rows[child] for child in tree[node]]
                    rows[node] = (min(child_rows) + max(child_rows)) / 2
            points |= {node: (float(depth[node]), rows[node]) for node in tree}
    return points


def _build_tree(
    neighbours: dict[str, list[str]], root: str, taken: dict[str, Point]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Return the children and the depth of every node by breadth-first search."""
    tree: dict[str, list[str]] = {root: []}
    depth = {root: 0}
    queue = [root]
    for node in queue:
        for neighbour in neighbours[node]:
            if neighbour not in depth and neighbour not in taken:
                depth[neighbour] = depth[node] + 1
                tree[node].append(neighbour)
                tree[neighbour] = []
                queue.append(neighbour)
    return tree, depth


def _walk_preorder(tree: dict[str, list[str]], root: str) -> list[str]:
    order, stack = [], [root]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(reversed(tree[node]))
    return order
