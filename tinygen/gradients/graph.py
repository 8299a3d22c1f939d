"""The graph behind a Tensor, with all its values and gradients: what `explain` and `draw` show.

The engine keeps only what its rules need. The rest is made again here: a primitive is pure, so its output is
`forward(*inputs, **static)`, from the leaves up. One backward pass that keeps the graph gives the gradients.
"""

from __future__ import annotations

import math
import warnings
from operator import attrgetter
from typing import Any, NamedTuple

from .. import autodiff
from ..autodiff import Leaf, Node, Observer, Output, Primitive, Tensor, observed
from ..backend import xp
from ..nn.module import Module, _find


class Input(NamedTuple):
    """What a node was given in one place.

    parameter: of the primitive; `xs[2]` where it takes a list.
    source: the Leaf, Node or Output that it came from; None for a constant.
    value: an array or a number; None where it cannot be made again."""

    parameter: str
    source: Leaf | Node | Output | None
    value: Any


class Numbers(NamedTuple):
    """What the elements of an array are like.

    size: how many. mean, spread, norm: their mean, standard deviation and Euclidean norm, of those that are
        finite. zeros: the share that is 0. nans, infinities: how many are no numbers, and infinite."""

    size: int
    mean: float
    spread: float
    norm: float
    zeros: float
    nans: int
    infinities: int

    @property
    def finite(self) -> bool:
        return not (self.nans or self.infinities)


def numbers_of(value) -> Numbers | None:
    """What an array is like, or a tuple of arrays taken together (None in it is left out); None where there
    are no elements."""
    parts = [part for part in (value if type(value) is tuple else (value,)) if part is not None]
    if not sum(part.size for part in parts):
        return None
    x = xp.concatenate([part.astype("float64").ravel() for part in parts])
    nans, infinities, zeros = (int(which.sum()) for which in (xp.isnan(x), xp.isinf(x), x == 0))
    finite = x[xp.isfinite(x)] if nans or infinities else x
    if finite.size:
        mean, spread, norm = float(finite.mean()), float(finite.std()), float(xp.linalg.norm(finite))
    else:
        mean = spread = norm = math.nan
    return Numbers(x.size, mean, spread, norm, zeros / x.size, nans, infinities)


class Graph:
    """What a loss was computed from.

    loss: a Tensor of one element, computed or a leaf.
    wrt: a Module that gives names to its parameters and paths to the modules in it.

    nodes: in the order in which they were computed.
    leaves: in the order in which they were first used.
    values: Node or Leaf -> its value, a tuple of arrays where the primitive gives several. What hangs on a
        leaf whose Tensor is gone, and was not kept for a rule, cannot be made again: it is not there.
    gradients: Node or Leaf -> the gradient of the loss with respect to it, where there are several outputs a
        tuple with None for those that were not used; what no gradient reaches is not there.
    contributions: (node, number of the input) -> what the rule gave, before it was summed to the input's
        shape.
    names: Leaf -> the name of its parameter in wrt, or else of its Tensor; without one it is not there.
    parameters: Leaf -> its name in wrt, for all parameters of wrt.
    paths: id of a Module -> its dotted path in wrt; "" for wrt itself.

    The arrays are those of the graph, not to be written into. No `.grad` is touched, and the graph stays
    usable. Raises TypeError or ValueError for a loss that has no such graph, and RuntimeError for a graph
    that was freed or whose arrays were changed in place since."""

    def __init__(self, loss: Tensor, wrt: Module | None = None):
        _check(loss, wrt)
        self.nodes, self.leaves = _walk(loss._source)
        self.names = {leaf: name for leaf in self.leaves if (name := getattr(leaf.tensor(), "name", None))}
        self.parameters: dict[Leaf, str] = {}
        self.paths: dict[int, str] = {}
        if wrt is not None:
            self.parameters = {tensor._source: name for name, tensor in wrt.named_parameters()}
            self.names.update(self.parameters)
            _add_paths(wrt, "", self.paths)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, on what is not finite: it has warned
            self.gradients, self.contributions = _differentiate(loss, self.leaves)
            self.values = _values(self.nodes, self.leaves)

    def value(self, source: Leaf | Node | Output):
        """The value there; None where it cannot be made again."""
        return at(self.values, source)

    def gradient(self, source: Leaf | Node | Output):
        """The gradient of the loss there; None where none comes."""
        return at(self.gradients, source)

    def inputs(self, node: Node) -> list[Input]:
        """What a node was given, in order."""
        return _inputs(node, self.values)

    def module_of(self, node: Node) -> str:
        """The module whose `forward` made a node: its path in wrt, or else its class; "" outside of all."""
        if node.module is None:
            return ""
        return self.paths.get(id(node.module)) or type(node.module).__name__


def input_name(primitive: Primitive, x: int) -> str:
    """The name of input number x: the parameter, `xs[x]` where the primitive takes a list."""
    return f"{primitive.inputs[0]}[{x}]" if primitive.variadic else primitive.inputs[x]


def node_of(source: Leaf | Node | Output | None) -> Leaf | Node | None:
    """What stands for a source in `values` and `gradients`."""
    return source.node if type(source) is Output else source


def _check(loss: Tensor, wrt: Module | None) -> None:
    if type(loss) is not Tensor:
        raise TypeError(f"loss: expected a Tensor, got {type(loss).__name__}")
    if loss.size != 1:
        raise ValueError(f"loss: expected a Tensor of one element, got one of shape {loss.shape}")
    if loss._source is None:
        raise ValueError(
            "loss: expected a Tensor with a history, got one that depends on none with requires_grad=True, "
            "or was computed under no_grad()"
        )
    if wrt is not None and not isinstance(wrt, Module):
        raise TypeError(f"wrt: expected a Module, got {type(wrt).__name__}")


def _walk(source: Leaf | Node | Output) -> tuple[list[Node], list[Leaf]]:
    """The nodes and the leaves that lead to a source, in the order of computation."""
    if type(source) is Leaf:
        return [], [source]
    found, stack = set(), [source]
    while stack:
        node = node_of(stack.pop())
        if type(node) is Node and node not in found:
            if node.sources is None:
                name = node.plan.primitive.name
                raise RuntimeError(
                    "loss: its graph was freed by an earlier backward pass; look at it before, or pass "
                    f"retain_graph=True to that one (reached {name}, called at {node.place})"
                )
            found.add(node)
            stack += node.sources
    nodes = sorted(found, key=attrgetter("tick"))
    leaves = dict.fromkeys(source for node in nodes for source in node.sources if type(source) is Leaf)
    return nodes, list(leaves)


def _add_paths(holder: Module, path: str, paths: dict[int, str]) -> None:
    """Enter a module and all below it; what is shared has the first of its paths."""
    paths[id(holder)] = path
    for name, module in _find(Module, holder, set()):
        if id(module) not in paths:
            _add_paths(module, f"{path}.{name}" if path else name, paths)


# Gradients ----------------------------------------------------------------------------------------------


class _Collector(Observer):
    """Keeps what a backward pass computes."""

    def __init__(self):
        self.gradients: dict[Node | Leaf, Any] = {}
        self.contributions: dict[tuple[Node, int], Any] = {}

    def reached(self, node: Node, g) -> None:
        self.gradients[node] = tuple(g) if type(g) is list else g

    def pulled(self, node: Node, x: int, x_bar) -> None:
        self.contributions[node, x] = x_bar


def _differentiate(loss: Tensor, leaves: list[Leaf]) -> tuple[dict, dict]:
    """Graph.gradients and Graph.contributions."""
    collector = _Collector()
    with observed(collector):
        found = autodiff._propagate([loss], [None], None, create_graph=False, retain_graph=True)
    leaf_of = {leaf.tensor(): leaf for leaf in leaves}
    for tensor, gradient in found:
        collector.gradients[leaf_of[tensor]] = gradient.data
    return collector.gradients, collector.contributions


# Values -------------------------------------------------------------------------------------------------


def _values(nodes: list[Node], leaves: list[Leaf]) -> dict:
    """Graph.values."""
    kept = _kept(nodes)
    values = {}
    for leaf in leaves:
        tensor = leaf.tensor()
        value = kept.get(leaf) if tensor is None else tensor.data
        if value is not None:
            values[leaf] = value
    for node in nodes:
        inputs = [value for *_, value in _inputs(node, values)]
        _refuse_changed(node, inputs)
        if node in kept:
            values[node] = kept[node]
        elif all(value is not None for value in inputs):
            out = node.plan.primitive.forward(*inputs, **node.static)
            values[node] = tuple(map(xp.asarray, out)) if type(out) is tuple else xp.asarray(out)
    return values


def _kept(nodes: list[Node]) -> dict:
    """The values of nodes and leaves that are still there, because some rule asks for them."""
    kept = {}
    for node in nodes:
        out = node.record and node.record[len(node.plan.primitive.inputs)]
        pairs = [(node, out), *zip(node.sources, _recorded(node))]
        kept.update((source, value) for source, value in pairs if source is not None and value is not None)
    return kept


def _inputs(node: Node, values: dict) -> list[Input]:
    return [
        Input(input_name(node.plan.primitive, x), source, constant if source is None else at(values, source))
        for x, (source, constant) in enumerate(zip(node.sources, _recorded(node)))
    ]


def _recorded(node: Node) -> list:
    """The inputs of a node as far as its record has them: the constants, and what rules ask for."""
    if node.record is None:
        return [None] * len(node.sources)
    return list(node.record[0] if node.plan.primitive.variadic else node.record[: len(node.sources)])


def at(found: dict, source: Leaf | Node | Output):
    """What there is for a source; the part for one output of several."""
    if type(source) is Output:
        parts = found.get(source.node)
        return None if parts is None else parts[source.index]
    return found.get(source)


def _refuse_changed(node: Node, inputs: list) -> None:
    """Raise RuntimeError if the values that a node was computed from are not there any more."""
    if node.tick < autodiff._last_change:
        for x in inputs:
            if autodiff._changed_since(x, node.tick):
                raise RuntimeError(
                    f"loss: an array that {node.plan.primitive.name}, called at {node.place}, was given has "
                    "been changed in place since (by an optimizer's step or an assignment to .data); look at "
                    "the graph before the change"
                )
