"""Linear algebra: matrix products, the affine map of a layer, inverse and log-determinant."""

from __future__ import annotations

import math

from .. import backend
from ..autodiff import primitive
from ..backend import xp
from . import reduction
from .elementwise import raw
from .shaping import expand_dims, reshape, squeeze


def _t(x):
    """The matrices in x's last two axes, transposed."""
    return x.swapaxes(-1, -2)


# A product of matrices and its two relatives: the VJPs of each are the other ones, so that gradients of any
# order are products whose results lie in memory as what they belong to does.


@primitive(broadcasts=True, domain="matrix product")
def _matmul(a, b):
    return backend.matmul(a, b)


@primitive(broadcasts=True, domain="matrix product, b transposed")
def _matmul_t(a, b):
    """a bᵀ"""
    return backend.matmul(a, _t(b))


@primitive(broadcasts=True, domain="matrix product, a transposed")
def _t_matmul(a, b):
    """aᵀ b"""
    return backend.matmul(_t(a), b)


_matmul.vjp("a", lambda g, b: _matmul_t(g, b), formula="ā = ȳ bᵀ")
_matmul.vjp("b", lambda g, a: _t_matmul(a, g), formula="b̄ = aᵀ ȳ")
_matmul_t.vjp("a", lambda g, b: _matmul(g, b), formula="ā = ȳ b")
_matmul_t.vjp("b", lambda g, a: _t_matmul(g, a), formula="b̄ = ȳᵀ a")
_t_matmul.vjp("a", lambda g, b: _matmul_t(b, g), formula="ā = b ȳᵀ")
_t_matmul.vjp("b", lambda g, a: _matmul(a, g), formula="b̄ = a ȳ")


def matmul(a, b):
    """a @ b as in NumPy: matrices in the last two axes, batch axes before them broadcast, and a vector is
    a row on the left, a column on the right.

    Raises ValueError where the inner sizes differ."""
    a_shape, b_shape = raw(a).shape, raw(b).shape
    if not a_shape or not b_shape or a_shape[-1] != b_shape[-2 if len(b_shape) > 1 else 0]:
        raise ValueError(
            f"matmul: b: expected its {'rows' if len(b_shape) > 1 else 'size'} to match the last axis of a, "
            f"of shape {a_shape}, got shape {b_shape}"
        )
    if len(a_shape) == 1:
        return squeeze(matmul(expand_dims(a, 0), b), -2 if len(b_shape) > 1 else 0)
    if len(b_shape) == 1:
        return squeeze(matmul(a, expand_dims(b, 1)), -1)
    if len(a_shape) > 2 and len(b_shape) == 2:
        # One product of two matrices, forward and backward, instead of one for each of the batch.
        rows = reshape(a, (math.prod(a_shape[:-1]), a_shape[-1]))
        return reshape(_matmul(rows, b), (*a_shape[:-1], b_shape[-1]))
    return _matmul(a, b)


@primitive(domain="affine")
def _linear(x, weight, bias):
    out = backend.matmul(x, weight)
    out += bias
    return out


_linear.vjp("x", lambda g, weight: _matmul_t(g, weight), formula="x̄ = ȳ Wᵀ")
_linear.vjp("weight", lambda g, x: _t_matmul(x, g), formula="W̄ = xᵀ ȳ")
_linear.vjp("bias", lambda g: reduction.sum(g, axis=0), formula="b̄ = Σₙ ȳₙ")


def linear(x, weight, bias):
    """x W + b in one array: x (..., I), weight (I, O), bias (O,), result (..., O).

    Raises ValueError where the sizes differ; nothing broadcasts."""
    x_shape, shape = raw(x).shape, raw(weight).shape
    if len(shape) != 2 or not x_shape or x_shape[-1] != shape[0]:
        raise ValueError(f"linear: x: expected shape (..., {shape[0]}) for weight {shape}, got {x_shape}")
    if raw(bias).shape != shape[1:]:
        raise ValueError(f"linear: bias: expected shape {shape[1:]}, got {raw(bias).shape}")
    if len(x_shape) == 2:
        return _linear(x, weight, bias)
    rows = reshape(x, (math.prod(x_shape[:-1]), x_shape[-1]))
    return reshape(_linear(rows, weight, bias), (*x_shape[:-1], shape[1]))


@primitive(domain="invertible")
def inverse(a):
    """The inverses of the square matrices in a's last two axes. Raises ValueError for a singular one."""
    return xp.linalg.inv(a)


inverse.vjp("a", lambda g, out: -_matmul_t(_t_matmul(out, g), out), formula="ā = −yᵀ ȳ yᵀ")


@primitive(domain="invertible")
def slogdet(a):
    """(sign, log |det|) of the square matrices in a's last two axes, each of the batch axes' shape."""
    sign, log_abs_det = xp.linalg.slogdet(a)
    return sign, log_abs_det


@slogdet.vjp("a", formula="ā = ȳ₂ a⁻ᵀ")
def _(g, a, a_shape):
    _, g = g  # the sign is constant
    if g is None:
        return xp.zeros(a_shape, raw(a).dtype)
    return reshape(g, (*a_shape[:-2], 1, 1)) * _t(inverse(a))
