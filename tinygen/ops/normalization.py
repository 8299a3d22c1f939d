"""Standardization of matrices: subtract the mean, divide by the standard deviation, over rows or columns.

The gradient is a projection, a primitive of its own, and its gradients are made of itself and of scalar
products: so these are closed under differentiation. On large batches the time is that of moving arrays
between memory and processor. So sums are products, which make no arrays on the way, and several operations
are done piece by piece, each piece from the first to the last while it is in the cache.
"""

from __future__ import annotations

from .. import backend
from ..autodiff import primitive
from ..backend import xp
from ..kernels import scalar_products
from .elementwise import raw
from .linalg import matmul
from .shaping import reshape


def _total(x, axis: int):
    """The sum over one axis, which is kept, as a product with ones."""
    n = x.shape[axis]
    ones = xp.ones((1, n) if axis == 0 else (n, 1), x.dtype)
    return matmul(ones, x) if axis == 0 else matmul(x, ones)


def _mean(x, axis: int):
    """The mean over one axis, which is kept."""
    return _total(x, axis) / x.shape[axis]


@primitive(domain="real")
def _dot(a, b, *, axis):
    """The scalar products of the columns (axis 0) or rows (1) of two matrices; the axis is kept."""
    return scalar_products(a, b, axis)


_dot.vjp("a", lambda g, b: g * b, formula="ā = ȳ b")
_dot.vjp("b", lambda g, a: g * a, formula="b̄ = ȳ a")


@primitive(domain="distinct")
def _standardize(x, *, axis, epsilon):
    """(y, m, v): y = r (x − m), m = mean x, v = mean (x − m)², r = 1 / √(v + ε)."""
    mean = _mean(x, axis)
    y = x - mean
    var = _dot(y, y, axis=axis) / x.shape[axis]
    y *= (var + epsilon) ** -0.5
    return y, mean, var


@_standardize.vjp("x", formula="x̄ = r (ȳ − mean ȳ − y mean(ȳ y)) + (m̄ + 2 v̄ y / r) / n")
def _(g, out, x_shape, axis, epsilon):
    (y_bar, mean_bar, var_bar), (y, _, var) = g, out
    if y_bar is None:
        x_bar = xp.zeros(x_shape, y.dtype)
    else:
        x_bar = _projection(y_bar, y, (var + epsilon) ** -0.5, axis=axis)
    if mean_bar is not None:
        x_bar = x_bar + mean_bar / x_shape[axis]
    if var_bar is not None:
        x_bar = x_bar + y * (var_bar * (var + epsilon) ** 0.5 * (2 / x_shape[axis]))
    return x_bar


@primitive(domain={"h": "real", "y": "real", "r": "positive"})
def _projection(h, y, r, *, axis):
    """p = r (h − mean h − y mean(h y)); where y is standardized, r times the part of h that is orthogonal to
    y and to constants."""
    mean, slope = _mean(h, axis), _dot(h, y, axis=axis) / h.shape[axis]
    p = xp.empty_like(h)

    def project(p, h, y, r, mean, slope):
        xp.multiply(y, slope, out=p)
        p += mean
        xp.subtract(h, p, out=p)
        p *= r

    backend.by_rows(project, p, h, y, r, mean, slope)
    return p


_projection.vjp(
    "h",  # it is symmetric
    lambda g, y, r, axis: _projection(g, y, r, axis=axis),
    formula="h̄ = r (p̄ − mean p̄ − y mean(p̄ y))",
)


@_projection.vjp("y", formula="ȳ = −r (h mean(p̄ y) + p̄ mean(h y))")
def _(g, h, y, r, axis):
    return (_dot(g, y, axis=axis) * h + _dot(h, y, axis=axis) * g) * (-r / y.shape[axis])


_projection.vjp(
    "r",
    lambda g, out, r, axis: _dot(g, out, axis=axis) / r,
    formula="r̄ = Σ p̄ p / r",
)


def standardize(x, axis, epsilon):
    """(y, mean, variance) of a matrix x over one axis, 0 or 1, which is kept in the last two:
    y = (x − mean) / √(variance + epsilon), the variance being the mean of squared deviations.

    Raises ValueError for what is no matrix, or has no elements along the axis."""
    if raw(x).ndim != 2 or raw(x).shape[axis] == 0:
        raise ValueError(
            f"standardize: x: expected a matrix with elements along axis {axis}, got shape {raw(x).shape}"
        )
    return _standardize(x, axis=axis, epsilon=epsilon)


@primitive(domain="scaled rows")
def scale_and_shift(x, a, b):
    """a x + b for each row of a matrix x (N, D); a and b (D,)."""
    y = xp.empty_like(x)

    def affine(y, x, a, b):
        xp.multiply(x, a, out=y)
        y += b

    backend.by_rows(affine, y, x, a[None], b[None])
    return y


scale_and_shift.vjp("x", lambda g, a: g * a, formula="x̄ = a ȳ")
scale_and_shift.vjp("a", lambda g, x: reshape(_dot(g, x, axis=0), (x.shape[1],)), formula="ā = Σₙ ȳₙ xₙ")
scale_and_shift.vjp("b", lambda g: reshape(_total(g, 0), (g.shape[1],)), formula="b̄ = Σₙ ȳₙ")
