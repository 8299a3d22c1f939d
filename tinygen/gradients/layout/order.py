"""The order of the pieces from left to right."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence

from .columns import Columns
from .pieces import Pieces

ROUNDS = 24  # of improving the order
MOVES = 30  # of the pieces in each

# Group -> what it holds from left to right: pieces, and groups as ~number. None holds what is in no group.
Tree = dict[int | None, list[int]]


def best_order(pieces: Pieces) -> list[int]:
    """All pieces from left to right. Inside its group each moves to the mean of those that it is joined to,
    above and below by turns; of the orders on the way the first one with the fewest crossings is taken."""
    tree = _tree(pieces)
    order = best = list(_flat(tree, pieces, None))
    fewest = _crossings(pieces, order)
    x = [0.0] * len(pieces.all)
    for turn in range(ROUNDS):
        x = Columns(pieces, order, aligned=False).settle(x, MOVES)
        _sort(tree, None, _pulls(pieces, x, order, downwards=turn % 2 == 0))
        order = list(_flat(tree, pieces, None))
        crossings = _crossings(pieces, order)
        if crossings < fewest:
            best, fewest = order, crossings
    return best


def _tree(pieces: Pieces) -> Tree:
    """An order to start from: depth first, from the bottom upwards."""
    walls = {wall for pair in pieces.walls for wall in pair}
    tree: Tree = {group: [] for group in (None, *range(len(pieces.groups)))}
    placed: set[int] = set()
    stack = [p for p in reversed(range(len(pieces.all))) if not pieces.outputs[p] and p not in walls]
    while stack:
        item: int | None = stack.pop()
        if item not in placed:
            stack += _outside_in(pieces, [link.upper for link in reversed(pieces.inputs[item])])
        group = pieces.all[item].group
        while item is not None and item not in placed:
            placed.add(item)
            tree[group].append(item)
            item, group = (None, None) if group is None else (~group, pieces.groups[group].parent)
    return tree


def _outside_in(pieces: Pieces, uppers: list[int]) -> list[int]:
    """What nothing leads to, on both sides of the others: a weight to the left, a bias to the right."""
    sources = [p for p in uppers if not pieces.inputs[p]]
    half = len(sources) // 2
    return [*sources[:half], *(p for p in uppers if pieces.inputs[p]), *sources[half:]]


def _flat(tree: Tree, pieces: Pieces, group: int | None) -> Iterator[int]:
    """All that a group holds, its groups between their walls."""
    for item in tree[group]:
        if item >= 0:
            yield item
        else:
            left, right = pieces.walls[~item]
            yield from (left, *_flat(tree, pieces, ~item), right)


def _pulls(pieces: Pieces, x: Sequence[float], order: Sequence[int], downwards: bool) -> list[float]:
    """The mean x at which the links of each piece from above, or to below, would be vertical; its own x if it
    has none."""
    begins, ends = pieces.ends(order)
    pulls = []
    for p in range(len(pieces.all)):
        if downwards:
            wanted = [x[link.upper] + begins[link] - ends[link] for link in pieces.inputs[p]]
        else:
            wanted = [x[link.lower] + ends[link] - begins[link] for link in pieces.outputs[p]]
        pulls.append(sum(wanted) / len(wanted) if wanted else x[p])
    return pulls


def _sort(tree: Tree, group: int | None, pulls: Sequence[float]) -> list[float]:
    """Sort what a group holds by where it is pulled to, a group by the mean of all in it. Returns the pulls
    of all that it holds."""
    inside = {item: [pulls[item]] if item >= 0 else _sort(tree, ~item, pulls) for item in tree[group]}
    tree[group].sort(key=lambda item: sum(inside[item]) / len(inside[item]))
    return [pull for found in inside.values() for pull in found]


def _crossings(pieces: Pieces, order: Sequence[int]) -> int:
    """How often edges cross each other, and strips and walls that pass."""
    rank = {p: place for place, p in enumerate(order)}
    gaps = defaultdict(list)  # layer -> (place above, place below) of all that leads from it to the next
    for link in pieces.links:
        gaps[pieces.all[link.upper].last].append((rank[link.upper], rank[link.lower]))
    for p, piece in enumerate(pieces.all):
        for layer in range(piece.first, piece.last):
            gaps[layer].append((rank[p], rank[p]))
    crossings = 0
    for gap in gaps.values():
        before: list[int] = []  # the places below, of those further left above
        for _, below in sorted(gap):
            crossings += len(before) - bisect_right(before, below)
            insort(before, below)
    return crossings
