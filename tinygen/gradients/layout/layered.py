"""The layout of a whole graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .columns import GAP, Columns
from .layers import Edge, Group, Nest, layers_of
from .order import best_order
from .pieces import Pieces

BOX = 25  # height of a node
LABEL = 13  # height of the space below it, where its edges begin and have their labels
ENTRY = 8  # height of the space above it, where its edges end
TITLE = 12  # height of a group's title
FOOT = 5  # between the lower borders of groups that end together
CURVE = 12  # height of the space between two layers in which edges change their x, at most,
SLOPE = 0.1  # plus this share of the farthest change
MOVES, STRAIGHTENINGS = 150, 30  # of the columns


class Rectangle(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


class Layout(NamedTuple):
    """boxes, groups: one for each node and each group. layers: of the nodes, from 0.
    routes: for each edge the points from the lower border of its start to the upper one of its end. From a
        point to the next goes a vertical line, or, if their x differ, an S-shaped curve, vertical at both."""

    boxes: list[Rectangle]
    groups: list[Rectangle]
    layers: list[int]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


def lay_out(
    widths: Sequence[float],
    edges: Sequence[Edge],
    homes: Sequence[int | None],
    groups: Sequence[Group],
) -> Layout:
    """Lay out a graph of at least one node.

    widths: of the nodes, at least; they are as wide as their edges need. homes: of each node the number of
        its innermost group, or None; no group is empty.

    Raises ValueError for a graph with a cycle, also if it has one only when a group is shrunk to a point."""
    nest = Nest(homes, groups)
    pieces = Pieces(widths, edges, layers_of(edges, nest), nest)
    order = best_order(pieces)
    columns = Columns(pieces, order, aligned=True)
    x = columns.straighten(columns.settle([0.0] * len(pieces.all), MOVES), STRAIGHTENINGS)
    left = min(place - piece.half for place, piece in zip(x, pieces.all)) - GAP
    x = [place - left for place in x]
    width = max(place + piece.half for place, piece in zip(x, pieces.all)) + GAP

    begins, ends = pieces.ends(order)
    lines = [  # rounded, so that vertical lines are exactly that
        (round(x[link.upper] + begins[link], 2), round(x[link.lower] + ends[link], 2))
        for link in pieces.links
    ]
    above, below = _frames(pieces)
    tops, bends = _heights(pieces, lines, above, below)
    boxes = [
        Rectangle(place - wide / 2, tops[layer], place + wide / 2, tops[layer] + BOX)
        for place, wide, layer in zip(x, pieces.widths, pieces.layers)
    ]
    borders = [
        Rectangle(x[a], tops[first] - above[group], x[b], tops[last] + BOX + LABEL + below[group])
        for group, ((a, b), (first, last)) in enumerate(zip(pieces.walls, pieces.spans))
    ]
    routes: list[list[tuple[float, float]]] = [[] for _ in edges]
    for link, (begin, end) in zip(pieces.links, lines):  # along each edge from its start to its end
        high, low = bends[pieces.all[link.upper].last]
        routes[link.edge] += [(begin, high), (end, low)]
    for edge, route in zip(edges, routes):
        route.insert(0, (route[0][0], boxes[edge.start].bottom))
        route.append((route[-1][0], boxes[edge.end].top))
    return Layout(boxes, borders, pieces.layers, routes, width, bends[-1][0])


def _frames(pieces: Pieces) -> tuple[list[float], list[float]]:
    """How far the upper border of each group is above its first layer, and the lower one below its last:
    around the groups in it that begin, or end, there too."""
    above, below = [float(ENTRY)] * len(pieces.groups), [0.0] * len(pieces.groups)
    for group, (first, last) in reversed(list(enumerate(pieces.spans))):
        above[group] += TITLE
        below[group] += FOOT
        parent = pieces.groups[group].parent
        if parent is not None and pieces.spans[parent][0] == first:
            above[parent] = max(above[parent], above[group])
        if parent is not None and pieces.spans[parent][1] == last:
            below[parent] = max(below[parent], below[group])
    return above, below


def _heights(
    pieces: Pieces, lines: list[tuple[float, float]], above: list[float], below: list[float]
) -> tuple[list[float], list[tuple[float, float]]]:
    """The upper border of the boxes of each layer, and the two y between which the edges below it bend: there
    only, outside of all boxes and of all groups that begin or end here."""
    count = max(pieces.layers) + 1
    over, under, shifts = [float(ENTRY)] * count, [0.0] * count, [0.0] * count
    for group, (first, last) in enumerate(pieces.spans):
        over[first] = max(over[first], above[group])
        under[last] = max(under[last], below[group])
    for link, (begin, end) in zip(pieces.links, lines):
        layer = pieces.all[link.upper].last
        shifts[layer] = max(shifts[layer], abs(begin - end))
    tops, bends, y = [], [], float(GAP)
    for layer in range(count):
        tops.append(y + over[layer])
        high = tops[-1] + BOX + LABEL + under[layer]
        y = high + min(CURVE, 4 * shifts[layer]) + SLOPE * shifts[layer]
        bends.append((high, y))
    return tops, bends
