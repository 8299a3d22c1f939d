"""Pooling of images (N, H, W, C), and its counterpart, upsampling.

The windows of an image are an array of their own, and pooling is a reduction over two of its axes.
"""

from __future__ import annotations

from ..autodiff import primitive
from ..backend import xp
from .convolution import _check_axes, _check_fits, _output_size, _pair, _windows_of
from .elementwise import raw
from .reduction import max as maximum_over
from .reduction import mean
from .shaping import broadcast_to, reshape


@primitive(domain="real")
def _windows(x, *, kernel, stride):
    """y[n,i,j,p,q] = x[n, i·s + p, j·s + q]"""
    size = tuple(_output_size(x.shape[1 + a], kernel[a], stride[a], (0, 0), 1) for a in (0, 1))
    return _windows_of(x, kernel, size, stride, (1, 1)).copy()


@primitive(domain="real")
def _overlap_windows(y, *, size, stride):
    """x[n, i·s + p, j·s + q] = Σ y[n,i,j,p,q] over all windows that hold the pixel: _windows transposed."""
    n, oh, ow, kh, kw, c = y.shape
    (sh, sw), x = stride, xp.zeros((n, *size, c), y.dtype)
    for p in range(kh):
        for q in range(kw):
            x[:, p : p + oh * sh : sh, q : q + ow * sw : sw] += y[:, :, :, p, q]
    return x


_windows.vjp(
    "x",
    lambda g, x_shape, stride: _overlap_windows(g, size=x_shape[1:3], stride=stride),
    formula="x̄[n, i·s + p, j·s + q] = Σ ȳ[n,i,j,p,q]",
)
_overlap_windows.vjp(
    "y",
    lambda g, y_shape, stride: _windows(g, kernel=y_shape[3:5], stride=stride),
    formula="ȳ[n,i,j,p,q] = x̄[n, i·s + p, j·s + q]",
)


def average_pool2d(x, size, stride=None):
    """The means over windows of `size` (an int or a pair) at steps of `stride` (None: of that size) of
    images x (N, H, W, C). Raises ValueError where no window fits."""
    return mean(_pooling_windows("average_pool2d", x, size, stride), axis=(3, 4))


def max_pool2d(x, size, stride=None):
    """The maxima over windows, as in average_pool2d. Where values tie, they share the gradient equally."""
    return maximum_over(_pooling_windows("max_pool2d", x, size, stride), axis=(3, 4))


def _pooling_windows(function: str, x, size, stride):
    _check_axes(function, "x", x, "(N, H, W, C)")
    kernel = _pair(function, "size", size)
    stride = kernel if stride is None else _pair(function, "stride", stride)
    _check_fits(function, raw(x).shape[1:3], kernel, ((0, 0), (0, 0)), (1, 1))
    return _windows(x, kernel=kernel, stride=stride)


def upsample_nearest2d(x, factor):
    """Images x (N, H, W, C) with every pixel repeated `factor` (an int or a pair) times along H and W."""
    _check_axes("upsample_nearest2d", "x", x, "(N, H, W, C)")
    n, h, w, c = raw(x).shape
    fh, fw = _pair("upsample_nearest2d", "factor", factor)
    copies = broadcast_to(reshape(x, (n, h, 1, w, 1, c)), (n, h, fh, w, fw, c))
    return reshape(copies, (n, h * fh, w * fw, c))
