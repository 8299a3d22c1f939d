"""Hypothesis strategies: arrays inside domains and away from kinks, calls of primitives, expressions.

A domain is a word that a primitive is declared with. Some say where each element lies,

    real, nonzero, positive, above -1     distinct: no two elements of all inputs are alike

and some what the inputs are together:

    matrix product: a, b of any batch axes that broadcast
    affine: x (N, I), weight (I, O), bias (O,)
    invertible: square matrices, well conditioned, of any batch axes

Values are made by NumPy from one drawn number. They have magnitudes from 0.3 to 2 (real ones are 0 at times),
all different by 0.01 or more where there are at most 85: kinks are far away for steps of 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import numpy as np  # strategies work on the host

from .. import ops
from ..autodiff import registry
from ..backend import device

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError("tinygen.gradients.strategies needs hypothesis: pip install 'tinygen[test]'") from error


# Values ---------------------------------------------------------------------------------------------

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def _real(rng, size: int):
    return np.where(rng.random(size) < 1 / 8, 0.0, _nonzero(rng, size))


def _nonzero(rng, size: int):
    return _positive(rng, size) * rng.choice([-1.0, 1.0], size)


def _positive(rng, size: int):
    """One value in the middle half of each of `size` parts of [0.3, 2], in random order."""
    return 0.3 + 1.7 * (rng.permutation(size) + rng.uniform(0.25, 0.75, size)) / max(size, 1)


def _above_minus_one(rng, size: int):
    x = _nonzero(rng, size)
    return np.where(x < 0, 0.45 * x, x)


DOMAINS: dict[str, Callable] = {
    "real": _real,
    "nonzero": _nonzero,
    "positive": _positive,
    "above -1": _above_minus_one,
    "distinct": _nonzero,
}


def arrays(shape, domain: str = "real", dtype="float64"):
    """NumPy arrays of one shape with values in a domain: one of the words in DOMAINS."""
    return alike([shape], domain).map(lambda xs: xs[0].astype(dtype))


def alike(shapes, domain: str):
    """Lists of float64 arrays of these shapes, all of one domain; if it is "distinct", across the arrays."""
    sizes = [math.prod(shape) for shape in shapes]

    def cut(rng):
        parts = np.split(DOMAINS[domain](rng, sum(sizes)), list(accumulate(sizes))[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes)]

    return generators.map(cut)


# Shapes, axes, indices ------------------------------------------------------------------------------


def array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3):
    """Shapes, 0-d and zero-size ones too."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable_shapes(count: int, max_dims=3, min_side=0, max_side=3):
    """Tuples of `count` shapes that broadcast."""
    return hnp.mutually_broadcastable_shapes(
        num_shapes=count, max_dims=max_dims, min_side=min_side, max_side=max_side
    ).map(lambda shapes: shapes.input_shapes)


def one_axis(ndim: int):
    """One of `ndim` axes (1 or more), counted from the front or from the back."""
    return st.integers(-ndim, ndim - 1)


def axes(ndim: int):
    """What reductions take as `axis`: None, a tuple, or an int, negative ones too."""
    several = st.none() | hnp.valid_tuple_axes(ndim)
    return several | one_axis(ndim) if ndim else several


@st.composite
def indices(draw, shape):
    """What NumPy takes in x[...]: numbers, slices, None, `...`, masks, integer arrays with repeated elements,
    and mixtures of these."""
    kinds = ["basic", "mask", "arrays"] if all(shape) else ["basic", "mask"]
    kind = draw(st.sampled_from(kinds if shape else ["basic"]))
    if kind == "basic":
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    if kind == "mask":
        masked = draw(st.integers(1, len(shape)))
        return draw(generators).random(shape[:masked]) < 0.5
    rng = draw(generators)
    length = draw(st.integers(0, 4))
    parts = [
        draw(st.sampled_from([rng.integers(-n, n, length), slice(None, None, -1), int(rng.integers(n))]))
        for n in shape
    ]
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), None)
    if draw(st.booleans()):
        return (*parts[:-1], ...)
    return tuple(parts)


# Calls of primitives --------------------------------------------------------------------------------


class Call(NamedTuple):
    """Arguments of a primitive: its inputs, float64, and its static arguments."""

    inputs: list
    static: dict


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
    if isinstance(known.domain, str) and known.domain in TOGETHER:
        return Call(draw(TOGETHER[known.domain]()), {})
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
def _matrix_product(draw):
    rows, inner, columns = draw(st.tuples(*[st.integers(0, 3)] * 3))
    batch_a, batch_b = draw(broadcastable_shapes(2, max_dims=2, max_side=2))
    return draw(alike([(*batch_a, rows, inner), (*batch_b, inner, columns)], "real"))


@st.composite
def _affine(draw):
    n, i, o = draw(st.tuples(*[st.integers(0, 3)] * 3))
    return draw(alike([(n, i), (i, o), (o,)], "real"))


@st.composite
def _invertible(draw):
    """Matrices whose diagonals outweigh the rest of their rows."""
    n = draw(st.integers(0, 3))
    shape = (*draw(array_shapes(max_dims=2, max_side=2)), n, n)
    rng = draw(generators)
    diagonal = rng.choice([-1, 1], shape[:-1]) * rng.uniform(1.5, 2.5, shape[:-1])
    return [rng.uniform(-1, 1, shape) / max(n, 1) + diagonal[..., None] * np.eye(n)]


TOGETHER: dict[str, Callable] = {
    "matrix product": _matrix_product,
    "affine": _affine,
    "invertible": _invertible,
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


@st.composite
def convolutions(draw, padded=True) -> Convolution:
    """Convolutions; the windows may leave out the image's last lines, and lie in the zeros around it.
    Without `padded` there are none around it, nor between the taps (no dilation)."""
    n, c, o = draw(st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)))
    size, kernel, out, stride, padding, dilation = zip(draw(_side(padded)), draw(_side(padded)))
    return Convolution((n, *size, c), (*kernel, c, o), (n, *out, o), stride, padding, dilation)


@st.composite
def _side(draw, padded: bool):
    """(image, kernel, output, stride, padding, dilation) along one axis."""
    kernel, out, stride = draw(st.tuples(*[st.integers(1, 3)] * 3))
    before, after = draw(st.tuples(*[st.integers(0, 2)] * 2)) if padded else (0, 0)
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
        shapes, static = arguments(draw(convolutions(padded)))
        return Call(draw(alike(shapes, "real")), static)

    return strategy


# name -> function from what is known of the primitive to a strategy of its calls
STRUCTURES: dict[str, Callable] = {
    "astype": lambda known: elementwise(known, dtype=st.just("float64")),
    "leaky_relu": lambda known: elementwise(known, slope=st.sampled_from([0.0, 0.01, 0.5])),
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
    "cumsum": _on_axes(axis=one_axis),
    "flip": _on_axes(),
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
    "conv_transpose2d": _on_convolution(lambda c: ([c.y, c.w], {"size": c.x[1:3], **c.geometry})),
    "conv2d_kernel": _on_convolution(lambda c: ([c.x, c.y], {"kernel": c.w[:2], **c.geometry})),
    "windows": _on_convolution(lambda c: ([c.x], {"kernel": c.w[:2], "stride": c.stride}), padded=False),
    "overlap_windows": _on_convolution(
        lambda c: ([(*c.y[:3], *c.w[:3])], {"size": c.x[1:3], "stride": c.stride}), padded=False
    ),
}


# Expressions ----------------------------------------------------------------------------------------

# name -> (number of operands, function of a namespace of operations and the operands, that returns a tuple).
# All are smooth, and from values of at most 2 in magnitude make values of at most 2.
STEPS: dict[str, tuple[int, Callable]] = {
    "sin": (1, lambda ops, a: (ops.sin(a),)),
    "tanh": (1, lambda ops, a: (ops.tanh(a),)),
    "sigmoid": (1, lambda ops, a: (ops.sigmoid(a),)),
    "half_exp_minus": (1, lambda ops, a: (ops.exp(-a * a) / 2,)),
    "half_sum": (2, lambda ops, a, b: ((a + b) / 2,)),
    "half_difference": (2, lambda ops, a, b: ((a - b) / 2,)),
    "half_product": (2, lambda ops, a, b: (a * b / 2,)),
    "quotient": (2, lambda ops, a, b: (a / (1 + b * b),)),
    "mean": (1, lambda ops, a: (a.mean(),)),
    "softmax": (1, lambda ops, a: (ops.softmax(a, -1),)),
    "unstack": (1, lambda ops, a: ops.unstack(a, 0)),
    "exchange": (1, lambda ops, a: (ops.concatenate(ops.split(a, [1], 0)[::-1], 0),)),
}
_NEED_AN_AXIS = {"softmax", "unstack", "exchange"}


class Expression:
    """A computation, called on as many arrays or Tensors as it has inputs; returns a tuple.

    inputs: float64 arrays to call it on.
    steps: pairs (name in STEPS, numbers of its operands). The values are numbered: first the inputs, then
        what one step after another gives.
    outputs: the numbers of the values that are returned."""

    def __init__(self, inputs: list, steps: list[tuple[str, tuple[int, ...]]], outputs: list[int]):
        self.inputs, self.steps, self.outputs = inputs, steps, outputs

    def __call__(self, *inputs, ops=ops) -> tuple:
        """`ops` is where the functions named in STEPS come from."""
        values = self.values(inputs, ops)
        return tuple(values[k] for k in self.outputs)

    def values(self, inputs, ops=ops) -> list:
        values = list(inputs)
        for name, numbers in self.steps:
            values += STEPS[name][1](ops, *(values[k] for k in numbers))
        return values

    def __repr__(self) -> str:
        shapes = [x.shape for x in self.inputs]
        return f"Expression of {shapes}: {self.steps} -> {self.outputs}"


@st.composite
def expressions(draw, max_steps=8) -> Expression:
    """Expressions over inputs that broadcast; any value may be used again, or not at all."""
    shapes = draw(broadcastable_shapes(draw(st.integers(1, 3)), max_dims=2, min_side=1))
    expression = Expression(draw(alike(shapes, "real")), [], [])
    values = expression.inputs
    for _ in range(draw(st.integers(1, max_steps))):
        with_axes = [k for k, value in enumerate(values) if value.ndim]
        name = draw(st.sampled_from([name for name in STEPS if with_axes or name not in _NEED_AN_AXIS]))
        operands = with_axes if name in _NEED_AN_AXIS else range(len(values))
        numbers = draw(st.tuples(*[st.sampled_from(operands)] * STEPS[name][0]))
        expression.steps.append((name, numbers))
        with device("cpu"):
            values = expression.values(expression.inputs)
    later = range(len(expression.inputs), len(values))
    expression.outputs = draw(st.lists(st.sampled_from(later), min_size=1, max_size=2, unique=True))
    return expression
