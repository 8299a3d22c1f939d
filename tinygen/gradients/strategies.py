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

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import numpy as np  # strategies work on the host

from .. import ops
from ..autodiff import registry

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
    sizes = [int(np.prod(shape)) for shape in shapes]

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
    if known.domain in TOGETHER:
        return Call(draw(TOGETHER[known.domain]()), {})
    return draw(elementwise(known))


@st.composite
def elementwise(draw, known, **static) -> Call:
    """Calls on inputs of one shape, or of shapes that broadcast if the primitive does; `static` gives a
    strategy for each static argument."""
    count = len(known.inputs)
    shapes = draw(broadcastable_shapes(count) if known.broadcasts else array_shapes().map(lambda s: [s] * count))
    words = known.domain if isinstance(known.domain, dict) else dict.fromkeys(known.inputs, known.domain)
    for name in known.inputs:
        if words.get(name) not in DOMAINS:
            raise LookupError(f"{known.name}: {name}: expected a domain in {list(DOMAINS)}, got {words.get(name)}")
    if len(set(words.values())) == 1:
        inputs = draw(alike(shapes, words[known.inputs[0]]))
    else:
        inputs = [draw(arrays(shape, words[name])) for shape, name in zip(shapes, known.inputs)]
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


