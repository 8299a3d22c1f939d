"""A picture of the graph behind a loss: values flow down, gradients flow up."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from ..autodiff import Tensor
from ..files import replacing
from ..nn.module import Module
from .graph import Graph
from .layout import Edge, Group, Layout, Rectangle, lay_out
from .scene import Arrow, Box, Scene

ROUND = {"operation": 3, "leaf": 9, "constant": 9, "loss": 3}  # radius of corners
FILL = {"operation": "#ffffff", "leaf": "#dff0d8", "constant": "#e9e9e9", "loss": "#cfe3f7"}
INK, VALUE, GRADIENT, BAD = "#1b1f24", "#2a6496", "#cf5b05", "#d00000"
TITLE, TEXT, SMALL = 8.0, 7.0, 6.5  # sizes of letters, in points
PADDING = 5  # between a box and its text
APART = 8  # between two texts in a line
FAINTEST = 1e-4  # the share of the largest norm from which on an arrow has the least width
LEGEND = 36  # height of the legend
NARROWEST = 330  # width of a picture, for the legend
DPI = 110
LARGEST = 2**16  # pixels that matplotlib can paint along one side
STRANDS = 1.8  # from the middle of an edge to its arrows
HEAD = 5  # length of an arrow head

LEGEND_OF_BOXES = {
    "operation": "operation",
    "leaf": "parameter or input",
    "constant": "constant",
    "loss": "loss",
}
LEGEND_OF_ARROWS = [
    (HEAD, VALUE, "value: mean ± standard deviation"),
    (-HEAD, GRADIENT, "gradient: its norm; Σ: of the sum of all"),
]


def draw(loss: Tensor, path: str | Path, wrt: Module | None = None) -> None:
    """Write a picture of how a loss was computed, and of how its gradient flows back.

    loss: a Tensor of one element. wrt: a Module that gives names to its parameters and the modules in it.
    path: ends in .png or .svg (needs matplotlib), or in .dot, for Graphviz.

    A box is a call of a primitive, a leaf or a constant, with its shape and the mean ± standard deviation of
    its values. Each edge is a blue arrow down, for the value, and an orange one up, for the gradient that the
    rule of the primitive below sends along it, with its Euclidean norm, and the wider the larger that is;
    where several arrive, Σ is the norm of their sum. What a Module computed is framed. A leaf has a box in
    each frame that uses it; a constant of one element stands in the call itself.

    No `.grad` is touched, and the graph stays usable. Raises ValueError for another suffix and a graph too
    large for a PNG, FileNotFoundError for a folder that is not there, and as `Graph` for the loss; nothing
    is written then."""
    path = Path(path)
    if path.suffix not in (".png", ".svg", ".dot"):
        raise ValueError(f"path: expected a name that ends in .png, .svg or .dot, got {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: expected a folder that exists, got {str(path.parent)!r}")
    graph = Graph(loss, wrt)
    if not graph.nodes:
        raise ValueError("loss: expected a Tensor that was computed, got one that was given")
    scene = Scene(graph, wrt)
    picture = _dot(scene) if path.suffix == ".dot" else _picture(scene, path.suffix[1:])
    with replacing(path) as file:
        file.write(picture)


# matplotlib ---------------------------------------------------------------------------------------------


def _picture(scene: Scene, form: str) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    layout = _layout(scene)
    width, height = max(layout.width, NARROWEST), layout.height + LEGEND
    if form == "png" and max(width, height) * DPI / 72 >= LARGEST:
        raise ValueError(
            f"path: expected a name that ends in .svg or .dot for a graph of {len(scene.boxes)} boxes, got a "
            f".png, which would have more than {LARGEST:,} pixels on one side"
        )
    figure = Figure((width / 72, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=((layout.width - width) / 2, (layout.width + width) / 2), ylim=(layout.height, -LEGEND))
    painter = _Painter(axes)
    painter.paint(scene, layout)
    painter.legend((layout.width - width) / 2 + 8, 8 - LEGEND)
    file = io.BytesIO()
    # Letters as wide as measured; the same graph gets the same file.
    with matplotlib.rc_context({"text.hinting": "no_hinting", "svg.hashsalt": "tinygen"}):
        figure.savefig(file, format=form, dpi=DPI, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def _layout(scene: Scene) -> Layout:
    widths = [
        2 * PADDING
        + max(
            _width(box.title, TITLE, bold=True) + APART + _width(box.form, TEXT),
            _width(box.value, TEXT) + (APART + _width(f"Σ {box.gradient}", TEXT) if box.gradient else 0),
        )
        for box in scene.boxes
    ]
    edges = [Edge(a.start, a.end, 5 + _width(a.label, SMALL) if a.label else 0) for a in scene.arrows]
    groups = [Group(frame.parent, 8 + _width(frame.title, TEXT)) for frame in scene.frames]
    return lay_out(widths, edges, [box.frame for box in scene.boxes], groups)


@cache
def _width(text: str, size: float, bold: bool = False) -> float:
    """The width of a line of text, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


class _Painter:
    """Paints on axes whose unit is a point, with y downwards."""

    def __init__(self, axes):
        self.axes = axes

    def paint(self, scene: Scene, layout: Layout) -> None:
        for frame, border in zip(scene.frames, layout.groups):
            self.rectangle(border, "#3b5b7d12", "#9db2c7", radius=4)
            self.text(border.left + 4, border.top + 6, frame.title, TEXT, "#4b6580")
        largest = max((a.norm for a in scene.arrows if a.norm and math.isfinite(a.norm)), default=1.0)
        for arrow, route in zip(scene.arrows, layout.routes):
            self.arrow(arrow, route, largest)
        for box, border in zip(scene.boxes, layout.boxes):
            self.box(box, border)

    def box(self, box: Box, border: Rectangle) -> None:
        self.rectangle(border, FILL[box.kind], INK, radius=ROUND[box.kind])
        left, right = border.left + PADDING, border.right - PADDING
        first, second = border.top + 7.5, border.top + 18
        self.text(left, first, box.title, TITLE, INK, weight="bold")
        self.text(right, first, box.form, TEXT, "#5a6472", ha="right")
        self.text(left, second, box.value, TEXT, _color(box.value, VALUE))
        if box.gradient:
            self.text(right, second, f"Σ {box.gradient}", TEXT, _color(box.gradient, GRADIENT), ha="right")

    def arrow(self, arrow: Arrow, route: list[tuple[float, float]], largest: float) -> None:
        """Two strands: the value's down, and to its right the gradient's up."""
        (x, top), (x_end, bottom) = route[0], route[-1]
        apart = 0.0 if arrow.norm is None else STRANDS
        self.line(route, -apart, VALUE, 0.9)
        self.head(x_end - apart, bottom, -HEAD, VALUE)
        if arrow.norm is not None:
            color = _color(arrow.label, GRADIENT)
            self.line(route, apart, color, _line_width(arrow.norm, largest))
            self.head(x + apart, top, HEAD, color)
        self.text(x + apart + 4, top + 6, arrow.label, SMALL, _color(arrow.label, GRADIENT))

    def line(self, route: list[tuple[float, float]], shift: float, color: str, width: float) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        strand = [(x + shift, y) for x, y in route]
        for k, ((x, _), (x_next, _)) in enumerate(pairwise(route)):
            if x != x_next:  # parallel also where the curve is flat
                up = shift * math.copysign(1, x_next - x)
                strand[k : k + 2] = [(x, y - up) for x, y in strand[k : k + 2]]
        points, codes = strand[:1], [Path.MOVETO]
        for (x, y), (x_next, y_next) in pairwise(strand):
            if x == x_next:
                codes.append(Path.LINETO)
            else:
                middle = (y + y_next) / 2
                points += [(x, middle), (x_next, middle)]
                codes += [Path.CURVE4] * 3
            points.append((x_next, y_next))
        self.axes.add_patch(PathPatch(Path(points, codes), fill=False, edgecolor=color, linewidth=width))

    def head(self, x: float, tip: float, length: float, color: str) -> None:
        from matplotlib.patches import Polygon

        base = [(x - 2, tip + length), (x + 2, tip + length)]
        self.axes.add_patch(Polygon([(x, tip), *base], facecolor=color, linewidth=0))

    def rectangle(self, border: Rectangle, fill: str, edge: str, radius: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        left, top, right, bottom = border
        style = f"round,pad=0,rounding_size={radius}"
        patch = FancyBboxPatch((left, top), right - left, bottom - top, style)
        patch.set(facecolor=fill, edgecolor=edge, linewidth=0.7)
        self.axes.add_patch(patch)

    def text(self, x: float, y: float, text: str, size: float, color: str, **more) -> None:
        self.axes.text(x, y, text, size=size, color=color, va="center_baseline", parse_math=False, **more)

    def legend(self, x: float, y: float) -> None:
        """In two lines, from a point at the left."""
        right = x
        for kind, what in LEGEND_OF_BOXES.items():
            self.rectangle(Rectangle(right, y, right + 12, y + 8), FILL[kind], INK, radius=ROUND[kind] / 2)
            self.text(right + 16, y + 4, what, TEXT, INK)
            right += 28 + _width(what, TEXT)
        for length, color, what in LEGEND_OF_ARROWS:
            self.line([(x + 2, y + 15), (x + 2, y + 25)], 0, color, 1.2)
            self.head(x + 2, y + 20 + length, -length, color)
            self.text(x + 8, y + 20, what, TEXT, color)
            x += 20 + _width(what, TEXT)


def _line_width(norm: float, largest: float) -> float:
    """The wider, the larger the gradient is, by order of magnitude."""
    share = 1.0 if not math.isfinite(norm) else max(norm / largest, FAINTEST)
    return 2.2 - 1.6 * math.log(share) / math.log(FAINTEST)


def _color(text: str, usual: str) -> str:
    return BAD if "nan" in text.lower() or "inf" in text else usual


# Graphviz -----------------------------------------------------------------------------------------------


def _dot(scene: Scene) -> bytes:
    lines = [
        "digraph gradients {",
        '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=10];',
        '  edge [fontname="Helvetica", fontsize=8];',
        *_cluster(scene, None, "  "),
    ]
    for arrow in scene.arrows:
        label = f"label={_quoted(arrow.label)}, fontcolor={_quoted(GRADIENT)}"
        if arrow.norm is None:
            lines.append(f'  n{arrow.start} -> n{arrow.end} [color="{VALUE}", {label}];')
        else:
            lines.append(f'  n{arrow.start} -> n{arrow.end} [color="{VALUE}"];')
            lines.append(f'  n{arrow.end} -> n{arrow.start} [color="{GRADIENT}", constraint=false, {label}];')
    return "\n".join([*lines, "}", ""]).encode()


def _cluster(scene: Scene, frame: int | None, indent: str) -> Iterator[str]:
    """The boxes and frames in a frame."""
    for number, box in enumerate(scene.boxes):
        if box.frame == frame:
            gradient = f"Σ {box.gradient}" if box.gradient else ""
            text = "\n".join(filter(None, (f"{box.title}  {box.form}", box.value, gradient)))
            yield f'{indent}n{number} [label={_quoted(text)}, fillcolor="{FILL[box.kind]}"];'
    for number, inner in enumerate(scene.frames):
        if inner.parent == frame:
            yield f"{indent}subgraph cluster_{number} {{"
            yield f"{indent}  label={_quoted(inner.title)};"
            yield from _cluster(scene, number, indent + "  ")
            yield f"{indent}}}"


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
