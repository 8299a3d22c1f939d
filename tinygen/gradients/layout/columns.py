"""The places of the pieces from left to right, in a given order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from .layers import topological
from .pieces import Link, Pieces

GAP = 10  # between neighbours, and between a group's border and what is in it
GRAVITY = 0.05  # the weight of the middle against that of the links


class Columns:
    """Pieces that are moved as one, how near to each other they may come, and what draws them together.

    aligned: whether links are made vertical where that is possible; if not, each piece is a column.

    column: of each piece its number. offset: of each piece, its x relative to that of its column.
    apart: triples (column, column, distance), from left to right: the second is further right by at least so
        much.
    springs: for each column pairs (other column, x relative to it where a link between both is vertical)."""

    def __init__(self, pieces: Pieces, order: Sequence[int], aligned: bool):
        self.pieces = pieces
        begins, ends = pieces.ends(order)
        self.column, self.offset = list(range(len(pieces.all))), [0.0] * len(pieces.all)
        straight = _straight(pieces, order) if aligned else []
        for link in sorted(straight, key=lambda link: pieces.all[link.lower].first):
            self.column[link.lower] = self.column[link.upper]
            self.offset[link.lower] = self.offset[link.upper] + begins[link] - ends[link]

        distances: dict[tuple[int, int], float] = {}
        for a, b, distance in self._distances(pieces.rows(order), ends):
            pair, distance = (self.column[a], self.column[b]), distance + self.offset[a] - self.offset[b]
            distances[pair] = max(distance, distances.get(pair, distance))
        self.left: list[list[tuple[int, float]]] = [[] for _ in pieces.all]  # as triples of `apart`
        self.right: list[list[tuple[int, float]]] = [[] for _ in pieces.all]
        for (a, b), distance in distances.items():
            self.right[a].append((b, distance))
            self.left[b].append((a, distance))
        self.order = topological([[b for b, _ in right] for right in self.right])
        self.apart = [(a, b, distance) for a in self.order for b, distance in self.right[a]]

        self.springs: list[list[tuple[int, float]]] = [[] for _ in pieces.all]
        for link in pieces.links:
            a, b = self.column[link.upper], self.column[link.lower]
            away = self.offset[link.upper] + begins[link] - self.offset[link.lower] - ends[link]
            if a != b:
                self.springs[a].append((b, -away))
                self.springs[b].append((a, away))

    def settle(self, x: Sequence[float], moves: int) -> list[float]:
        """The x of all pieces, found from a guess. Each column moves towards the mean of where its links want
        it, and a little to the middle, x = 0, so that long chains go down and not aside. It pushes away
        others that come too near, and at the end everything is far enough apart."""
        columns = self._columns(x)
        for _ in range(moves):
            for a, springs in enumerate(self.springs):
                if springs:
                    mean = sum([columns[b] + away for b, away in springs]) / len(springs)
                    columns[a] += (mean / (1 + GRAVITY) - columns[a]) / 2
            _push(columns, self.apart)
            _push(columns, reversed(self.apart))
        return self._places(self._separated(columns))

    def straighten(self, x: Sequence[float], moves: int) -> list[float]:
        """The x of all pieces, from some that are far enough apart. Each column moves to the median of where
        its links want it, as far as its neighbours let it, and at last walls of groups to what is in them."""
        columns = self._columns(x)
        for _ in range(moves):
            for a, springs in enumerate(self.springs):
                if springs:
                    wanted = sorted([columns[b] + away for b, away in springs])
                    median = (wanted[(len(wanted) - 1) // 2] + wanted[len(wanted) // 2]) / 2
                    columns[a] = min(max(median, self._low(columns, a)), self._high(columns, a))
        left, right = ({pair[side] for pair in self.pieces.walls} for side in (0, 1))
        for a in reversed(self.order):
            if a in left:
                columns[a] = self._high(columns, a)
        for a in self.order:
            if a in right:
                columns[a] = self._low(columns, a)
        return self._places(columns)

    def _columns(self, x: Sequence[float]) -> list[float]:
        columns = [0.0] * len(x)
        for p, column in enumerate(self.column):
            columns[column] = x[p] - self.offset[p]
        return columns

    def _places(self, columns: Sequence[float]) -> list[float]:
        return [columns[column] + offset for column, offset in zip(self.column, self.offset)]

    def _distances(self, rows: list[list[int]], ends: dict[Link, float]) -> Iterator[tuple[int, int, float]]:
        """Triples (piece, piece to the right of it, distance that there is between them at least)."""
        pieces = self.pieces
        for row in rows:
            for a, b in pairwise(row):
                yield a, b, pieces.all[a].half + GAP + pieces.all[b].half
        for group, (left, right) in enumerate(pieces.walls):
            title = pieces.groups[group].width
            yield left, right, title
            # What comes in from above passes to the right of the title.
            row = rows[pieces.spans[group][0]]
            inside = row[row.index(left) : row.index(right)]
            for p in [p for p in inside if pieces.inputs[p]][:1]:
                yield left, p, title - min(ends[link] for link in pieces.inputs[p])

    def _separated(self, columns: list[float]) -> list[float]:
        """Columns near the given ones, and far enough apart: the means of what it takes to move to the right
        alone, and to the left alone."""
        rightwards, leftwards = list(columns), list(columns)
        for a in self.order:
            rightwards[a] = max(rightwards[a], self._low(rightwards, a))
        for a in reversed(self.order):
            leftwards[a] = min(leftwards[a], self._high(leftwards, a))
        return [(a + b) / 2 for a, b in zip(rightwards, leftwards)]

    def _low(self, columns: list[float], a: int) -> float:
        """How far to the left a column may be."""
        return max([columns[b] + distance for b, distance in self.left[a]], default=-math.inf)

    def _high(self, columns: list[float], a: int) -> float:
        """How far to the right a column may be."""
        return min([columns[b] - distance for b, distance in self.right[a]], default=math.inf)


def _push(columns: list[float], apart: Iterable[tuple[int, int, float]]) -> None:
    """Move what is too near to each other apart, either by half of what is missing."""
    for a, b, distance in apart:
        missing = columns[a] + distance - columns[b]
        if missing > 0:
            columns[a] -= missing / 2
            columns[b] += missing / 2


def _straight(pieces: Pieces, order: Sequence[int]) -> list[Link]:
    """Links to make vertical, since they have no reason to be anything else: nothing branches off, and
    nothing joins but nodes that stand alone, which can step aside. None of them crosses another, or a piece
    that passes several layers."""
    rank = {p: place for place, p in enumerate(order)}
    fixed = defaultdict(list)  # layer -> (place above, place below) of what is vertical from it to the next
    for p, piece in enumerate(pieces.all):
        for layer in range(piece.first, piece.last):
            fixed[layer].append((rank[p], rank[p]))
    straight = []
    for link in pieces.links:
        joining = [other for other in pieces.inputs[link.lower] if pieces.inputs[other.upper]]
        is_node = link.lower < len(pieces.layers)
        alone = joining == [link] or (is_node and pieces.inputs[link.lower] == [link])
        a, b, gap = rank[link.upper], rank[link.lower], fixed[pieces.all[link.upper].last]
        if alone and pieces.outputs[link.upper] == [link] and all((a - c) * (b - d) > 0 for c, d in gap):
            straight.append(link)
            gap.append((a, b))
    return straight
