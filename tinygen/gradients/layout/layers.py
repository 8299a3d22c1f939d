"""The layers of the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Edge(NamedTuple):
    """start, end: numbers of nodes. room: for the label, to the right of where it begins."""

    start: int
    end: int
    room: float


class Group(NamedTuple):
    """parent: the number of the group around it, which comes before it; None if none. width: of its title."""

    parent: int | None
    width: float


class Nest:
    """Which nodes and groups lie in which groups.

    home: of each node its innermost group, or None. members: of each group the nodes in it, at any depth."""

    def __init__(self, homes: Sequence[int | None], groups: Sequence[Group]):
        self.home, self.groups = homes, groups
        self.members: list[list[int]] = [[] for _ in groups]
        for node, home in enumerate(homes):
            for group in self.around(home):
                self.members[group].append(node)

    def around(self, group: int | None) -> list[int]:
        """A group and those around it, the outermost first."""
        chain = []
        while group is not None:
            chain.append(group)
            group = self.groups[group].parent
        return chain[::-1]


def layers_of(edges: Sequence[Edge], nest: Nest) -> list[int]:
    """The layer of each node, from 0: as high as can be, or low, where that makes edges shorter.

    A group begins below all that leads into it, and ends above all that it leads to."""
    below = _constraints(edges, nest)
    order = topological([[b for b, _ in after] for after in below])
    layers = [0] * len(below)
    for a in order:
        for b, apart in below[a]:
            layers[b] = max(layers[b], layers[a] + apart)
    high = _high(edges, nest, order)
    for a in reversed(order):
        if below[a] and a not in high:
            layers[a] = min(layers[b] - apart for b, apart in below[a])
    layers = layers[: len(nest.home)]
    return [layer - min(layers) for layer in layers]


def _constraints(edges: Sequence[Edge], nest: Nest) -> list[list[tuple[int, int]]]:
    """For each vertex pairs (vertex, how many layers it is below at least). After the nodes come two more
    vertices for each group: its first layer and its last."""
    nodes = len(nest.home)
    below: list[list[tuple[int, int]]] = [[] for _ in range(nodes + 2 * len(nest.groups))]
    for start, end, _ in edges:
        a, b = nest.around(nest.home[start]), nest.around(nest.home[end])
        left = [group for group in a if group not in b]
        entered = [group for group in b if group not in a]
        start = _last(nodes, left[0]) if left else start
        below[start].append((_first(nodes, entered[0]) if entered else end, 1))
    for group, members in enumerate(nest.members):
        first, last = _first(nodes, group), _last(nodes, group)
        below[first] += [(node, 0) for node in members]
        for node in members:
            below[node].append((last, 0))
        parent = nest.groups[group].parent
        if parent is not None:
            below[_first(nodes, parent)].append((first, 0))
            below[last].append((_last(nodes, parent), 0))
    return below


def _first(nodes: int, group: int) -> int:
    return nodes + 2 * group


def _last(nodes: int, group: int) -> int:
    return nodes + 2 * group + 1


def _high(edges: Sequence[Edge], nest: Nest, order: Sequence[int]) -> set[int]:
    """The vertices that stay as high as they can be: nodes that would lengthen as many edges as they shorten
    by going down, and ends of groups that such nodes lead out of."""
    nodes = len(nest.home)
    inputs: list[list[int]] = [[] for _ in range(nodes)]
    outputs: list[list[int]] = [[] for _ in range(nodes)]
    for start, end, _ in edges:
        inputs[end].append(start)
        outputs[start].append(end)
    follows: dict[int, bool] = {}  # whether a node can go down with what it leads to, and all before it too
    for node in (a for a in order if a < nodes):
        follows[node] = len(outputs[node]) == 1 and all(follows[a] for a in inputs[node])
    high = {node for node in range(nodes) if len(outputs[node]) <= sum(not follows[a] for a in inputs[node])}
    for group, members in enumerate(nest.members):
        inside = set(members)
        if not all(follows[node] for node in members if not inside.issuperset(outputs[node])):
            high.add(_last(nodes, group))
    return high


def topological(after: Sequence[Sequence[int]]) -> list[int]:
    """Vertices in an order in which each comes before those after it."""
    waiting = [0] * len(after)
    for vertices in after:
        for b in vertices:
            waiting[b] += 1
    order = [a for a, count in enumerate(waiting) if not count]
    for a in order:  # which grows on the way
        for b in after[a]:
            waiting[b] -= 1
            if not waiting[b]:
                order.append(b)
    if len(order) < len(after):
        raise ValueError("edges: expected a graph without cycles, also if each group is shrunk to a point")
    return order
