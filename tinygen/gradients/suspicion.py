"""What is suspicious in a computation: a function for each kind, which gives pairs (node or leaf, words)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from ..autodiff import Leaf, Node
from ..backend import xp
from .graph import Graph, Numbers, node_of, numbers_of

# A layer that was started by Glorot's or He's rule changes the size of a gradient by a factor near 1. Five
# sigmoids, one after the other, take a factor of 4⁻⁵ ≈ 1/1000 where they are steepest, and more elsewhere.
FAR = math.log(1000)
# A unit that half of the examples activate is 0 over so many of them once in 1000 times.
ENOUGH_EXAMPLES = 10
MANY_UNITS = 0.25  # of a layer; of 20 well-started ones, up to so many units were 0 over a batch of 64

Found = Iterator[tuple[Leaf | Node, str]]


class Findings(NamedTuple):
    """A graph, and what its arrays are like.

    labels: what its nodes and leaves are called. values, gradients, contributions: as those of the graph."""

    graph: Graph
    labels: dict[Leaf | Node, str]
    values: dict[Leaf | Node, Numbers | None]
    gradients: dict[Leaf | Node, Numbers | None]
    contributions: dict[tuple[Node, int], Numbers | None]


def findings(graph: Graph, labels: dict[Leaf | Node, str]) -> Findings:
    def numbers(arrays: dict) -> dict:
        return {key: numbers_of(array) for key, array in arrays.items()}

    return Findings(graph, labels, *map(numbers, (graph.values, graph.gradients, graph.contributions)))


def suspicions(found: Findings) -> dict[Leaf | Node, list[str]]:
    """What is suspicious about each node and leaf, in words."""
    marks = defaultdict(list)
    for look in (values_not_finite, gradients_not_finite, far_gradients, zero_gradients, dead_relus, float64):
        for source, mark in look(found):
            marks[source].append(mark)
    return marks


def values_not_finite(found: Findings) -> Found:
    """Where NaN or infinity first is, or comes in."""
    for leaf in found.graph.leaves:
        if not _finite(found.values.get(leaf)):
            yield leaf, f"{_what(found.values[leaf])} was given"
    for node in found.graph.nodes:
        if _finite(found.values.get(node)):
            continue
        inputs = [(given, _numbers(given.value)) for given in found.graph.inputs(node)]
        bad = [(given, numbers) for given, numbers in inputs if not _finite(numbers)]
        if not bad:
            known = all(given.value is not None for given, _ in inputs)
            of_inputs = "its inputs are finite" if known else "its inputs are not known any more"
            yield node, f"the first {_what(found.values[node])}: {of_inputs}"
        for given, numbers in bad:
            if given.source is None:
                yield node, f"{_what(numbers)} came in with the constant {given.parameter!r}"


def gradients_not_finite(found: Findings) -> Found:
    """Which rules make NaN or infinity of a finite ȳ."""
    for (node, x), numbers in found.contributions.items():
        if _finite(found.gradients.get(node)) and not _finite(numbers):
            rule = node.plan.primitive.rule(x)
            formula = f" ({rule.formula})" if rule.formula else ""
            maker = f"the rule for {rule.parameter!r}{formula} made it of a finite ȳ"
            yield node, f"the first {_what(numbers)} in backward: {maker}"


def far_gradients(found: Findings) -> Found:
    """Where a gradient on its way back is `FAR` from where it was when the last mark was set."""
    changes: dict[Node, tuple[float, float, Node]] = {}  # (share in the gradient, change, since which node)
    for node in reversed(found.graph.nodes):
        _, change, start = changes.get(node, (0.0, 0.0, node))
        if abs(change) > FAR:
            word = "vanished" if change < 0 else "exploded"
            norm, before = (f"{found.gradients[n].norm:.2g}" for n in (node, start))
            yield node, f"its gradient has {word}: ‖ȳ‖ = {norm}, but {before} at {found.labels[start]}"
            change, start = 0.0, node
        for x, *_ in node.plan.steps:
            source, share = node_of(node.sources[x]), found.contributions.get((node, x))
            if type(source) is Node and share is not None and share.norm >= changes.get(source, (0.0,))[0]:
                changes[source] = share.norm, change + _change(found, node, source), start


def _change(found: Findings, node: Node, source: Node) -> float:
    """The logarithm of the factor by which the gradient grows from ȳ at a node to x̄ at what it was given.

    No single measure tells it: a mean over n elements shrinks ‖x̄‖ by √n and the size of an element by n, a
    sum makes ‖x̄‖ larger and keeps the elements. So it is the least on which all agree: the norm, the root
    mean square and, where the node has fewer elements than x, ‖x̄‖ ‖x‖, what a relative change of x does to
    the loss. How a loss of one element is scaled is the user's choice, and no growth."""
    y, x = (found.values.get(n) for n in (node, source))
    y_bar, x_bar = (found.gradients.get(n) for n in (node, source))
    if y_bar is None or x_bar is None or not (y_bar.finite and x_bar.finite):
        return 0.0
    if y_bar.size == 1 or y_bar.norm == 0:
        return 0.0
    if x_bar.norm == 0:
        return -math.inf
    of_norm = math.log(x_bar.norm / y_bar.norm)
    measures = [of_norm, of_norm + math.log(y_bar.size / x_bar.size) / 2]
    if y_bar.size < x_bar.size and x and y and x.norm * y.norm > 0:
        measures.append(of_norm + math.log(x.norm / y.norm))
    if min(measures) < 0 < max(measures):
        return 0.0
    return min(measures, key=abs)


def zero_gradients(found: Findings) -> Found:
    """Parameters, or leaves if no parameters are known, whose gradient is 0 in every element."""
    for leaf in found.graph.parameters or found.graph.leaves:
        numbers = found.gradients.get(leaf)
        if numbers is not None and numbers.zeros == 1:
            yield leaf, "its gradient is 0 everywhere"


def dead_relus(found: Findings) -> Found:
    """ReLUs with units, along the last axis, that are 0 over the batch."""
    for node in found.graph.nodes:
        y = found.graph.values.get(node)
        if node.plan.primitive.name == "relu" and y is not None and y.ndim > 1:
            units = y.shape[-1]
            if y.size >= ENOUGH_EXAMPLES * units > 0:
                dead = int((y == 0).all(axis=tuple(range(y.ndim - 1))).sum())
                if dead > MANY_UNITS * units:
                    yield node, f"dead: {dead} of {units} units are 0 over the whole batch"


def float64(found: Findings) -> Found:
    """Where float32 first becomes float64 without being asked to."""
    promoted: set[Node] = set()
    for node in found.graph.nodes:
        inputs = found.graph.inputs(node)
        of_float32 = [str(getattr(given.value, "dtype", "")) == "float32" for given in inputs]
        if "float64" not in str(node.dtype) or "dtype" in node.static:
            continue
        handed_on = any(node_of(given.source) in promoted for given in inputs)
        if handed_on or any(of_float32):
            promoted.add(node)
        if any(of_float32) and not handed_on:
            others = [given.parameter for given, single in zip(inputs, of_float32) if not single]
            yield node, "float64 crept in" + (f" with {', '.join(others)}" if others else "")


def _numbers(value) -> Numbers | None:
    return None if value is None else numbers_of(xp.asarray(value))


def _finite(numbers: Numbers | None) -> bool:
    return numbers is None or numbers.finite


def _what(numbers: Numbers) -> str:
    """What is not finite, in words."""
    which = {"NaN": numbers.nans, "infinity": numbers.infinities}
    names = " and ".join(name for name, count in which.items() if count)
    return f"{names} ({numbers.nans + numbers.infinities} of {numbers.size} elements)"
