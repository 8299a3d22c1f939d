"""What a picture of a graph shows: boxes, the arrows between them, and frames around the calls of modules."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ..autodiff import Leaf, Node, Output, _fitted
from ..nn.module import Module, _find
from .graph import Graph, Input, node_of, numbers_of


class Box(NamedTuple):
    """kind: "operation", "leaf", "constant" or "loss". form: shape, and dtype if it is not float32. value:
    mean ± standard deviation. gradient: the norm of the sum of all that arrive, where they are several.
    frame: the number of the innermost one around it, or None."""

    kind: str
    title: str
    form: str
    value: str
    gradient: str
    frame: int | None


class Arrow(NamedTuple):
    """start, end: numbers of boxes. norm: Euclidean, of the gradient that flows back; None where none does.
    label: this norm, after the number of the output of a primitive that has several."""

    start: int
    end: int
    norm: float | None
    label: str


class Frame(NamedTuple):
    """title: name and class of the module. parent: the number of the frame around it, or None."""

    title: str
    parent: int | None


class Scene:
    """boxes: each after those that lead to it; a leaf has one in each frame that uses it.
    frames: each after the one around it. It holds what a module computed until something else was."""

    def __init__(self, graph: Graph, wrt: Module | None = None):
        self.boxes: list[Box] = []
        self.arrows: list[Arrow] = []
        self.frames: list[Frame] = []
        self._graph = graph
        self._modules = _Modules(graph, wrt)
        self._running: list[tuple[Module, int]] = []  # modules and their frames, the outermost first
        self._numbers: dict[Node, int] = {}  # of boxes
        self._leaves: dict[tuple[Leaf, int | None], int] = {}  # of boxes, one in each frame
        self._uses = Counter(node_of(source) for node in graph.nodes for source in node.sources)
        for node in graph.nodes:
            self._enter(self._modules.around(node.module))
            self._add_call(node)
        self.boxes[-1] = self.boxes[-1]._replace(kind="loss")
        self._drop_frames_of_one()

    def _enter(self, modules: list[Module]) -> None:
        """Close the frames of modules that have returned, and open those of modules that were called."""
        running = [module for module, _ in self._running]
        kept = next((k for k, (a, b) in enumerate(zip(running, modules)) if a is not b), len(modules))
        del self._running[kept:]
        for module in modules[len(self._running) :]:
            self.frames.append(Frame(self._modules.title(module), self._frame()))
            self._running.append((module, len(self.frames) - 1))

    def _add_call(self, node: Node) -> None:
        inputs = self._graph.inputs(node)
        starts = [self._start(x) for x in inputs]
        given = ["·" if start is not None else _short(_number(x.value)) for start, x in zip(starts, inputs)]
        title = node.plan.primitive.name
        if set(given) != {"·"}:
            title += f"({', '.join(given)})"
        self._numbers[node] = len(self.boxes)
        self.boxes.append(self._box("operation", title, node, self._frame()))
        for position, start in enumerate(starts):
            if start is not None:
                self._add_arrow(start, node, position)

    def _start(self, x: Input) -> int | None:
        """The number of the box that an input comes from, made if need be; None for a constant of one
        element, which has no box."""
        source = node_of(x.source)
        if source is None:
            if getattr(x.value, "size", 1) == 1:
                return None
            name, frame = self._kept(x.value)
            form = _form(x.value.shape, x.value.dtype)
            self.boxes.append(Box("constant", name or "constant", form, _summary(x.value), "", frame))
            return len(self.boxes) - 1
        if type(source) is Node:
            return self._numbers[source]
        name, frame = self._kept(source.tensor())
        if (source, frame) not in self._leaves:
            self._leaves[source, frame] = len(self.boxes)
            title = name or self._graph.names.get(source, "leaf")
            self.boxes.append(self._box("leaf", title, source, frame))
        return self._leaves[source, frame]

    def _kept(self, what) -> tuple[str, int | None]:
        """Of the running modules the innermost that keeps this Tensor, or one with this array: the name that
        it has there, and the frame."""
        for module, frame in reversed(self._running):
            name = self._modules.names(module).get(id(what))
            if name:
                return name, frame
        return "", None

    def _frame(self) -> int | None:
        return self._running[-1][1] if self._running else None

    def _box(self, kind: str, title: str, source: Leaf | Node, frame: int | None) -> Box:
        gradient = ""
        if self._uses[source] > 1:
            gradient = _short(_norm(self._graph.gradient(source)))
        value = _summary(self._graph.value(source))
        return Box(kind, title, _form(source.shape, source.dtype), value, gradient, frame)

    def _add_arrow(self, start: int, node: Node, position: int) -> None:
        source, norm = node.sources[position], None
        contribution = self._graph.contributions.get((node, position))
        if contribution is not None:
            norm = _norm(_fitted(contribution, source, node.plan.primitive))
        output = f"[{source.index}]" if type(source) is Output else ""
        label = f"{output} {_short(norm)}".strip()
        self.arrows.append(Arrow(start, self._numbers[node], norm, label))

    def _drop_frames_of_one(self) -> None:
        """Take out each frame that holds one box, and says no more than that."""
        boxes = Counter(frame for box in self.boxes for frame in self._around(box.frame))
        kept = [frame for frame in range(len(self.frames)) if boxes[frame] > 1]
        number = {frame: place for place, frame in enumerate(kept)}

        def nearest(frame: int | None) -> int | None:
            return next((number[f] for f in self._around(frame) if f in number), None)

        self.boxes = [box._replace(frame=nearest(box.frame)) for box in self.boxes]
        self.frames = [self.frames[f]._replace(parent=nearest(self.frames[f].parent)) for f in kept]

    def _around(self, frame: int | None) -> Iterator[int]:
        """A frame and those around it, the innermost first."""
        while frame is not None:
            yield frame
            frame = self.frames[frame].parent


class _Modules:
    """Which module lies in which: below `wrt`, and below each one that computed something."""

    def __init__(self, graph: Graph, wrt: Module | None):
        modules = [node.module for node in graph.nodes if node.module is not None]
        self._whole = wrt if all(module is not wrt for module in modules) else None  # it needs no frame
        self._holders: dict[int, tuple[Module, str]] = {}  # id -> what holds it, and its name there
        self._names: dict[int, dict[int, str]] = {}
        seen: set[int] = set()
        for module in modules if wrt is None else [wrt, *modules]:
            self._look_into(module, seen)

    def _look_into(self, holder: Module, seen: set[int]) -> None:
        if id(holder) not in seen:
            seen.add(id(holder))
            for name, module in _find(Module, holder, set()):
                if all(module is not outer for outer in (self._whole, *self.around(holder))):
                    self._holders.setdefault(id(module), (holder, name))
                self._look_into(module, seen)

    def around(self, module: Module | None) -> list[Module]:
        """A module and those around it, the outermost first; without wrt, unless that computed itself."""
        chain: list[Module] = []
        while module is not None and module is not self._whole:
            chain.append(module)
            module, _ = self._holders.get(id(module), (None, ""))
        return chain[::-1]

    def title(self, module: Module) -> str:
        """Its name where it is held, and its class."""
        _, name = self._holders.get(id(module), (None, ""))
        return f"{name}  {type(module).__name__}".strip()

    def names(self, module: Module) -> dict[int, str]:
        """The names of the Tensors that a module keeps, by the id of each and by that of its array."""
        if id(module) not in self._names:
            names = self._names[id(module)] = {}
            for name, tensor in module._tensors():
                names[id(tensor)] = names[id(tensor.data)] = name
        return self._names[id(module)]


# Figures in words ---------------------------------------------------------------------------------------


def _norm(array) -> float | None:
    """The Euclidean norm of an array, or of a tuple of them; NaN where not all is finite, None where there is
    nothing."""
    numbers = numbers_of(array) if array is not None else None
    if numbers is None:
        return None
    return numbers.norm if numbers.finite else math.nan


def _summary(value) -> str:
    """Mean ± standard deviation, or the one element itself; how many are not finite, if any are not."""
    numbers = numbers_of(value) if value is not None else None
    if numbers is None:
        return ""
    if not numbers.finite:
        return f"{numbers.nans} NaN, {numbers.infinities} inf"
    return _short(numbers.mean) + (f" ± {_short(numbers.spread)}" if numbers.size > 1 else "")


def _number(value) -> float:
    """A Python number, or the element of an array of one."""
    return value.item() if hasattr(value, "item") else value


def _short(number: float | None) -> str:
    if number is None:
        return ""
    text = f"{number:.3g}".replace("e-0", "e-").replace("e+0", "e")
    return text.replace("-", "−")


def _form(shape, dtype) -> str:
    """8×64, and the dtype if it is not float32; those of all outputs where there are several."""
    if type(dtype) is tuple:
        return ", ".join(map(_form, shape, dtype))
    sizes = "×".join(map(str, shape)) or "scalar"
    return sizes if dtype == "float32" else f"{sizes} {dtype}"
