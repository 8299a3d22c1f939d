"""What the layers hold: nodes, the strips of edges that pass, and the walls of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from .layers import Edge, Nest

LANE = 12  # between edges that end at the same node
STRIP = 6  # width of an edge


@dataclass
class Piece:
    """A node, a strip or a wall: the layers that it passes, its innermost group, and how far it reaches to
    each side of its x."""

    first: int
    last: int
    group: int | None
    half: float = 0.0


class Link(NamedTuple):
    """A part of an edge that goes from one piece to another in the next layer."""

    upper: int
    lower: int
    edge: int


class Pieces:
    """all: the nodes by their numbers, then strips and walls.
    spans: for each group its first and its last layer.
    walls: for each group its left and its right one.
    paths: for each edge its pieces: its start, the strips, its end.
    links: all pairs of neighbours on these paths; outputs, inputs: those that begin or end at each piece.
    widths: of nodes, which reach over the ends of all their edges."""

    def __init__(self, widths: Sequence[float], edges: Sequence[Edge], layers: list[int], nest: Nest):
        self.edges, self.layers, self.groups = edges, layers, nest.groups
        self.all = [Piece(layer, layer, home) for layer, home in zip(layers, nest.home)]
        self.spans = [
            (min(layers[node] for node in members), max(layers[node] for node in members))
            for members in nest.members
        ]
        self.walls = []
        for group, (first, last) in enumerate(self.spans):
            self.walls.append((len(self.all), len(self.all) + 1))
            self.all += [Piece(first, last, group), Piece(first, last, group)]
        self.paths = [[edge.start, *self._strips(edge, nest), edge.end] for edge in edges]

        self.links = [Link(a, b, edge) for edge, path in enumerate(self.paths) for a, b in pairwise(path)]
        self.outputs, self.inputs = [[] for _ in self.all], [[] for _ in self.all]
        for link in self.links:
            self.outputs[link.upper].append(link)
            self.inputs[link.lower].append(link)
        self.widths = []
        for node, width in enumerate(widths):
            outputs = (len(self.outputs[node]) - 1) * self.lane(node)
            inputs = (len(self.inputs[node]) - 1) * LANE
            self.widths.append(max(width, outputs + LANE, inputs + LANE))
            self.all[node].half = max(self.widths[node] / 2, outputs / 2 + self.lane(node))

    def _strips(self, edge: Edge, nest: Nest) -> list[int]:
        """Make the strips of an edge: in the groups around its start as long as they last, in those around
        its end as soon as they begin, and between them in those around both."""
        strips: list[int] = []
        for layer in range(self.layers[edge.start] + 1, self.layers[edge.end]):
            lasting = [g for g in nest.around(nest.home[edge.start]) if layer <= self.spans[g][1]]
            begun = [g for g in nest.around(nest.home[edge.end]) if layer >= self.spans[g][0]]
            inside = max(lasting, begun, key=len)
            group = inside[-1] if inside else None
            if not strips or self.all[strips[-1]].group != group:
                strips.append(len(self.all))
                self.all.append(Piece(layer, layer, group, STRIP / 2))
            self.all[strips[-1]].last = layer
        return strips

    def lane(self, node: int) -> float:
        """How far from each other edges begin at a node, so that there is room for their labels."""
        return STRIP + max((self.edges[link.edge].room for link in self.outputs[node]), default=0.0)

    def rows(self, order: Sequence[int]) -> list[list[int]]:
        """For each layer the pieces that pass it, from left to right."""
        rows: list[list[int]] = [[] for _ in range(max(self.layers) + 1)]
        for p in order:
            for layer in range(self.all[p].first, self.all[p].last + 1):
                rows[layer].append(p)
        return rows

    def ends(self, order: Sequence[int]) -> tuple[dict[Link, float], dict[Link, float]]:
        """Where each link begins and ends, relative to the x of its pieces: in the order of what is there
        at its other end."""
        rank = {p: place for place, p in enumerate(order)}
        begins, ends = {}, {}
        for p in range(len(self.all)):
            outputs = sorted(self.outputs[p], key=lambda link: rank[link.lower])
            inputs = sorted(self.inputs[p], key=lambda link: rank[link.upper])
            for found, links, lane in ((begins, outputs, self.lane(p)), (ends, inputs, LANE)):
                middle = (len(links) - 1) / 2
                found.update((link, (place - middle) * lane) for place, link in enumerate(links))
        return begins, ends
