"""Calls of primitives: inputs inside the domain that a primitive declares, with static arguments that fit.

Three domains are of several inputs together:

    matrix product: a, b of any batch axes that broadcast; also with one of them transposed
    affine: x (N, I), weight (I, O), bias (O,)
    scaled rows: x (N, D), a (D,), b (D,)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import numpy as np  # strategies work on the host
from hypothesis import strategies as st

from ...autodiff import registry
from ...backend import xp
from ...ops.blocks import staircase
from .arrays import (
    DOMAINS,
    STRUCTURED,
    alike,
    array_shapes,
    arrays,
    axes,
    broadcastable_shapes,
    generators,
    indices,
    one_axis,
)


class Call(NamedTuple):
    """Arguments of a primitive or another function: its inputs, float64, and its static arguments by name."""

    inputs: list
    static: dict


def on_device(value):
    """The same value with its arrays, also those in tuples, on the current device."""
    if isinstance(value, tuple):
        return tuple(map(on_device, value))
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


@st.composite
def calls(draw, primitive) -> Call:
    """Calls of a primitive: inside the domain that it declares, and over the structure that STRUCTURES gives
    for it, if it is tinygen's own and needs one.

    Raises LookupError for a primitive without a domain, with an unknown one, or with static arguments and no
    entry in STRUCTURES."""
    known = primitive.primitive
    if known.domain is None:
        raise LookupError(f"{known.name}: declares no domain")
    if registry.get(known.name) is primitive and known.name in STRUCTURES:
        return draw(STRUCTURES[known.name](known))
    if known.static:
        raise LookupError(f"{known.name}: STRUCTURES has no entry for its static arguments")
    if isinstance(known.domain, dict):
        return draw(elementwise(known))
    if known.domain in TOGETHER:
        return Call(draw(TOGETHER[known.domain]()), {})
    if known.domain in STRUCTURED and len(known.inputs) == 1:
        return Call([draw(arrays(domain=known.domain))], {})
    return draw(elementwise(known))


@st.composite
def elementwise(draw, known, **static) -> Call:
    """Calls on inputs of one shape, or of shapes that broadcast if the primitive does; `static` gives a
    strategy for each static argument."""
    domain, names = known.domain, known.inputs
    words = [domain.get(name) if isinstance(domain, dict) else domain for name in names]
    for name, word in zip(names, words):
        if word not in DOMAINS:
            raise LookupError(f"{known.name}: {name}: expected a domain in {list(DOMAINS)}, got {word!r}")
    if known.broadcasts:
        shapes = draw(broadcastable_shapes(len(names)))
    else:
        shapes = [draw(array_shapes())] * len(names)
    if len(set(words)) == 1:
        inputs = draw(alike(shapes, words[0]))
    else:
        inputs = [draw(arrays(shape, word)) for shape, word in zip(shapes, words)]
    return Call(inputs, {name: draw(values) for name, values in static.items()})


@st.composite
def _matrix_product(draw, transposed: str = ""):
    rows, inner, columns = draw(st.tuples(*[st.integers(0, 3)] * 3))
    batch_a, batch_b = draw(broadcastable_shapes(2, max_dims=2, max_side=2))
    a = (inner, rows) if transposed == "a" else (rows, inner)
    b = (columns, inner) if transposed == "b" else (inner, columns)
    return draw(alike([(*batch_a, *a), (*batch_b, *b)]))


@st.composite
def _affine(draw):
    n, i, o = draw(st.tuples(*[st.integers(0, 3)] * 3))
    return draw(alike([(n, i), (i, o), (o,)]))


@st.composite
def _scaled_rows(draw):
    n, d = draw(st.tuples(*[st.integers(0, 3)] * 2))
    return draw(alike([(n, d), (d,), (d,)]))


TOGETHER: dict[str, Callable] = {
    "matrix product": _matrix_product,
    "matrix product, a transposed": lambda: _matrix_product("a"),
    "matrix product, b transposed": lambda: _matrix_product("b"),
    "affine": _affine,
    "scaled rows": _scaled_rows,
}


# Calls of primitives whose static arguments depend on their inputs ----------------------------------------


def _on_shape(static: Callable, **limits) -> Callable:
    """Calls on one array: `static` gives for its shape a strategy for each static argument."""

    @st.composite
    def strategy(draw, known) -> Call:
        shape = draw(array_shapes(**limits))
        x = draw(arrays(shape, known.domain))
        return Call([x], {name: draw(values) for name, values in static(shape).items()})

    return strategy


def _on_axes(least: int = 0, axis: Callable = axes, **static) -> Callable:
    """Calls on one array with an `axis` along which there are `least` elements or more."""

    @st.composite
    def strategy(draw, known) -> Call:
        shape = draw(array_shapes(min_dims=0 if axis is axes and least < 2 else 1))
        chosen = draw(axis(len(shape)).filter(lambda chosen: least < 2 or chosen != ()))
        along = chosen if isinstance(chosen, tuple) else range(len(shape)) if chosen is None else [chosen]
        along = [a % len(shape) for a in along]
        x = draw(arrays([max(n, least) if a in along else n for a, n in enumerate(shape)], known.domain))
        return Call([x], {"axis": chosen, **{name: draw(values) for name, values in static.items()}})

    return strategy


@st.composite
def _where(draw, known) -> Call:
    *shapes, condition = draw(broadcastable_shapes(3))
    mask = draw(generators).random(condition) < 0.5
    return Call(draw(alike(shapes, known.domain)), {"condition": mask})


@st.composite
def _clip(draw, known) -> Call:
    """Bounds half-way between neighbouring values of x: a number, an array, or none."""
    shape, bounds_shape = draw(broadcastable_shapes(2))
    x = draw(arrays(shape, "distinct"))
    ends = np.sort([-3.0, *x.ravel(), 3.0])
    between = (ends[1:] + ends[:-1]) / 2
    a_min = float(draw(st.sampled_from(between)))
    a_max = draw(generators).choice(between[between >= a_min], bounds_shape)
    a_min, a_max = draw(st.sampled_from([(a_min, a_max), (a_min, None), (None, a_max)]))
    return Call([x], {"a_min": a_min, "a_max": a_max})


@st.composite
def _broadcast_to(draw, known) -> Call:
    shapes = draw(broadcastable_shapes(2))
    return Call([draw(arrays(shapes[0], known.domain))], {"shape": np.broadcast_shapes(*shapes)})


@st.composite
def _scatter(draw, known) -> Call:
    shape = draw(array_shapes())
    index = draw(indices(shape))
    y = draw(arrays(np.empty(shape)[index].shape, known.domain))
    return Call([y], {"index": index, "shape": shape})


@st.composite
def _permuted(draw, known) -> Call:
    shape = draw(array_shapes(min_dims=1))
    places = np.array(draw(st.permutations(range(shape[-1]))), "int64")
    return Call([draw(arrays(shape, known.domain))], {"places": places, "back": places.argsort()})


@st.composite
def _stack(draw, known) -> Call:
    shape = draw(array_shapes(max_dims=2))
    xs = draw(alike([shape] * draw(st.integers(1, 3)), known.domain))
    return Call(xs, {"axis": draw(st.integers(0, len(shape)))})


@st.composite
def _concatenate(draw, known) -> Call:
    shape = draw(array_shapes(min_dims=1))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    xs = draw(alike([(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes], known.domain))
    return Call(xs, {"axis": axis, "starts": tuple(accumulate(sizes, initial=0))})


@st.composite
def _split(draw, known) -> Call:
    shape = draw(array_shapes(min_dims=1))
    axis = draw(st.integers(0, len(shape) - 1))
    cuts = sorted(draw(st.lists(st.integers(0, shape[axis]), max_size=3)))
    return Call([draw(arrays(shape, known.domain))], {"axis": axis, "starts": (0, *cuts, shape[axis])})


def _on_matrices(shapes: Callable, **static) -> Callable:
    """Calls on matrices with elements along `axis`: `shapes` gives those of the inputs, for the shape of a
    matrix and that shape with the axis kept as 1."""

    @st.composite
    def strategy(draw, known) -> Call:
        axis = draw(st.integers(0, 1))
        shape = [draw(st.integers(0, 3)), draw(st.integers(0, 3))]
        shape[axis] = max(shape[axis], 1)
        kept = tuple(1 if a == axis else size for a, size in enumerate(shape))
        domain = known.domain if isinstance(known.domain, dict) else dict.fromkeys(known.inputs, known.domain)
        inputs = [draw(arrays(s, word)) for s, word in zip(shapes(tuple(shape), kept), domain.values())]
        return Call(inputs, {"axis": axis, **{name: draw(values) for name, values in static.items()}})

    return strategy


def _on_blocks(shapes: Callable) -> Callable:
    """Calls with a matrix (I, O) in blocks: `shapes` gives those of the inputs, for N, I, O and the number of
    elements that are kept."""

    @st.composite
    def strategy(draw, known) -> Call:
        n, i, o = draw(st.tuples(*[st.integers(0, 3)] * 3))
        mask = draw(generators).random((i, o)) < draw(st.sampled_from([0.2, 0.5, 1.0]))
        blocks = staircase(mask, side=draw(st.integers(1, 3)))
        return Call(draw(alike(shapes(n, i, o, blocks.size))), {"blocks": blocks})

    return strategy


# Convolutions ---------------------------------------------------------------------------------------


class Convolution(NamedTuple):
    """The three shapes of a convolution and its geometry, as the primitives of tinygen.ops take them."""

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    y: tuple[int, int, int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]

    @property
    def geometry(self) -> dict:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


def convolutions():
    """Calls of a convolution on inputs x (N, H, W, C) and w (KH, KW, C, C_out), with the static arguments
    stride (sh, sw), padding ((top, bottom), (left, right)) and dilation (dh, dw).

    The windows may leave out the image's last lines, and lie in the zeros around it; where padding is
    negative, pixels are cut off."""
    return geometries().flatmap(
        lambda c: alike([c.x, c.w]).map(lambda inputs: Call(inputs, c.geometry)),
    )


@st.composite
def geometries(draw, padded=True) -> Convolution:
    """What `convolutions` are of. Without `padded` there is nothing around the image, nor between the taps
    (no dilation)."""
    n, c, o = draw(st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)))
    size, kernel, out, stride, padding, dilation = zip(draw(_side(padded)), draw(_side(padded)))
    return Convolution((n, *size, c), (*kernel, c, o), (n, *out, o), stride, padding, dilation)


@st.composite
def _side(draw, padded: bool):
    """(image, kernel, output, stride, padding, dilation) along one axis."""
    kernel, out, stride = draw(st.tuples(*[st.integers(1, 3)] * 3))
    margin = st.integers(-1, 2) if padded else st.just(0)
    before, after = draw(margin), draw(margin)
    dilation = draw(st.integers(1, 2)) if padded else 1
    unused = draw(st.integers(0, stride - 1))
    size = (out - 1) * stride + dilation * (kernel - 1) + 1 + unused
    if size <= before + after:
        before = after = 0
    return size - before - after, kernel, out, stride, (before, after), dilation


def _on_convolution(arguments: Callable, padded=True) -> Callable:
    """Calls that `arguments` makes of a convolution: the shapes of inputs, and the static arguments."""

    @st.composite
    def strategy(draw, known) -> Call:
        shapes, static = arguments(draw(geometries(padded)))
        return Call(draw(alike(shapes)), static)

    return strategy


# Each primitive ---------------------------------------------------------------------------------------

# name -> function from what is known of the primitive to a strategy of its calls
STRUCTURES: dict[str, Callable] = {
    "astype": lambda known: elementwise(known, dtype=st.just("float64")),
    "leaky_relu": lambda known: elementwise(known, slope=st.sampled_from([0.0, 0.01, 0.5])),
    "leaky_relu_slope": lambda known: elementwise(known, slope=st.sampled_from([0.0, 0.01, 0.5])),
    "elu": lambda known: elementwise(known, alpha=st.sampled_from([0.5, 1.0, 2.0])),
    "where": _where,
    "clip": _clip,
    "sum": _on_axes(keepdims=st.booleans()),
    "norm": _on_axes(keepdims=st.booleans()),
    "mean": _on_axes(least=1, keepdims=st.booleans()),
    "max": _on_axes(least=1, keepdims=st.booleans()),
    "min": _on_axes(least=1, keepdims=st.booleans()),
    "logsumexp": _on_axes(least=1, keepdims=st.booleans()),
    "var": _on_axes(least=2, keepdims=st.booleans(), ddof=st.integers(0, 1)),
    "std": _on_axes(least=2, keepdims=st.booleans(), ddof=st.integers(0, 1)),
    "softmax": _on_axes(least=1, axis=one_axis),
    "log_softmax": _on_axes(least=1, axis=one_axis),
    "standardize": _on_matrices(lambda s, kept: [s], epsilon=st.sampled_from([0.01, 0.1, 1.0])),
    "projection": _on_matrices(lambda s, kept: [s, s, kept]),
    "dot": _on_matrices(lambda s, kept: [s, s]),
    "blocks_matmul": _on_blocks(lambda n, i, o, kept: [(n, i), (kept,)]),
    "blocks_matmul_t": _on_blocks(lambda n, i, o, kept: [(n, o), (kept,)]),
    "blocks_of_t_matmul": _on_blocks(lambda n, i, o, kept: [(n, i), (n, o)]),
    "cumsum": _on_axes(axis=one_axis),
    "flip": _on_axes(),
    "permuted": _permuted,
    "reshape": _on_shape(lambda s: {"shape": st.sampled_from([s[::-1], (1, *s), (math.prod(s),)])}),
    "transpose": _on_shape(lambda s: {"axes": st.permutations(range(len(s))).map(tuple)}),
    "broadcast_to": _broadcast_to,
    "pad": _on_shape(
        lambda s: {"widths": st.tuples(*[st.tuples(*[st.integers(0, 2)] * 2)] * len(s)), "value": st.just(1)},
        max_dims=2,
    ),
    "tril": _on_shape(lambda s: {"k": st.integers(-3, 3)}, min_dims=2),
    "triu": _on_shape(lambda s: {"k": st.integers(-3, 3)}, min_dims=2),
    "getitem": _on_shape(lambda s: {"index": indices(s)}),
    "scatter": _scatter,
    "stack": _stack,
    "concatenate": _concatenate,
    "split": _split,
    "unstack": _on_shape(lambda s: {"axis": st.integers(0, len(s) - 1)}, min_dims=1, min_side=1),
    "conv2d": _on_convolution(lambda c: ([c.x, c.w], c.geometry)),
    "conv2d_plus": lambda known: st.one_of(
        _on_convolution(lambda c: ([c.x, c.w, c.w[3:]], c.geometry))(known),
        _on_convolution(lambda c: ([c.x, c.w, c.y], c.geometry))(known),
    ),
    "conv_transpose2d": _on_convolution(lambda c: ([c.y, c.w], {"size": c.x[1:3], **c.geometry})),
    "conv2d_kernel": _on_convolution(lambda c: ([c.x, c.y], {"kernel": c.w[:2], **c.geometry})),
    "windows": _on_convolution(lambda c: ([c.x], {"kernel": c.w[:2], "stride": c.stride}), padded=False),
    "overlap_windows": _on_convolution(
        lambda c: ([(*c.y[:3], *c.w[:3])], {"size": c.x[1:3], "stride": c.stride}), padded=False
    ),
}
