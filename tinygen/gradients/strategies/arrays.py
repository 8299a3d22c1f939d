"""Arrays inside domains and away from kinks; shapes, axes, indices.

A domain is a word. Some say where each element lies,

    real, nonzero, positive, above -1, unit interval (0 to 1, both ends left out)
    distinct: no two elements of all arrays that are drawn together are alike

and some what an array is:

    simplex: positive, with sum 1 along the last axis         one-hot: zeros and a 1 along the last axis
    invertible: square matrices in the last two axes, well conditioned
    positive definite: such matrices that are symmetric, with eigenvalues of 0.5 or more

Elements have magnitudes from 0.3 to 2 (real ones are 0 at times; those of the unit interval lie in its
middle), all different by 0.01 or more where one array has at most 85: kinks are far away for the checker's
steps of 1e-5.

All values of an example come from one drawn number, the seed of a NumPy generator that its strategies share.
So an example shrinks by its shapes, and two arrays of it are never alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

import numpy as np  # strategies work on the host
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# Values ---------------------------------------------------------------------------------------------

_numbers = st.integers(0, 2**32 - 1)
generators = st.shared(_numbers.map(np.random.default_rng), key="tinygen: generator")

# Shrinking comes to 0, whatever the seed. It gives magnitudes of two decimals, which read better; in all
# examples these would make ties likely, and with them kinks, in what is computed from several arrays.
_roughness = st.shared(_numbers, key="tinygen: roughness")
_PLAIN_SIZE = 42


def magnitudes(rng, size: int):
    """One value in each of `size` parts of [0.3, 2], in random order, 0.02 away from the next (in larger
    arrays half a part)."""
    margin = min(size / 170, 1 / 4)
    return 0.3 + 1.7 * (rng.permutation(size) + rng.uniform(margin, 1 - margin, size)) / max(size, 1)


def _positive(rng, x):
    return x


def _nonzero(rng, x):
    return x * rng.choice([-1.0, 1.0], x.shape)


def _real(rng, x):
    return np.where(rng.random(x.shape) < 1 / 8, 0.0, _nonzero(rng, x))


def _above_minus_one(rng, x):
    x = _nonzero(rng, x)
    return np.where(x < 0, 0.45 * x, x)


def _unit_interval(rng, x):
    return (x - 0.15) / 2


# word -> function of a generator and magnitudes
DOMAINS: dict[str, Callable] = {
    "real": _real,
    "nonzero": _nonzero,
    "positive": _positive,
    "above -1": _above_minus_one,
    "unit interval": _unit_interval,
    "distinct": _nonzero,
}


def _simplex(rng, shape):
    x = magnitudes(rng, math.prod(shape)).reshape(shape)
    return x / x.sum(-1, keepdims=True)


def _one_hot(rng, shape):
    return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]


def _invertible(rng, shape):
    """The diagonals outweigh the rest of their rows."""
    diagonal = rng.choice([-1, 1], shape[:-1]) * rng.uniform(1.5, 2.5, shape[:-1])
    return rng.uniform(-1, 1, shape) / max(shape[-1], 1) + diagonal[..., None] * np.eye(shape[-1])


def _positive_definite(rng, shape):
    root = rng.uniform(-1, 1, shape)
    return root @ root.swapaxes(-1, -2) + 0.5 * np.eye(shape[-1])


# word -> function of a generator and a shape
STRUCTURED: dict[str, Callable] = {
    "simplex": _simplex,
    "one-hot": _one_hot,
    "invertible": _invertible,
    "positive definite": _positive_definite,
}
_OF_VECTORS = ("simplex", "one-hot")


def arrays(shape=None, domain: str = "real", dtype="float64"):
    """NumPy arrays of a floating dtype with values in a domain.

    shape: a tuple, a strategy of them, or None for all sorts that suit the domain.
    domain: one of the words above; ValueError for another.

    Drawing raises ValueError for a shape that does not suit the domain."""
    if shape is None:
        shape = _shapes_for(domain)
    shapes = shape.map(lambda s: [s]) if isinstance(shape, st.SearchStrategy) else [shape]
    return alike(shapes, domain, dtype).map(lambda xs: xs[0])


def alike(shapes, domain: str = "real", dtype="float64"):
    """Lists of arrays of these shapes, all of one domain; if it is "distinct", across the arrays.

    shapes: a list of tuples, or a strategy of such lists, as `broadcastable_shapes`. The rest, and errors,
    as in `arrays`."""
    if domain not in (*DOMAINS, *STRUCTURED):
        raise ValueError(f"domain: expected one of {[*DOMAINS, *STRUCTURED]}, got {domain!r}")
    draw = _structured if domain in STRUCTURED else _elementwise
    shapes = shapes if isinstance(shapes, st.SearchStrategy) else st.just(shapes)
    return shapes.flatmap(lambda shapes: draw(shapes, domain)).map(lambda xs: [x.astype(dtype) for x in xs])


@st.composite
def _elementwise(draw, shapes, domain: str):
    sizes = [math.prod(shape) for shape in shapes]
    rng = draw(generators)
    values = magnitudes(rng, sum(sizes))
    if draw(_roughness) == 0 and sum(sizes) <= _PLAIN_SIZE:
        values = values.round(2)
    parts = np.split(DOMAINS[domain](rng, values), list(accumulate(sizes))[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


@st.composite
def _structured(draw, shapes, domain: str):
    for shape in shapes:
        if domain in _OF_VECTORS:
            suits, expected = len(shape) > 0 and shape[-1] > 0, "(..., n), n > 0"
        else:
            suits, expected = len(shape) > 1 and shape[-1] == shape[-2], "(..., n, n)"
        if not suits:
            raise ValueError(f"shape: expected {expected} for domain {domain!r}, got {shape}")
    return [STRUCTURED[domain](draw(generators), shape) for shape in shapes]


# Shapes, axes, indices ------------------------------------------------------------------------------


def array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3):
    """Shapes, 0-d and zero-size ones too."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def _shapes_for(domain: str):
    """Shapes that suit a domain."""
    if domain not in STRUCTURED:
        return array_shapes()
    batches = array_shapes(max_dims=2, max_side=2)
    if domain in _OF_VECTORS:
        return st.builds(lambda batch, n: (*batch, n), batches, st.integers(1, 4))
    return st.builds(lambda batch, n: (*batch, n, n), batches, st.integers(0, 3))


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
    rng = draw(generators)
    if kind == "mask":
        masked = draw(st.integers(1, len(shape)))
        return rng.random(shape[:masked]) < 0.5
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
