"""Layouts keep their promises on any graph; pictures show what a graph holds, and are written whole or not
at all."""

import os
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn, ops
from tinygen.backend import xp
from tinygen.gradients.draw import _layout, draw
from tinygen.gradients.graph import Graph
from tinygen.gradients.layout import Edge, Group, Rectangle, lay_out
from tinygen.gradients.scene import Scene
from tinygen.models.latent.vae import VAE

# Layouts ------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw, most=14):
    """What `lay_out` takes. Edges lead from smaller to larger numbers, also twice between the same two nodes;
    groups are intervals of numbers."""
    n = draw(st.integers(1, most))
    pairs = st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True).map(sorted)
    edges = draw(st.lists(pairs, max_size=2 * n)) if n > 1 else []
    homes, groups = [None] * n, []

    def add_groups(first, last, parent):
        while first < last:
            end = draw(st.integers(first + 1, last))
            if len(groups) < 8 and draw(st.booleans()):
                number = len(groups)
                groups.append(Group(parent, draw(st.floats(20, 120))))
                homes[first:end] = [number] * (end - first)
                add_groups(first + draw(st.integers(0, 1)), end, number)
            first = end

    add_groups(0, n, None)
    widths = draw(st.lists(st.floats(20, 150), min_size=n, max_size=n))
    return widths, [Edge(*pair, draw(st.floats(0, 50))) for pair in edges], homes, groups


def around(home, groups):
    """The groups around a node or a group."""
    while home is not None:
        yield home
        home = groups[home].parent


def overlap(a, b):
    """Whether two rectangles have more than a border in common."""
    wide, high = min(a.right, b.right) - max(a.left, b.left), min(a.bottom, b.bottom) - max(a.top, b.top)
    return wide > 0.02 and high > 0.02


def within(a, b):
    return b.left <= a.left and b.top <= a.top and a.right <= b.right and a.bottom <= b.bottom


def spots(route):
    """Small squares along a route, close to each other."""
    for (x, y), (x_next, y_next) in pairwise(route):
        for t in np.linspace(0, 1, 13):
            # A cubic Bézier curve, its inner control points at half the height.
            rise = 1.5 * (1 - t) * t + t**3
            shift = 3 * (1 - t) * t**2 + t**3
            a, b = x + shift * (x_next - x), y + rise * (y_next - y)
            yield Rectangle(a - 0.5, b - 0.5, a + 0.5, b + 0.5)


@given(graphs())
def test_every_edge_goes_down(graph):
    _, edges, _, _ = graph
    layout = lay_out(*graph)
    for edge, route in zip(edges, layout.routes):
        start, end = layout.boxes[edge.start], layout.boxes[edge.end]
        assert layout.layers[edge.start] < layout.layers[edge.end] and start.bottom < end.top
        assert route[0][1] == start.bottom and start.left < route[0][0] < start.right
        assert route[-1][1] == end.top and end.left < route[-1][0] < end.right
        assert all(y <= y_next for (_, y), (_, y_next) in pairwise(route))


@given(graphs())
def test_boxes_and_groups_lie_beside_each_other_or_within(graph):
    widths, _, homes, groups = graph
    layout = lay_out(*graph)
    picture = Rectangle(0, 0, layout.width, layout.height)
    assert all(within(box, picture) for box in [*layout.boxes, *layout.groups])
    assert all(box.right - box.left >= width - 1e-9 for box, width in zip(layout.boxes, widths))
    assert not any(overlap(a, b) for a, b in combinations(layout.boxes, 2))
    for box, home in zip(layout.boxes, homes):
        for group, border in enumerate(layout.groups):
            assert within(box, border) if group in around(home, groups) else not overlap(box, border)
    for (a, one), (b, other) in combinations(enumerate(layout.groups), 2):  # a comes before b
        assert within(other, one) if a in around(b, groups) else not overlap(one, other)


@given(graphs())
def test_edges_and_their_labels_keep_clear_of_boxes(graph):
    _, edges, _, _ = graph
    layout = lay_out(*graph)
    for edge, route in zip(edges, layout.routes):
        x, y = route[0]
        label = Rectangle(x + 3, y + 1, x + edge.room, y + 11)
        assert not any(overlap(label, box) for box in layout.boxes)
        others = [box for node, box in enumerate(layout.boxes) if node not in edge[:2]]
        assert not any(overlap(spot, box) for spot in spots(route) for box in others)


@given(graphs())
def test_labels_and_titles_are_not_crossed(graph):
    _, edges, _, groups = graph
    layout = lay_out(*graph)
    labels = []
    for edge, route in zip(edges, layout.routes):
        x, y = route[0]
        labels.append(Rectangle(x + 3, y + 1, x + edge.room, y + 11))
    titles = [
        Rectangle(border.left, border.top, border.left + group.width - 3, border.top + 12)
        for group, border in zip(groups, layout.groups)
    ]
    texts = labels + titles
    assert not any(overlap(a, b) for a, b in combinations(texts, 2))
    for route in layout.routes:
        assert not any(overlap(spot, text) for spot in spots(route) for text in texts)


@given(graphs(most=8))
def test_layouts_are_deterministic(graph):
    assert lay_out(*graph) == lay_out(*graph)


def test_a_chain_is_straight_and_a_late_leaf_near():
    edges = [Edge(0, 1, 0), Edge(1, 2, 0), Edge(2, 3, 0), Edge(4, 3, 0)]
    layout = lay_out([50] * 5, edges, [None] * 5, [])
    assert layout.layers == [0, 1, 2, 3, 2]
    assert all(len({x for x, _ in route}) == 1 for route in layout.routes[:2])


def test_crossings_are_removed():
    # Two chains whose ends are numbered the wrong way round.
    layout = lay_out([50] * 4, [Edge(0, 3, 0), Edge(1, 2, 0)], [None] * 4, [])
    (a, *_, b), (c, *_, d) = layout.routes
    assert (a < c) == (b < d)


def test_a_group_that_is_left_and_entered_again_is_refused():
    with pytest.raises(ValueError, match="without cycles, also if each group is shrunk"):
        lay_out([50] * 3, [Edge(0, 1, 0), Edge(1, 2, 0)], [0, None, 0], [Group(None, 10)])


# Scenes -------------------------------------------------------------------------------------------------


def vae():
    tg.seed(0)
    encoder = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    decoder = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 6))
    model = VAE(encoder, decoder, 2)
    return model, model.loss(xp.asarray((np.arange(18).reshape(3, 6) % 2).astype("float32")))


def penalized():
    """A critic's loss with a gradient in it, after I. Gulrajani et al., Improved training of Wasserstein
    GANs, 2017, and the point at which the gradient is taken."""
    tg.seed(0)
    critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x = tg.Tensor(np.linspace(-1, 1, 8).reshape(4, 2).astype("float32"), requires_grad=True, name="x")
    (g,) = tg.grad(critic(x).sum(), x, create_graph=True)
    return critic, critic(x).mean() + 10 * ((ops.norm(g, axis=1) - 1) ** 2).mean(), x


def test_a_scene_has_all_calls_and_leaves_with_their_figures(device):
    w = tg.Tensor([3.0, 4.0], requires_grad=True, name="w")
    loss = (w * xp.asarray(np.array([1, 2], "float32")) * 0.5).sum()
    scene = Scene(Graph(loss))
    assert [(box.kind, box.title) for box in scene.boxes] == [
        ("leaf", "w"),
        ("constant", "constant"),
        ("operation", "multiply"),
        ("operation", "multiply(·, 0.5)"),
        ("loss", "sum"),
    ]
    assert [box.form for box in scene.boxes] == ["2", "2", "2", "2", "scalar"]
    assert [box.value for box in scene.boxes] == ["3.5 ± 0.5", "1.5 ± 0.5", "5.5 ± 2.5", "2.75 ± 1.25", "5.5"]
    assert [arrow[:2] for arrow in scene.arrows] == [(0, 2), (1, 2), (2, 3), (3, 4)]
    norms = [arrow.norm for arrow in scene.arrows]  # of [0.5, 1], of nothing, of [0.5, 0.5], of [1, 1]
    assert norms[1] is None and scene.arrows[1].label == ""
    np.testing.assert_allclose([norms[0], *norms[2:]], np.sqrt([1.25, 0.5, 2.0]), rtol=1e-6)
    assert scene.arrows[0].label == "1.12"


def test_gradients_that_meet_are_told_apart_and_summed():
    x = tg.Tensor([1.0, 1.0], requires_grad=True)
    b = tg.Tensor([1.0], requires_grad=True, name="b")  # its gradient is summed over a broadcast axis
    scene = Scene(Graph((x * x + 3 * x + b).sum()))
    (box,) = [box for box in scene.boxes if box.title == "leaf"]
    norms = sorted(arrow.norm for arrow in scene.arrows if scene.boxes[arrow.start] is box)
    np.testing.assert_allclose(norms, np.sqrt([2, 2, 18]), rtol=1e-6)
    assert box.gradient == "7.07"  # of [5, 5]
    (b,) = [arrow for arrow in scene.arrows if scene.boxes[arrow.start].title == "b"]
    assert b.norm == 2


def test_outputs_are_numbered_and_unusual_dtypes_named():
    x = tg.Tensor(np.arange(4.0), requires_grad=True)
    first, second = ops.split(x, 2)
    scene = Scene(Graph((first * ops.exp(second)).sum()))
    split = next(number for number, box in enumerate(scene.boxes) if box.title == "split")
    assert scene.boxes[split].form == "2 float64, 2 float64"
    labels = {arrow.label for arrow in scene.arrows if arrow.start == split}
    assert {label.split()[0] for label in labels} == {"[0]", "[1]"}


def test_what_is_not_finite_is_counted():
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = (tg.Tensor([0.0, 1.0], requires_grad=True) ** -1.0).sum()
        scene = Scene(Graph(loss))
    assert scene.boxes[1].value == "0 NaN, 1 inf" and scene.arrows[0].label == "nan"


def framed(scene):
    """Box -> the titles of the frames around it, the outermost first."""
    frames = scene.frames
    titles = [[frames[f].title for f in around(box.frame, frames)][::-1] for box in scene.boxes]
    return [(box.title, *titles) for box, titles in zip(scene.boxes, titles)]


def test_boxes_stand_in_the_frames_of_their_modules():
    model, loss = vae()
    boxes = framed(Scene(Graph(loss, model), model))
    first, last = "layers.0  Linear", "layers.2  Linear"
    for network in ("encoder  Sequential", "decoder  Sequential"):
        assert [box for box in boxes if network in box] == [
            *((name, network, first) for name in ("weight", "bias", "linear")),
            ("relu", network),  # its own frame would hold nothing else
            *((name, network, last) for name in ("weight", "bias", "linear")),
        ]
    assert ("split",) in boxes and ("bernoulli_log_likelihood",) in boxes


def test_modules_frame_what_they_hold_without_wrt_too():
    class Cell(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 2)
            self.scale = tg.Tensor(2.0, requires_grad=True)
            self.shift = tg.Tensor([1.0, 2.0])

        def forward(self, x):
            return self.inner(x) * self.scale + self.shift

    x = tg.Tensor([[1.0, 2.0]], requires_grad=True, name="x")
    assert framed(Scene(Graph(Cell()(x).sum()))) == [
        ("x",),
        *((name, "Cell", "inner  Linear") for name in ("weight", "bias", "linear")),
        *((name, "Cell") for name in ("scale", "multiply", "shift", "add")),
        ("sum",),
    ]


def test_modules_that_hold_each_other_are_framed():
    outer, inner = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)
    outer.inner, inner.outer = inner, outer
    loss = outer(inner(tg.Tensor([[1.0, 2.0]]))).sum()
    titles = {title for _, *frames in framed(Scene(Graph(loss))) for title in frames}
    assert titles >= {"layers.0  Linear"}


def test_a_leaf_stands_wherever_it_is_used():
    critic, loss, _ = penalized()
    scene = Scene(Graph(loss, critic), critic)
    boxes = framed(scene)
    places = [("layers.0.weight",), ("weight", "layers.0  Linear")]
    weights = [k for k, box in enumerate(boxes) if box in places]
    # Where the gradient was computed, and in both forward passes.
    assert sorted(boxes[k] for k in weights) == [places[0], places[1], places[1]]
    assert len({scene.boxes[k].gradient for k in weights}) == 1
    assert len([box for box in boxes if box == ("x",)]) == 1


def recurrent():
    """Three steps of a cell, and a loss at each."""
    tg.seed(0)
    cell, h, loss = nn.GRUCell(3, 4), xp.zeros((2, 4), "float32"), 0
    for _ in range(3):
        h = cell(xp.ones((2, 3), "float32"), h)
        loss = loss + (h * h).sum()
    return cell, loss


@pytest.mark.parametrize("make", [vae, penalized, recurrent])
def test_edges_keep_clear_of_foreign_frames(make):
    pytest.importorskip("matplotlib")
    model, loss, *_ = make()
    scene = Scene(Graph(loss, model), model)
    layout = _layout(scene)
    assert len(layout.groups) > 2
    for arrow, route in zip(scene.arrows, layout.routes):
        own = {f for end in arrow[:2] for f in around(scene.boxes[end].frame, scene.frames)}
        foreign = [border for frame, border in enumerate(layout.groups) if frame not in own]
        assert not any(overlap(spot, border) for spot in spots(route) for border in foreign)


# Files --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["vae", "penalized"])
def example(request):
    model, loss, *_ = {"vae": vae, "penalized": penalized}[request.param]()
    return model, loss, Scene(Graph(loss, model), model)


def test_png(example, tmp_path):
    pytest.importorskip("matplotlib")
    model, loss, _ = example
    draw(loss, tmp_path / "graph.png", wrt=model)
    content = (tmp_path / "graph.png").read_bytes()
    width, height = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))
    assert content.startswith(b"\x89PNG") and 300 < width < 3000 and 1000 < height < 4000


def test_svg_is_valid_and_the_same_each_time(example, tmp_path):
    pytest.importorskip("matplotlib")
    model, loss, scene = example
    for name in ("a.svg", "b.svg"):
        draw(loss, str(tmp_path / name), wrt=model)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag.endswith("svg")
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > len(scene.boxes) + 2 * len(scene.arrows)


STRING = r'"(?:[^"\\]|\\.)*"'
ATTRIBUTES = rf"\[\w+=(?:{STRING}|\w+)(?:, \w+=(?:{STRING}|\w+))*\]"
STATEMENT = re.compile(
    rf"(?:(?:node|edge|n\d+|n\d+ -> n\d+) {ATTRIBUTES};|label={STRING};|subgraph cluster_\d+ \{{|\}})$"
)


def test_dot_has_every_box_arrow_and_frame(example, tmp_path):
    model, loss, scene = example
    draw(loss, tmp_path / "graph.dot", wrt=model)
    first, *lines = (tmp_path / "graph.dot").read_text(encoding="utf-8").splitlines()
    assert first == "digraph gradients {"
    assert all(STATEMENT.match(line.strip()) for line in lines)
    text = "\n".join([first, *lines])
    outside = re.sub(STRING, "", text)
    assert outside.count("{") == outside.count("}") == 1 + len(scene.frames)
    assert {int(n) for n in re.findall(r"^ *n(\d+) \[", text, re.M)} == set(range(len(scene.boxes)))
    edges = [(int(a), int(b)) for a, b in re.findall(r"n(\d+) -> n(\d+) \[", text)]
    down = [(arrow.start, arrow.end) for arrow in scene.arrows]
    up = [(arrow.end, arrow.start) for arrow in scene.arrows if arrow.norm is not None]
    assert sorted(edges) == sorted(down + up)


def test_dot_quotes_names(tmp_path):
    x = tg.Tensor(1.0, requires_grad=True, name='a "b" \\ c')
    draw(x * 2, tmp_path / "graph.dot")
    assert r'label="a \"b\" \\ c  scalar\n1"' in (tmp_path / "graph.dot").read_text(encoding="utf-8")


def test_drawing_leaves_no_trace(device, tmp_path):
    w = tg.Tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    draw(loss, tmp_path / "graph.dot")
    assert w.grad is None
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), [2, 4])


def test_some_hundred_nodes(tmp_path):
    pytest.importorskip("matplotlib")
    cell, h = nn.Linear(3, 3), tg.Tensor(np.ones((2, 3), "float32"))
    for _ in range(40):
        h = ops.tanh(cell(h)) * ops.sigmoid(h) + h
    scene = Scene(Graph(h.sum()))
    assert len(scene.boxes) > 250
    draw(h.sum(), tmp_path / "graph.svg")
    assert ElementTree.parse(tmp_path / "graph.svg").getroot().tag.endswith("svg")


def test_bad_input_is_refused_and_nothing_written(tmp_path):
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()

    def refused(error, match, loss=loss, name="graph.dot", wrt=None):
        with pytest.raises(error, match=match):
            draw(loss, tmp_path / name, wrt)

    refused(
        ValueError,
        "path: expected a name that ends in .png, .svg or .dot, got '.*graph.gif'",
        name="graph.gif",
    )
    refused(FileNotFoundError, "path: expected a folder that exists, got '.*none'", name="none/graph.png")
    refused(TypeError, "loss: expected a Tensor, got float", loss=1.0)
    refused(TypeError, "wrt: expected a Module, got Tensor", wrt=x)
    refused(ValueError, "loss: expected a Tensor of one element", loss=x * x)
    refused(ValueError, "loss: expected a Tensor with a history", loss=x.detach().sum())
    refused(ValueError, "loss: expected a Tensor that was computed", loss=tg.Tensor(1.0, requires_grad=True))
    loss.backward()
    refused(RuntimeError, "loss: its graph was freed")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_fails_leaves_the_old_one_alone(tmp_path, monkeypatch):
    (tmp_path / "graph.dot").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda number: 1 / 0)  # as where the disk is full
    with pytest.raises(ZeroDivisionError):
        draw(tg.Tensor(1.0, requires_grad=True) * 2, tmp_path / "graph.dot")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("graph.dot", "old")]


def test_a_graph_too_large_for_pixels_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    y = tg.Tensor(1.0, requires_grad=True)
    for _ in range(1000):
        y = ops.tanh(y)
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .* for a graph of 1001 boxes"):
        draw(y, tmp_path / "graph.png")
    assert not list(tmp_path.iterdir())
