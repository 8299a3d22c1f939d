"""Reductions over axes, and the normalizations along an axis that are made of them.

`axis` is an int, a tuple of ints, negative ones too, or None for all axes, as in NumPy. A gradient ȳ of a
reduced shape is first spread over the input's shape: S(ȳ) below.
"""

from __future__ import annotations

import math

from ..autodiff import primitive
from ..backend import xp
from .elementwise import exp, raw, where
from .shaping import broadcast_to, concatenate, flip, reshape, take_along_axis


def _axes(axis, ndim: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple) else (axis,)))


def _count(shape, axis) -> int:
    """How many elements go into each output."""
    return math.prod(shape[a] for a in _axes(axis, len(shape)))


def _keep(y, shape, axis):
    """y, reduced from `shape`, with the reduced axes kept as ones."""
    axes = _axes(axis, len(shape))
    return y.reshape(tuple(1 if a in axes else size for a, size in enumerate(shape)))


def _spread(y, shape, axis):
    """S(y): y, reduced from `shape`, repeated over the reduced axes."""
    return broadcast_to(_keep(y, shape, axis), shape)


# Sums and moments ---------------------------------------------------------------------------------


@primitive(domain="real")
def _sum(x, *, axis=None, keepdims=False):
    axes = _axes(axis, x.ndim)
    leading = 0 < len(axes) < x.ndim and axes == tuple(range(len(axes)))
    if leading and x.size and x.dtype.kind == "f" and x.flags.c_contiguous:
        # Rows of a matrix are added up, which einsum does up to four times as fast as NumPy's sum.
        rest = x.shape[len(axes) :]
        total = xp.einsum("ij->j", x.reshape(-1, math.prod(rest)))
        return total.reshape((1,) * len(axes) + rest if keepdims else rest)
    return x.sum(axis=axis, keepdims=keepdims)


_sum.vjp("x", lambda g, x_shape, axis: _spread(g, x_shape, axis), formula="x̄ = S(ȳ)")


def sum(x, axis=None, keepdims=False):
    """The sum of x over `axis`."""
    return _sum(x, axis=axis, keepdims=keepdims)


@primitive(domain="real")
def _mean(x, *, axis=None, keepdims=False):
    return x.mean(axis=axis, keepdims=keepdims)


_mean.vjp(
    "x",
    lambda g, x_shape, axis: _spread(g / _count(x_shape, axis), x_shape, axis),
    formula="x̄ = S(ȳ) / n",
)


def mean(x, axis=None, keepdims=False):
    """The mean of x over `axis`; NaN where there is nothing to average, as in NumPy."""
    return _mean(x, axis=axis, keepdims=keepdims)


@primitive(domain="real")
def _var(x, *, axis=None, ddof=0, keepdims=False):
    return x.var(axis=axis, ddof=ddof, keepdims=keepdims)


@_var.vjp("x", formula="x̄ = 2 S(ȳ) (x − mean x) / (n − ddof)")
def _(g, x, x_shape, axis, ddof):
    factor = 2 / (_count(x_shape, axis) - ddof)
    return _spread(factor * g, x_shape, axis) * (x - mean(x, axis, keepdims=True))


def var(x, axis=None, ddof=0, keepdims=False):
    """The variance of x over `axis`: the sum of squared deviations divided by n − ddof."""
    return _var(x, axis=axis, ddof=ddof, keepdims=keepdims)


@primitive(domain="distinct")
def _std(x, *, axis=None, ddof=0, keepdims=False):
    return x.std(axis=axis, ddof=ddof, keepdims=keepdims)


@_std.vjp("x", formula="x̄ = S(ȳ / y) (x − mean x) / (n − ddof), 0 where y = 0")
def _(g, x, out, x_shape, axis, ddof):
    factor = 1 / (_count(x_shape, axis) - ddof)
    return _spread(factor * g / (out + (out == 0)), x_shape, axis) * (x - mean(x, axis, keepdims=True))


def std(x, axis=None, ddof=0, keepdims=False):
    """The standard deviation of x over `axis`, the square root of `var`; gradient 0 where it is 0."""
    return _std(x, axis=axis, ddof=ddof, keepdims=keepdims)


@primitive(domain="nonzero")
def _norm(x, *, axis=None, keepdims=False):
    return xp.sqrt((x * x).sum(axis=axis, keepdims=keepdims))


_norm.vjp(
    "x",
    lambda g, x, out, x_shape, axis: _spread(g / (out + (out == 0)), x_shape, axis) * x,
    formula="x̄ = S(ȳ / y) x, 0 where y = 0",
)


def norm(x, axis=None, keepdims=False):
    """The Euclidean norm √Σx² over `axis`; gradient 0 at 0."""
    return _norm(x, axis=axis, keepdims=keepdims)


def prod(x, axis=None, keepdims=False):
    """The product of x over `axis`.

    Halves are multiplied until one element is left, so every derivative is a product of the other factors:
    exact where factors are zero, at every order, in linear time."""
    shape = raw(x).shape
    axes = _axes(axis, len(shape))
    others = tuple(a for a in range(len(shape)) if a not in axes)
    n = _count(shape, axis)
    factors = x.transpose((*axes, *others)).reshape((n, *(shape[a] for a in others)))
    while n > 1:
        half = n // 2
        products = factors[:half] * factors[half : 2 * half]
        factors = concatenate([products, factors[2 * half :]]) if n % 2 else products
        n -= half
    # The product of nothing is 1.
    out = factors[0] if n else factors.sum(axis=0) + 1.0
    return _keep(out, shape, axis) if keepdims else out


# Extremes -----------------------------------------------------------------------------------------


def _ties(x, out, shape, axis, dtype):
    """The gradient's shares: 1 at the one extreme element, 1/k at each of k that tie."""
    at = raw(x) == _keep(raw(out), shape, axis)
    return at.astype(dtype) / at.sum(axis=_axes(axis, len(shape)), keepdims=True).astype(dtype)


@primitive(domain="distinct")
def _max(x, *, axis=None, keepdims=False):
    return x.max(axis=axis, keepdims=keepdims)


@primitive(domain="distinct")
def _min(x, *, axis=None, keepdims=False):
    return x.min(axis=axis, keepdims=keepdims)


for _extreme in (_max, _min):
    _extreme.vjp(
        "x",
        lambda g, x, out, x_shape, axis: _spread(g, x_shape, axis) * _ties(x, out, x_shape, axis, g.dtype),
        formula="x̄ = S(ȳ) [x = y] / number of ties",
    )


def max(x, axis=None, keepdims=False):
    """The largest element of x over `axis`."""
    return _max(x, axis=axis, keepdims=keepdims)


def min(x, axis=None, keepdims=False):
    """The smallest element of x over `axis`."""
    return _min(x, axis=axis, keepdims=keepdims)


# Along an axis ------------------------------------------------------------------------------------


@primitive(domain="real")
def _cumsum(x, *, axis):
    return x.cumsum(axis=axis)


_cumsum.vjp("x", lambda g, axis: flip(_cumsum(flip(g, axis), axis=axis), axis), formula="x̄ᵢ = Σ_{j ≥ i} ȳⱼ")


def cumsum(x, axis=None):
    """The running sums of x along `axis`; of x flattened, if it is None."""
    if axis is None:
        return _cumsum(reshape(x, -1), axis=0)
    return _cumsum(x, axis=axis)


@primitive(domain="real")
def _logsumexp(x, *, axis=None, keepdims=False):
    m = x.max(axis=axis, keepdims=True)
    m = xp.where(xp.isfinite(m), m, 0)  # −∞ − (−∞) would be no number
    y = xp.log(xp.exp(x - m).sum(axis=axis, keepdims=True)) + m
    return y if keepdims else y.squeeze(_axes(axis, x.ndim))


_logsumexp.vjp(
    "x",
    lambda g, x, out, x_shape, axis: (
        _spread(g, x_shape, axis) * exp(x - _keep(where(xp.isfinite(raw(out)), out, 0.0), x_shape, axis))
    ),
    formula="x̄ = S(ȳ) exp(x − y)",
)


def logsumexp(x, axis=None, keepdims=False):
    """log Σ eˣ over `axis`, without overflow; −∞ where all are −∞."""
    return _logsumexp(x, axis=axis, keepdims=keepdims)


@primitive(domain="real")
def _softmax(x, *, axis):
    e = xp.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


_softmax.vjp(
    "x",
    lambda g, out, axis: out * (g - (g * out).sum(axis=axis, keepdims=True)),
    formula="x̄ = y (ȳ − Σ ȳ y)",
)


def softmax(x, axis=-1):
    """eˣ / Σ eˣ along `axis`."""
    return _softmax(x, axis=axis)


@primitive(domain="real")
def _log_softmax(x, *, axis):
    x = x - x.max(axis=axis, keepdims=True)
    return x - xp.log(xp.exp(x).sum(axis=axis, keepdims=True))


_log_softmax.vjp(
    "x",
    lambda g, out, axis: g - exp(out) * g.sum(axis=axis, keepdims=True),
    formula="x̄ = ȳ − exp(y) Σ ȳ",
)


def log_softmax(x, axis=-1):
    """x − log Σ eˣ along `axis`."""
    return _log_softmax(x, axis=axis)


def categorical_cross_entropy(logits, labels):
    """−log p(label), p = softmax(logits) along the last axis, in nats, one for each label.

    logits: (..., K). labels: integers (...) from 0 to K − 1. Raises TypeError for labels that are no
    integers, ValueError where the shapes do not match and IndexError for a label out of range."""
    shape, labels = raw(logits).shape, raw(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"categorical_cross_entropy: labels: expected integers, got {labels.dtype}")
    if labels.shape != shape[:-1]:
        raise ValueError(
            f"categorical_cross_entropy: labels: expected shape {shape[:-1]} for logits {shape}, "
            f"got {labels.shape}"
        )
    return -take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]
