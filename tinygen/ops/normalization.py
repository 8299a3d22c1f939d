"""Standardization of matrices: subtract the mean, divide by the standard deviation, over rows or columns.

The gradient is a projection, a primitive of its own, and its gradients are made of itself and of scalar
products: so these are closed under differentiation. On large batches the time is that of moving arrays
between memory and processor. So the result is scaled and shifted while it is at hand, sums are products,
which make no arrays on the way, and several operations are done piece by piece, each piece from the first to
the last while it is in the cache.
"""

from __future__ import annotations

from .. import backend
from ..autodiff import primitive
from ..backend import xp
from ..kernels import scalar_products
from .elementwise import raw
from .linalg import matmul


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


@primitive(domain={"x": "distinct", "a": "real", "b": "real"})
def _standardize(x, a, b, *, axis, epsilon):
    """(y, u, m, v): y = a r u + b, u = x − m, m = mean x, v = mean u², r = 1 / √(v + ε)."""

    def scale_and_shift(y, u, s, b):
        xp.multiply(u, s, out=y)
        y += b

    m = _mean(x, axis)
    u, y = xp.empty(x.shape, x.dtype), xp.empty(x.shape, x.dtype)
    backend.by_rows(lambda u, x, m: xp.subtract(x, m, out=u), u, x, m)
    v = _dot(u, u, axis=axis) / x.shape[axis]
    backend.by_rows(scale_and_shift, y, u, a * (v + epsilon) ** -0.5, b)
    return y, u, m, v


@_standardize.vjp("x", formula="x̄ = a r (ȳ − mean ȳ − r² u mean(ȳ u)) + ū − mean ū + (m̄ + 2 v̄ u) / n")
def _(g, out, a, x_shape, axis, epsilon):
    (y_bar, u_bar, m_bar, v_bar), (_, u, _, v) = g, out
    if y_bar is None:
        x_bar = xp.zeros(x_shape, u.dtype)
    else:
        r = (v + epsilon) ** -0.5
        x_bar = _projection(y_bar, u, r, a * r, axis=axis)
    if u_bar is not None:
        x_bar = x_bar + (u_bar - _mean(u_bar, axis))
    if m_bar is not None:
        x_bar = x_bar + m_bar / x_shape[axis]
    if v_bar is not None:
        x_bar = x_bar + u * (v_bar * (2 / x_shape[axis]))
    return x_bar


@_standardize.vjp("a", formula="ā = r Σ ȳ u")
def _(g, out, axis, epsilon):
    (y_bar, *_), (_, u, m, v) = g, out
    if y_bar is None:
        return xp.zeros(m.shape, m.dtype)
    return _dot(y_bar, u, axis=axis) * (v + epsilon) ** -0.5


@_standardize.vjp("b", formula="b̄ = Σ ȳ")
def _(g, out, axis):
    (y_bar, *_), (_, _, m, _) = g, out
    return xp.zeros(m.shape, m.dtype) if y_bar is None else _total(y_bar, axis)


@primitive(domain="real")
def _projection(h, u, r, s, *, axis):
    """p = s (h − mean h − r² u mean(h u)): where r u is standardized, s times the part of h that is
    orthogonal to u and to constants."""
    mean, slope = _mean(h, axis), _dot(h, u, axis=axis) * (r * r / h.shape[axis])
    p = xp.empty(h.shape, h.dtype)

    def project(p, h, u, s, mean, slope):
        xp.multiply(u, slope, out=p)
        p += mean
        xp.subtract(h, p, out=p)
        p *= s

    backend.by_rows(project, p, h, u, s, mean, slope)
    return p


_projection.vjp(
    "h",  # it is symmetric
    lambda g, u, r, s, axis: _projection(g, u, r, s, axis=axis),
    formula="h̄ = s (p̄ − mean p̄ − r² u mean(p̄ u))",
)


@_projection.vjp("u", formula="ū = −s r² (h mean(p̄ u) + p̄ mean(h u))")
def _(g, h, u, r, s, axis):
    return (_dot(g, u, axis=axis) * h + _dot(h, u, axis=axis) * g) * (-s * r * r / u.shape[axis])


@_projection.vjp("r", formula="r̄ = −2 s r n mean(p̄ u) mean(h u)")
def _(g, h, u, r, s, axis):
    return _dot(g, u, axis=axis) * _dot(h, u, axis=axis) * (-2 * s * r / u.shape[axis])


@_projection.vjp("s", formula="s̄ = Σ p̄ (h − mean h − r² u mean(h u))")
def _(g, h, u, r, axis):
    along_u = _dot(g, u, axis=axis) * _dot(h, u, axis=axis) * (r * r / u.shape[axis])
    return _dot(g, h, axis=axis) - _total(g, axis) * _mean(h, axis) - along_u


def standardize(x, axis, epsilon, scale=None, shift=None):
    """(y, mean, variance) of a matrix x over one axis, 0 or 1, which is kept in the last two, in scale and in
    shift: y = scale · (x − mean) / √(variance + epsilon) + shift, the variance being the mean of squared
    deviations. Without a scale and a shift y is standardized.

    Raises ValueError for what is no matrix, or has no elements along the axis."""
    shape = raw(x).shape
    if len(shape) != 2 or shape[axis] == 0:
        raise ValueError(
            f"standardize: x: expected a matrix with elements along axis {axis}, got shape {shape}"
        )
    kept = (1, shape[1]) if axis == 0 else (shape[0], 1)
    scale = xp.ones(kept, x.dtype) if scale is None else scale
    shift = xp.zeros(kept, x.dtype) if shift is None else shift
    y, _, mean, variance = _standardize(x, scale, shift, axis=axis, epsilon=epsilon)
    return y, mean, variance
