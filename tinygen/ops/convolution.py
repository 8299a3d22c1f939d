"""Convolution of images (N, H, W, C) by kernels (KH, KW, C_in, C_out).

With strides s, dilations d and zeros around the image (top, bottom, left, right), convolution is

    y[n,i,j,o] = Σ_pqc x[n, i·s + p·d − top, j·s + q·d − left, c] w[p,q,c,o]

(a cross-correlation: the field does not flip the kernel; and fewer zeros than none cut pixels off). It is
linear in x and in w, and has three faces, each a primitive here: y from x and w; x̄ from ȳ and w, its
transpose, called transposed convolution; and w̄ from x and ȳ. Each is linear in both its arguments, and its
VJPs are the other two: gradients of any order stay among the three.

How they compute: the windows of a few images at a time are copied into the rows of a matrix (im2col;
Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document processing"),
in scratch memory that stays in the processor's cache, and one matrix product does the sums. The backward
pass makes the matrix again instead of keeping it. Where that moves less memory, only the lines of the
windows are copied, and what the lines of the kernel make of them is added up. Images are shared out to the
threads of the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import prod
from operator import iadd, index

from .. import backend
from ..autodiff import primitive
from ..backend import xp
from . import reduction
from .elementwise import raw
from .shaping import reshape

# The three primitives, with stride (sh, sw), padding ((top, bottom), (left, right)), dilation (dh, dw) ------


@primitive(domain="real")
def _conv2d(x, w, *, stride, padding, dilation):
    """y[n,i,j,o] = Σ_pqc x[n, i·s + p·d − top, j·s + q·d − left, c] w[p,q,c,o]"""
    return _convolved(x, w, None, stride, padding, dilation)


@primitive(domain="real")
def _conv2d_plus(x, w, b, *, stride, padding, dilation):
    """_conv2d, plus b (o,) or (n,i,j,o): added while y is in the cache."""
    return _convolved(x, w, b, stride, padding, dilation)


@primitive(domain="real")
def _conv_transpose2d(y, w, *, size, stride, padding, dilation):
    """x̄ of _conv2d for ȳ = y and images of `size` (H, W). Every y[n,i,j] paints a window of the image, and
    what overlaps adds up: x̄[n, i·s + p·d − top, j·s + q·d − left, c] += Σ_o y[n,i,j,o] w[p,q,c,o].

    Seen from the image, in blocks of s×s pixels: a pixel is a sum over the taps p that are its place in the
    block modulo s. So this is a convolution at stride 1 with s·s·C channels, one set for each place in a
    block, whose pixels are then put where they belong (Shi et al. 2016, arXiv:1609.07009)."""
    (sh, sw), ((top, _), (left, _)) = stride, padding
    kernel, steps = _block_kernel(w, stride, dilation)
    # The image's first pixel is in block `first`, its last before block `last`. The zeros around y that the
    # kernel needs for these blocks are fewer than none where the edge of y paints nothing but padding.
    first = (top // sh, left // sw)
    last = (-(-(top + size[0]) // sh), -(-(left + size[1]) // sw))
    around = tuple((steps[a] * (kernel.shape[a] - 1) - first[a], last[a] - y.shape[1 + a]) for a in (0, 1))
    if stride == (1, 1):
        return _conv2d(y, kernel, stride=stride, padding=around, dilation=steps)
    x = xp.empty((len(y), *size, w.shape[2]), xp.result_type(y, w))
    corner = (top % sh, left % sw)
    blocks_of_image = (last[0] - first[0]) * (last[1] - first[1])
    at_once = _images_at_once(blocks_of_image * kernel.shape[3])

    def paint(some):
        for start in range(some.start, some.stop, at_once):
            images = slice(start, min(some.stop, start + at_once))
            blocks = _convolved(y[images], kernel, None, (1, 1), around, steps)
            _put_blocks(blocks, stride, corner, out=x[images])

    backend.share(paint, len(y), len(y) * blocks_of_image * prod(kernel.shape[:3]))
    return x


@primitive(domain="real")
def _conv2d_kernel(x, y, *, kernel, stride, padding, dilation):
    """w̄ of _conv2d for ȳ = y and kernels of size `kernel` (KH, KW):
    w̄[p,q,c,o] = Σ_nij x[n, i·s + p·d − top, j·s + q·d − left, c] y[n,i,j,o]"""
    x, padding = _cropped(x, padding)
    shape = (*kernel, x.shape[3], y.shape[3])

    def of(images):
        w = xp.zeros(shape, xp.result_type(x, y))
        if _by_lines(shape, stride):
            _kernel_by_lines(x[images], y[images], padding, dilation, out=w)
        else:
            _kernel_by_windows(x[images], y[images], stride, padding, dilation, out=w)
        return w

    return reduce(iadd, backend.share(of, len(x), prod(y.shape[:3]) * prod(shape[:3])))


for _convolution in (_conv2d, _conv2d_plus):
    _convolution.vjp(
        "x",
        lambda g, w, x_shape, stride, padding, dilation: _conv_transpose2d(
            g, w, size=x_shape[1:3], stride=stride, padding=padding, dilation=dilation
        ),
        formula="x̄[n, i·s + p·d, j·s + q·d] = Σ ȳ[n,i,j] w[p,q]ᵀ",
    )
    _convolution.vjp(
        "w",
        lambda g, x, w_shape, stride, padding, dilation: _conv2d_kernel(
            x, g, kernel=w_shape[:2], stride=stride, padding=padding, dilation=dilation
        ),
        formula="w̄[p,q] = Σ x[n, i·s + p·d, j·s + q·d]ᵀ ȳ[n,i,j]",
    )
_conv2d_plus.vjp(
    "b",
    lambda g, b_shape: reduction.sum(g, axis=(0, 1, 2)) if len(b_shape) == 1 else g,
    formula="b̄ = ȳ, summed over n, i, j where b is (o,)",
)
_conv_transpose2d.vjp(
    "y",
    lambda g, w, stride, padding, dilation: _conv2d(g, w, stride=stride, padding=padding, dilation=dilation),
    formula="ȳ[n,i,j] = Σ x̄[n, i·s + p·d, j·s + q·d] w[p,q]",
)
_conv_transpose2d.vjp(
    "w",
    lambda g, y, w_shape, stride, padding, dilation: _conv2d_kernel(
        g, y, kernel=w_shape[:2], stride=stride, padding=padding, dilation=dilation
    ),
    formula="w̄[p,q] = Σ x̄[n, i·s + p·d, j·s + q·d]ᵀ y[n,i,j]",
)
_conv2d_kernel.vjp(
    "x",
    lambda g, y, x_shape, stride, padding, dilation: _conv_transpose2d(
        y, g, size=x_shape[1:3], stride=stride, padding=padding, dilation=dilation
    ),
    formula="x̄[n, i·s + p·d, j·s + q·d] = Σ y[n,i,j] w̄[p,q]ᵀ",
)
_conv2d_kernel.vjp(
    "y",
    lambda g, x, stride, padding, dilation: _conv2d(x, g, stride=stride, padding=padding, dilation=dilation),
    formula="ȳ[n,i,j] = Σ x[n, i·s + p·d, j·s + q·d] w̄[p,q]",
)


# Arrays: windows as the rows of a matrix ------------------------------------------------------------------


def _convolved(x, w, b, stride, padding, dilation):
    """x ∗ w, plus b where there is one."""
    x, padding = _cropped(x, padding)
    size = tuple(map(_output_size, x.shape[1:3], w.shape[:2], stride, padding, dilation))
    y = xp.empty((len(x), *size, w.shape[3]), xp.result_type(x, w))
    if b is not None and b.ndim == 1:  # a line of pixels at a time is added faster than a pixel
        b = xp.broadcast_to(xp.tile(b, (size[1], 1)), y.shape)

    def convolve(images):
        plus = None if b is None else b[images]
        if _by_lines(w.shape, stride):
            _convolve_by_lines(x[images], w, plus, padding, dilation, out=y[images])
        else:
            _convolve_by_windows(x[images], w, plus, stride, padding, dilation, out=y[images])

    backend.share(convolve, len(x), prod(y.shape[:3]) * prod(w.shape[:3]))
    return y


def _output_size(size: int, kernel: int, stride: int, padding: tuple, dilation: int) -> int:
    """How many windows fit along one axis."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def _cropped(x, padding):
    """x without the edges where padding is negative, and the padding that is left."""
    (top, bottom), (left, right) = padding
    _, h, w, _ = x.shape
    x = x[:, max(0, -top) : h - max(0, -bottom), max(0, -left) : w - max(0, -right)]
    return x, tuple((max(0, before), max(0, after)) for before, after in padding)


def _images_at_once(elements: int) -> int:
    """How many images to work on together, if each takes so many elements of scratch memory."""
    return max(1, backend.current_device().workspace // max(1, elements))


def _front(scratch, shape):
    """The beginning of scratch memory as an array of that shape."""
    return scratch[: prod(shape)].reshape(shape)


def _padded(x, at_once: int, padding, view) -> Iterator:
    """Pairs (slice of images, view of these with zeros around them), in memory that is reused; the view is
    made once, of all images there is memory for."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    chunks = [slice(start, min(n, start + at_once)) for start in range(0, n, at_once)]
    if top == bottom == left == right == 0:
        seen = view(x)
        yield from ((images, seen[images]) for images in chunks)
        return
    canvas = xp.zeros((min(n, at_once), top + h + bottom, left + w + right, c), x.dtype)
    seen = view(canvas)
    for images in chunks:
        count = images.stop - images.start
        canvas[:count, top : top + h, left : left + w] = x[images]
        yield images, seen[:count]


def _windows_of(x, kernel, size, stride, dilation):
    """View (N, OH, OW, KH, KW, C) of x (N, H, W, C): at (i, j) the window from pixel (i·sh, j·sw) on."""
    n, h, w, c = x.strides
    (sh, sw), (dh, dw) = stride, dilation
    shape = (len(x), *size, *kernel, x.shape[3])
    return xp.lib.stride_tricks.as_strided(x, shape, (n, h * sh, w * sw, h * dh, w * dw, c))


def _window_matrices(x, kernel, size, stride, padding, dilation) -> Iterator:
    """Pairs (slice of images, matrix (n·OH·OW, KH·KW·C) of their windows, in memory that is reused)."""
    columns = prod(kernel) * x.shape[3]
    at_once = _images_at_once(prod(size) * columns)
    scratch = xp.empty(min(len(x), at_once) * prod(size) * columns, x.dtype)
    for images, windows in _padded(
        x, at_once, padding, lambda x: _windows_of(x, kernel, size, stride, dilation)
    ):
        if not windows.flags.c_contiguous:  # it is with 1×1 kernels at stride 1: nothing to copy
            copy = _front(scratch, windows.shape)
            copy[...] = windows
            windows = copy
        yield images, windows.reshape(-1, columns)


def _convolve_by_windows(x, w, b, stride, padding, dilation, out) -> None:
    """out = x ∗ w (+ b), where b has the shape of out."""
    matrix = w.reshape(-1, w.shape[3])
    for images, windows in _window_matrices(x, w.shape[:2], out.shape[1:3], stride, padding, dilation):
        backend.matmul(windows, matrix, out=out[images].reshape(len(windows), -1))
        if b is not None:
            out[images] += b[images]


def _kernel_by_windows(x, y, stride, padding, dilation, out) -> None:
    """out += w̄ of _conv2d for ȳ = y."""
    matrix = out.reshape(-1, out.shape[3])
    for images, windows in _window_matrices(x, out.shape[:2], y.shape[1:3], stride, padding, dilation):
        matrix += backend.matmul(windows.T, y[images].reshape(len(windows), -1))


# Arrays: the kernel a line at a time, at stride 1 -----------------------------------------------------------


def _by_lines(kernel_shape, stride) -> bool:
    """Whether it moves less memory to copy lines of windows, KW·C numbers for each, and to add up KH·C_out
    numbers than to copy windows."""
    kh, kw, c_in, c_out = kernel_shape
    return stride == (1, 1) and kh * kw * c_in >= kw * c_in + 2 * kh * c_out


def _line_matrices(x, kw: int, ow: int, padding, dilation) -> Iterator:
    """Pairs (slice of images, array (H, n, OW, KW·C) of the lines of their windows, in memory that is
    reused). Lines come first, so that a range of them is a matrix."""
    _, h, _, c = x.shape
    at_once = _images_at_once(h * ow * kw * c)
    scratch = xp.empty(min(len(x), at_once) * h * ow * kw * c, x.dtype)
    for images, windows in _padded(
        x, at_once, ((0, 0), padding[1]), lambda x: _windows_of(x, (1, kw), (h, ow), (1, 1), dilation)
    ):
        lines = _front(scratch, (h, len(windows), ow, kw, c))
        lines[...] = windows[:, :, :, 0].swapaxes(0, 1)
        yield images, lines.reshape(h, len(windows), ow, kw * c)


def _convolve_by_lines(x, w, b, padding, dilation, out) -> None:
    """x ∗ w (+ b) at stride 1: out[n,i] = Σ_p z[i + p·d, n, p] (+ b), where z[u,n,p] is what line p of the
    kernel makes of line u of padded image n."""
    (top, bottom), _ = padding
    h, (_, oh, ow, c_out), (kh, kw, c_in, _) = x.shape[1], out.shape, w.shape
    matrix = xp.ascontiguousarray(w.transpose(1, 2, 0, 3)).reshape(kw * c_in, kh * c_out)
    scratch = None
    for images, lines in _line_matrices(x, kw, ow, padding, dilation):
        shape = (top + h + bottom, lines.shape[1], ow, kh, c_out)
        scratch = xp.empty(prod(shape), out.dtype) if scratch is None else scratch
        z = _front(scratch, shape)
        z[:top] = 0
        z[top + h :] = 0
        backend.matmul(lines.reshape(-1, kw * c_in), matrix, out=z[top : top + h].reshape(-1, kh * c_out))
        u, n, j, p, o = z.strides
        shape, strides = (lines.shape[1], oh, ow, kh, c_out), (n, u, j, u * dilation[0] + p, o)
        xp.lib.stride_tricks.as_strided(z, shape, strides).sum(axis=3, out=out[images])
        if b is not None:
            out[images] += b[images]


def _kernel_by_lines(x, y, padding, dilation, out) -> None:
    """_conv2d_kernel at stride 1: out[p] = Σ_ni (line i + p·d of padded image n)ᵀ y[n,i], lines of zeros
    left out."""
    h, (_, oh, ow, c_out), (kh, kw, c_in, _) = x.shape[1], y.shape, out.shape
    matrices = out.reshape(kh, kw * c_in, c_out)
    for images, lines in _line_matrices(x, kw, ow, padding, dilation):
        y_lines = xp.ascontiguousarray(y[images].swapaxes(0, 1))
        for p in range(kh):
            shift = p * dilation[0] - padding[0][0]
            first, last = max(0, -shift), min(oh, h - shift)
            if first < last:
                these = lines[first + shift : last + shift].reshape(-1, kw * c_in)
                matrices[p] += backend.matmul(these.T, y_lines[first:last].reshape(-1, c_out))


# Arrays: blocks of pixels, for transposed convolution -------------------------------------------------------


def _block_kernel(w, stride, dilation):
    """The kernel of the convolution that gives blocks of sh×sw pixels, and its dilation:
    kernel[MH−1−a, MW−1−b, o, (r, t, c)] = w[a·sh + r, b·sw + t, c, o]."""
    (sh, sw), (dh, dw), (kh, kw, c_in, c_out) = stride, dilation, w.shape
    if stride == (1, 1):
        return xp.ascontiguousarray(w[::-1, ::-1].swapaxes(2, 3)), dilation
    mh, mw = dh * (kh - 1) // sh + 1, dw * (kw - 1) // sw + 1
    spread = xp.zeros((mh * sh, mw * sw, c_in, c_out), w.dtype)  # dilation as zeros between the taps
    spread[: dh * (kh - 1) + 1 : dh, : dw * (kw - 1) + 1 : dw] = w
    taps = spread.reshape(mh, sh, mw, sw, c_in, c_out)[::-1, :, ::-1]
    return taps.transpose(0, 2, 5, 1, 3, 4).reshape(mh, mw, c_out, sh * sw * c_in), (1, 1)


def _put_blocks(blocks, stride, corner, out) -> None:
    """Lay blocks (n, A, B, sh·sw·C) of pixels side by side; the first pixel of out is `corner` of these."""
    (n, a, b, _), (sh, sw), (_, h, w, c) = blocks.shape, stride, out.shape
    image = blocks.reshape(n, a, b, sh, sw, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, a * sh, b * sw, c)
    out[...] = image[:, corner[0] : corner[0] + h, corner[1] : corner[1] + w]


# Public functions -------------------------------------------------------------------------------------------


def conv2d(x, w, stride=1, padding=0, dilation=1, plus=None):
    """Convolve images x (N, H, W, C_in) with kernels w (KH, KW, C_in, C_out).

    stride, dilation: an int, or a pair for height and width.
    padding: zeros around each image: an int, a pair for height and width, each an int or a pair (before,
        after); where negative, so many pixels are cut off instead. "valid" for none, "same" for output of
        size ⌈H / stride⌉, an odd zero being after.
    plus: what is added to the result: a bias (C_out,), or images of the result's shape.

    Returns (N, OH, OW, C_out) with OH = ⌊(H + top + bottom − dilation·(KH − 1) − 1) / stride⌋ + 1, in the
    arguments' dtype. Raises ValueError where shapes do not fit."""
    return _conv("conv2d", x, w, stride, padding, dilation, plus)


def conv1d(x, w, stride=1, padding=0, dilation=1):
    """Convolve sequences x (N, L, C_in) with kernels w (K, C_in, C_out): (N, OL, C_out).

    stride, dilation: ints. padding: an int, a pair (before, after), "valid" or "same", as in conv2d."""
    _check_axes("conv1d", "x", x, "(N, L, C_in)")
    _check_axes("conv1d", "w", w, "(K, C_in, C_out)")
    n, length, c = raw(x).shape
    images, kernels = reshape(x, (n, 1, length, c)), reshape(w, (1, *raw(w).shape))
    padding = padding if isinstance(padding, str) else (0, padding)
    y = _conv("conv1d", images, kernels, (1, stride), padding, (1, dilation))
    return reshape(y, (n, *raw(y).shape[2:]))


def _conv(function: str, x, w, stride, padding, dilation, plus=None):
    _check_axes(function, "x", x, "(N, H, W, C_in)")
    _check_axes(function, "w", w, "(KH, KW, C_in, C_out)")
    size, kernel = raw(x).shape[1:3], raw(w).shape[:2]
    _check_channels(function, raw(x).shape[3], raw(w).shape[2])
    stride = _pair(function, "stride", stride)
    dilation = _pair(function, "dilation", dilation)
    if isinstance(padding, str) and padding == "same":
        padding = tuple(map(_same_padding, size, kernel, stride, dilation))
    else:
        padding = _padding(function, padding, 'a number, pairs, "same" or "valid"')
    _check_fits(function, size, kernel, padding, dilation)
    if plus is None:
        return _conv2d(x, w, stride=stride, padding=padding, dilation=dilation)
    outputs = raw(w).shape[3:]
    result = (len(raw(x)), *map(_output_size, size, kernel, stride, padding, dilation), *outputs)
    got = getattr(raw(plus), "shape", plus)
    if got not in (outputs, result):
        raise ValueError(f"{function}: plus: expected shape {outputs} or {result}, got {got}")
    return _conv2d_plus(x, w, plus, stride=stride, padding=padding, dilation=dilation)


def conv_transpose2d(x, w, stride=1, padding=0, output_padding=0, dilation=1):
    """The transpose of conv2d with the same w, stride, padding and dilation: for all images y of the
    result's size, ⟨conv2d(y, w), x⟩ = ⟨y, conv_transpose2d(x, w)⟩.

    x: (N, H, W, C_in); w: (KH, KW, C_out, C_in), in the order of axes of that convolution.
    padding: as in conv2d, but not negative and without "same": so much is cut off the edges.
    output_padding: an int or a pair, less than stride: so many more lines at the bottom and on the right,
        since conv2d takes as many sizes as the stride to one.

    Returns (N, OH, OW, C_out) with OH = (H − 1)·stride − top − bottom + dilation·(KH − 1) + 1 +
    output_padding, in the arguments' dtype. Raises ValueError where shapes do not fit."""
    function = "conv_transpose2d"
    _check_axes(function, "x", x, "(N, H, W, C_in)")
    _check_axes(function, "w", w, "(KH, KW, C_out, C_in)")
    _check_channels(function, raw(x).shape[3], raw(w).shape[3])
    stride = _pair(function, "stride", stride)
    dilation = _pair(function, "dilation", dilation)
    padding = _padding(function, padding, 'a number, pairs or "valid"', least=0)
    more = _pair(function, "output_padding", output_padding, least=0)
    if more[0] >= stride[0] or more[1] >= stride[1]:
        raise ValueError(f"{function}: output_padding: expected less than stride {stride}, got {more}")
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, raw(w).shape)]
    size = tuple((raw(x).shape[1 + a] - 1) * stride[a] - sum(padding[a]) + reach[a] + more[a] for a in (0, 1))
    if min(size) < 1:
        raise ValueError(f"{function}: padding: expected to leave at least (1, 1) pixels, got {size}")
    return _conv_transpose2d(x, w, size=size, stride=stride, padding=padding, dilation=dilation)


# Arguments in normal form, or one clear error ---------------------------------------------------------------


def _check_axes(function: str, argument: str, x, axes: str) -> None:
    shape = getattr(raw(x), "shape", None)
    if shape is None or len(shape) != axes.count(",") + 1:
        got = type(x).__name__ if shape is None else f"shape {shape}"
        raise ValueError(f"{function}: {argument}: expected {axes}, got {got}")


def _check_channels(function: str, channels: int, expected: int) -> None:
    if channels != expected:
        raise ValueError(f"{function}: x: expected {expected} channels, the C_in of w, got {channels}")


def _check_fits(function: str, size, kernel, padding, dilation) -> None:
    room = tuple(n + sum(p) for n, p in zip(size, padding))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    if room[0] < reach[0] or room[1] < reach[1] or min(kernel) < 1:
        raise ValueError(
            f"{function}: x: expected at least {reach} pixels, what a kernel spans, got {room} with padding"
        )
    if any(n + min(p) < 0 for n, p in zip(size, padding)):
        raise ValueError(f"{function}: padding: expected to cut off at most {size} pixels, got {padding}")


def _pair(function: str, argument: str, value, least: int | None = 1) -> tuple[int, int]:
    """The pair that an int or a pair of ints stands for."""
    try:
        pair = tuple(map(index, value if isinstance(value, (tuple, list)) else (value, value)))
    except TypeError:
        pair = ()
    if len(pair) != 2 or (least is not None and min(pair) < least):
        bound = "" if least is None else f", at least {least}"
        raise ValueError(f"{function}: {argument}: expected an int or a pair of ints{bound}, got {value!r}")
    return pair


def _padding(
    function: str, value, expected: str, least: int | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) from a number, a pair of numbers or pairs, or "valid"."""
    sides = value if isinstance(value, (tuple, list)) else (value, value)
    if isinstance(value, str) and value == "valid":
        sides = (0, 0)
    elif isinstance(value, str) or len(sides) != 2:
        raise ValueError(f"{function}: padding: expected {expected}, got {value!r}")
    return tuple(_pair(function, "padding", side, least) for side in sides)


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The zeros (before, after) an axis with which ⌈size / stride⌉ windows fit."""
    zeros = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return zeros // 2, zeros - zeros // 2
