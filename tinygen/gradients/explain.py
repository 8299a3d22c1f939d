"""Explain a computation: a table of its operations, with what each computed and what gradient came back.

`print(explain(loss, wrt=model))` shows it; the rows are there for programs, and any gradient as an array.
"""

from __future__ import annotations

import linecache
import textwrap
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..autodiff import Leaf, Node, Output, Tensor
from ..backend import xp
from ..nn.module import Module
from .graph import Graph, Numbers, at, node_of, numbers_of
from .suspicion import Findings, findings, suspicions


class Row(NamedTuple):
    """An operation, or a leaf, of a computation.

    label: "#1", "#2", ... for operations in forward order; a leaf's name.
    primitive: its name; "" for a leaf.
    inputs: the label of what made each, or "constant".
    formulas: name of an input -> the formula of the VJP that ran for it.
    place: file and line of the call. module: whose `forward` made it, by its path in `wrt` or by its class.
    shape, dtype: of the output; tuples of them where there are several.
    value, gradient: what they are like; None where there is none, or one without elements.
    marks: what is suspicious about it.

    A leaf has no inputs, formulas, place and module."""

    label: str
    primitive: str
    inputs: tuple[str, ...]
    formulas: dict[str, str]
    place: str
    module: str
    shape: tuple
    dtype: Any
    value: Numbers | None
    gradient: Numbers | None
    marks: tuple[str, ...]


def explain(loss: Tensor, wrt: Module | None = None) -> Explanation:
    """Explain a loss, as long as backward has not freed its graph.

    loss: a Tensor of one element. wrt: a Module, whose parameters are named, and those without gradient told.

    Nothing is changed: no `.grad` is touched, and the graph can still be run backward. Raises TypeError or
    ValueError for a loss without history, and RuntimeError for a graph that was freed or whose arrays were
    changed in place."""
    graph = Graph(loss, wrt)
    labels = {node: f"#{k}" for k, node in enumerate(graph.nodes, 1)}
    labels |= {leaf: graph.names.get(leaf, f"leaf {k}") for k, leaf in enumerate(graph.leaves, 1)}
    return Explanation(findings(graph, labels))


class Explanation:
    """What `explain` found; prints as a table.

    rows: of the operations, in forward order.
    leaves: of the Tensors that were given, in order of their first use; then the parameters of `wrt` on which
        the loss does not depend."""

    def __init__(self, found: Findings):
        self._gradients = found.graph.gradients
        marks = suspicions(found)
        self.rows = [_row(node, found, marks[node]) for node in found.graph.nodes]
        self.leaves = [_leaf_row(leaf, found, marks[leaf]) for leaf in found.graph.leaves]
        unused = [(leaf, name) for leaf, name in found.graph.parameters.items() if leaf not in found.labels]
        self.leaves += [_unused_row(leaf, name) for leaf, name in unused]

    def gradient_of(self, tensor: Tensor):
        """The gradient of the loss with respect to a Tensor, given or computed: an array of its shape, on its
        device. Raises TypeError for what is no Tensor, and ValueError for one that the loss was not computed
        from."""
        if type(tensor) is not Tensor:
            raise TypeError(f"tensor: expected a Tensor, got {type(tensor).__name__}")
        source = tensor._source
        if node_of(source) not in self._gradients:
            got = f"one of shape {tensor.shape}"
            raise ValueError(f"tensor: expected one that the loss was computed from, got {got}")
        gradient = at(self._gradients, source)
        return xp.zeros(tensor.shape, tensor.dtype) if gradient is None else gradient.copy()

    def __repr__(self) -> str:
        return _table(self.rows, self.leaves)


def _row(node: Node, found: Findings, marks: list[str]) -> Row:
    primitive = node.plan.primitive
    rules = [primitive.rule(x) for x, *_ in node.plan.steps]
    return Row(
        found.labels[node],
        primitive.name,
        tuple(_label(given.source, found) for given in found.graph.inputs(node)),
        {rule.parameter: rule.formula for rule in rules},
        node.place,
        found.graph.module_of(node),
        *_what_is_at(node, found),
        tuple(marks),
    )


def _leaf_row(leaf: Leaf, found: Findings, marks: list[str]) -> Row:
    return Row(found.labels[leaf], "", (), {}, "", "", *_what_is_at(leaf, found), tuple(marks))


def _what_is_at(source: Leaf | Node, found: Findings) -> tuple:
    return source.shape, source.dtype, found.values.get(source), found.gradients.get(source)


def _label(source: Leaf | Node | Output | None, found: Findings) -> str:
    if source is None:
        return "constant"
    part = f"[{source.index}]" if type(source) is Output else ""
    return found.labels[node_of(source)] + part


def _unused_row(leaf: Leaf, name: str) -> Row:
    marks = ("no gradient: the loss does not depend on it",)
    return Row(name, "", (), {}, "", "", leaf.shape, leaf.dtype, numbers_of(leaf.tensor().data), None, marks)


# The table ----------------------------------------------------------------------------------------------

WIDTH = 120  # of the table, in characters
# title -> characters at most; what is longer is cut
NUMBERS = {"value": 18, "zero": 5, "gradient": 18, "zero ": 5}
OPERATIONS = {"": 6, "operation": 16, "shape": 16, **NUMBERS, "module": 18, "VJPs": WIDTH}
LEAVES = {"": 1, "given": 42, "shape": 16, **NUMBERS}


def _table(rows: list[Row], leaves: list[Row]) -> str:
    """The operations, below the lines of source that called them; what was given; what is suspicious."""
    head, *lines = _aligned(OPERATIONS, map(_operation_cells, rows))
    parts, place = [head], None
    for row, line in zip(rows, lines):
        if row.place != place:
            place = row.place
            parts.append(_cut(_source(place), WIDTH))
        parts.append(line)
    parts += ["", *_aligned(LEAVES, map(_leaf_cells, leaves)), ""]
    marks = [f"! {_subject(row)}: {mark}" for row in leaves + rows for mark in row.marks]
    parts += [textwrap.fill(mark, WIDTH, subsequent_indent="  ") for mark in marks or ["nothing suspicious"]]
    return "\n".join(parts)


def _operation_cells(row: Row) -> list[str]:
    formulas = ", ".join(filter(None, row.formulas.values()))
    return [_flag(row) + f"{row.label:>5}", row.primitive, _shape(row), *_numbers(row), row.module, formulas]


def _leaf_cells(row: Row) -> list[str]:
    return [_flag(row), row.label, _shape(row), *_numbers(row)]


def _flag(row: Row) -> str:
    return "!" if row.marks else " "


def _shape(row: Row) -> str:
    """As f32[64,10]."""
    several = type(row.dtype) is tuple
    pairs = zip(row.dtype, row.shape) if several else [(row.dtype, row.shape)]
    return " ".join(f"f{8 * dtype.itemsize}[{','.join(map(str, shape))}]" for dtype, shape in pairs)


def _numbers(row: Row) -> list[str]:
    cells = []
    for numbers in (row.value, row.gradient):
        cells += ["—", ""] if numbers is None else [_spread(numbers), _share(numbers.zeros)]
    return cells


def _spread(numbers: Numbers) -> str:
    """Mean ± standard deviation; of what is not finite, how much there is."""
    if not numbers.finite:
        counts = {"NaN": numbers.nans, "inf": numbers.infinities}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if numbers.size == 1:
        return f"{numbers.mean:.4g}"
    return f"{_short(numbers.mean)} ± {_short(numbers.spread)}"


def _share(share: float) -> str:
    return "" if share == 0 else "<1%" if share < 0.01 else f"{share:.0%}"


def _short(x: float) -> str:
    """Two digits."""
    if x != 0 and not 1e-3 <= abs(x) < 1e4:
        digits, power = f"{x:.1e}".split("e")
        return f"{digits}e{int(power)}"
    return f"{x:.0f}" if abs(x) >= 10 else f"{x:.2g}"


def _source(place: str) -> str:
    """A line of source after its place."""
    path, _, line = place.rpartition(":")
    return f"{Path(path).name}:{line}  {linecache.getline(path, int(line)).strip()}"


def _subject(row: Row) -> str:
    """What a mark is about."""
    if not row.primitive:
        return row.label
    return f"{row.label} {row.primitive}, {Path(row.place).name}"


def _aligned(columns: dict[str, int], rows: Iterable[list[str]]) -> list[str]:
    """The titles and the rows as lines with columns below each other, of figures to the right."""
    rows = [list(columns), *rows]
    widths = [min(limit, max(map(_length, column))) for limit, column in zip(columns.values(), zip(*rows))]
    right = [title in NUMBERS for title in columns]
    return [_cut(" ".join(map(_fitted, row, widths, right)).rstrip(), WIDTH) for row in rows]


def _fitted(text: str, width: int, right: bool) -> str:
    text = _cut(text, width)
    padding = " " * (width - _length(text))
    return padding + text if right else text + padding


def _cut(text: str, width: int) -> str:
    while _length(text) > width:
        text = text[:-2] + "…"
    return text


def _length(text: str) -> int:
    """How many characters wide a text is: the bar of x̄ takes no place of its own."""
    return sum(not unicodedata.combining(character) for character in text)
