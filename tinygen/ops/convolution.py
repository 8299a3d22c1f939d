"""Convolution and pooling of images (N, H, W, C) by kernels (KH, KW, C_in, C_out).

With strides s, dilations d and zeros around the image (top, bottom, left, right), convolution is

    y[n,i,j,o] = Σ_pqc x[n, i·s + p·d − top, j·s + q·d − left, c] w[p,q,c,o]

(a cross-correlation: the field does not flip the kernel). It is linear in x and in w, and has three faces,
each a primitive here: y from x and w; x̄ from ȳ and w, its transpose, called transposed convolution; w̄ from
x and ȳ. Each is linear in both its arguments, and its VJPs are the other two: gradients of any order stay
among the three.

How they compute: the windows of a few images at a time are copied into the rows of a matrix (im2col, after
Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document processing"),
in scratch memory that stays in the processor's cache, and one matrix product does the sum. The matrix is
made again in the backward pass instead of being kept. Where that moves less memory, only the lines of the
windows are copied, and the products with the kernel's lines added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from operator import index

from .. import backend
from ..autodiff import primitive
from ..backend import xp
from .elementwise import raw
from .reduction import max as maximum_over
from .reduction import mean
from .shaping import broadcast_to, reshape

ENGINE_FRAME = True  # calls from here are told as calls of whoever called


# The three primitives, with stride (sh, sw), padding ((top, bottom), (left, right)), dilation (dh, dw) ----


@primitive(domain="convolution")
def _conv2d(x, w, *, stride, padding, dilation):
    """y[n,i,j,o] = Σ_pqc x[n, i·s + p·d − top, j·s + q·d − left, c] w[p,q,c,o]"""
    kernel, sizes = w.shape[:2], x.shape[1:3]
    size = tuple(map(_output_size, sizes, kernel, stride, padding, dilation))
    y = xp.empty((len(x), *size, w.shape[3]), xp.result_type(x, w))
    if _by_lines(w.shape, stride):
        _convolve_by_lines(x, w, padding, dilation, out=y)
        return y
    matrix = w.reshape(-1, w.shape[3])
    for images, windows in _window_matrices(x, kernel, size, stride, padding, dilation):
        backend.matmul(windows, matrix, out=y[images].reshape(len(windows), -1))
    return y


@primitive(domain="convolution")
def _conv_transpose2d(y, w, *, size, stride, padding, dilation):
    """x̄ of `_conv2d` for ȳ = y and images of `size` (H, W): each y[n,i,j,o] is painted into the image,
    x̄[n, i·s + p·d − top, j·s + q·d − left, c] = Σ_o y[n,i,j,o] w[p,q,c,o], and what overlaps adds up.

    Seen from the image: s×s blocks of pixels, and in a block each pixel sums over the taps p ≡ its place
    (mod s). So it is a convolution at stride 1 with s·s·C channels, one set for each place in a block, whose
    pixels are then put where they belong (Shi et al. 2016, arXiv:1609.07009)."""
    kernel, reach = _block_kernel(w, stride, dilation)
    (top, _), (left, _) = padding
    # The blocks from that of the image's first pixel to that of its last; the zeros around y stand for
    # those that a kernel reaches beyond it, and are negative where none of y's edge touches the image.
    first = (top // stride[0], left // stride[1])
    last = (-(-(top + size[0]) // stride[0]), -(-(left + size[1]) // stride[1]))
    around = tuple((reach[a] * (kernel.shape[a] - 1) - first[a], last[a] - y.shape[1 + a]) for a in (0, 1))
    y, around = _cropped(y, around)
    if stride == (1, 1):
        return _conv2d(y, kernel, stride=stride, padding=around, dilation=reach)
    x = xp.empty((len(y), *size, w.shape[2]), xp.result_type(y, w))
    corner = (top - first[0] * stride[0], left - first[1] * stride[1])
    step = _images_at_once(prod(b - a for a, b in zip(first, last)) * kernel.shape[3])
    for start in range(0, len(y), step):
        images = slice(start, start + step)
        blocks = _conv2d(y[images], kernel, stride=(1, 1), padding=around, dilation=reach)
        _unfold_blocks(blocks, stride, corner, out=x[images])
    return x


@primitive(domain="convolution")
def _conv2d_kernel(x, y, *, kernel, stride, padding, dilation):
    """w̄ of `_conv2d` for ȳ = y and kernels of size `kernel` (KH, KW):
    w̄[p,q,c,o] = Σ_nij x[n, i·s + p·d − top, j·s + q·d − left, c] y[n,i,j,o]"""
    _, *size, channels = y.shape
    w = xp.zeros((*kernel, x.shape[3], channels), xp.result_type(x, y))
    if _by_lines(w.shape, stride):
        _kernel_by_lines(x, y, padding, dilation, out=w)
        return w
    matrix = w.reshape(-1, channels)
    for images, windows in _window_matrices(x, kernel, size, stride, padding, dilation):
        matrix += backend.matmul(windows.T, y[images].reshape(len(windows), -1))
    return w


_conv2d.vjp(
    "x",
    lambda g, w, x_shape, stride, padding, dilation: _conv_transpose2d(
        g, w, size=x_shape[1:3], stride=stride, padding=padding, dilation=dilation
    ),
    formula="x̄ = wᵀ ȳ, transposed convolution",
)
_conv2d.vjp(
    "w",
    lambda g, x, w_shape, stride, padding, dilation: _conv2d_kernel(
        x, g, kernel=w_shape[:2], stride=stride, padding=padding, dilation=dilation
    ),
    formula="w̄[p,q] = Σₙᵢⱼ x[n, i·s + p·d, j·s + q·d]ᵀ ȳ[n,i,j]",
)
_conv_transpose2d.vjp(
    "y",
    lambda g, w, stride, padding, dilation: _conv2d(g, w, stride=stride, padding=padding, dilation=dilation),
    formula="ȳ = w x̄, convolution",
)
_conv_transpose2d.vjp(
    "w",
    lambda g, y, w_shape, stride, padding, dilation: _conv2d_kernel(
        g, y, kernel=w_shape[:2], stride=stride, padding=padding, dilation=dilation
    ),
    formula="w̄[p,q] = Σₙᵢⱼ x̄[n, i·s + p·d, j·s + q·d]ᵀ y[n,i,j]",
)
_conv2d_kernel.vjp(
    "x",
    lambda g, y, x_shape, stride, padding, dilation: _conv_transpose2d(
        y, g, size=x_shape[1:3], stride=stride, padding=padding, dilation=dilation
    ),
    formula="x̄ = w̄ᵀ y, transposed convolution",
)
_conv2d_kernel.vjp(
    "y",
    lambda g, x, stride, padding, dilation: _conv2d(x, g, stride=stride, padding=padding, dilation=dilation),
    formula="ȳ = w̄ x, convolution",
)


# Arrays: windows of images as matrices --------------------------------------------------------------


def _output_size(size: int, kernel: int, stride: int, padding: tuple, dilation: int) -> int:
    """How many windows fit along one axis."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def _images_at_once(elements: int) -> int:
    """How many images to work on together, if each takes so many elements of scratch memory."""
    return max(1, backend.current_device().workspace // max(1, elements))


def _front(scratch, shape):
    """The beginning of scratch memory as an array of that shape."""
    return scratch[: prod(shape)].reshape(shape)


def _padded(x, step: int, padding) -> Iterator:
    """Pairs (slice of images, these with zeros around them), `step` images at a time."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    canvas = xp.zeros((min(n, step), top + h + bottom, left + w + right, c), x.dtype)
    for start in range(0, n, step):
        images = slice(start, min(n, start + step))
        if canvas.shape[1:] == x.shape[1:]:
            yield images, x[images]
        else:
            part = canvas[: images.stop - start]
            part[:, top : top + h, left : left + w] = x[images]
            yield images, part


def _windows_of(x, kernel, size, stride, dilation):
    """View (N, OH, OW, KH, KW, C) of x (N, H, W, C): the window that begins at (i·sh, j·sw), for all i, j."""
    n, h, w, c = x.strides
    (sh, sw), (dh, dw) = stride, dilation
    shape = (len(x), *size, *kernel, x.shape[3])
    return xp.lib.stride_tricks.as_strided(x, shape, (n, h * sh, w * sw, h * dh, w * dw, c))


def _window_matrices(x, kernel, size, stride, padding, dilation) -> Iterator:
    """Pairs (slice of images, matrix (n·OH·OW, KH·KW·C) of their windows); the matrix is reused."""
    elements = prod(kernel) * x.shape[3]
    step = min(len(x), _images_at_once(prod(size) * elements)) or 1
    scratch = xp.empty(step * prod(size) * elements, x.dtype)
    for images, part in _padded(x, step, padding):
        windows = _windows_of(part, kernel, size, stride, dilation)
        if not windows.flags.c_contiguous:  # it is for 1×1 kernels at stride 1, where nothing is to copy
            copy = _front(scratch, windows.shape)
            copy[...] = windows
            windows = copy
        yield images, windows.reshape(-1, elements)


# Arrays: a line of the kernel at a time ------------------------------------------------------------


def _by_lines(kernel_shape, stride) -> bool:
    """Whether copying the lines of windows and adding up KH results moves less than copying windows."""
    kh, kw, c_in, c_out = kernel_shape
    return stride == (1, 1) and kh * kw * c_in >= kw * c_in + 2 * kh * c_out


def _line_matrices(x, kw: int, ow: int, padding, dilation) -> Iterator:
    """Pairs (slice of images, array (H, n, OW, KW·C) of the lines of their windows); the array is reused."""
    _, h, _, c = x.shape
    line = (ow, kw, c)
    step = min(len(x), _images_at_once(h * prod(line))) or 1
    scratch = xp.empty(step * h * prod(line), x.dtype)
    for images, part in _padded(x, step, ((0, 0), padding[1])):
        lines = _front(scratch, (h, len(part), *line))
        view = _windows_of(part, (1, kw), (h, ow), (1, 1), dilation)
        lines[...] = view[:, :, :, 0].swapaxes(0, 1)
        yield images, lines.reshape(h, len(part), ow, kw * c)


def _convolve_by_lines(x, w, padding, dilation, out) -> None:
    """`_conv2d` at stride 1: out[n,i] = Σ_p z[i + p·d, n, p], z[u,n,p] being line u − top of the padded
    image times line p of the kernel."""
    (top, bottom), _ = padding
    kh, kw, c_in, c_out = w.shape
    _, oh, ow, _ = out.shape
    h = x.shape[1]
    matrix = xp.ascontiguousarray(w.transpose(1, 2, 0, 3)).reshape(kw * c_in, kh * c_out)
    scratch = None
    for images, lines in _line_matrices(x, kw, ow, padding, dilation):
        n = lines.shape[1]
        shape = (top + h + bottom, n, ow, kh, c_out)
        if scratch is None:
            scratch = xp.empty(prod(shape), out.dtype)
        z = _front(scratch, shape)
        z[:top] = 0
        z[top + h :] = 0
        backend.matmul(lines.reshape(-1, kw * c_in), matrix, out=z[top : top + h].reshape(-1, kh * c_out))
        u, m, j, p, o = z.strides
        skewed = xp.lib.stride_tricks.as_strided(z, (n, oh, ow, kh, c_out), (m, u, j, u * dilation[0] + p, o))
        skewed.sum(axis=3, out=out[images])


def _kernel_by_lines(x, y, padding, dilation, out) -> None:
    """`_conv2d_kernel` at stride 1: out[p] = Σ_ni (line i + p·d of padded image n)ᵀ y[n,i], where the lines
    of zeros are left out."""
    top = padding[0][0]
    kh, kw, c_in, c_out = out.shape
    _, oh, ow, _ = y.shape
    h = x.shape[1]
    matrices = out.reshape(kh, kw * c_in, c_out)
    for images, lines in _line_matrices(x, kw, ow, padding, dilation):
        y_lines = xp.ascontiguousarray(y[images].swapaxes(0, 1))
        for p in range(kh):
            shift = p * dilation[0] - top
            first, last = max(0, -shift), min(oh, h - shift)
            if first < last:
                these = lines[first + shift : last + shift].reshape(-1, kw * c_in)
                matrices[p] += backend.matmul(these.T, y_lines[first:last].reshape(-1, c_out))


# Arrays: blocks of pixels, for transposed convolution ----------------------------------------------------


def _block_kernel(w, stride, dilation):
    """(kernel (MH, MW, O, sh·sw·C) of the stride-1 convolution that gives blocks of sh×sw pixels, its
    dilation): kernel[MH−1−a, MW−1−b, o, (r, t, c)] = w[a·sh + r, b·sw + t, c, o]."""
    (sh, sw), (kh, kw, c_in, c_out) = stride, w.shape
    if stride == (1, 1):
        return xp.ascontiguousarray(w[::-1, ::-1].swapaxes(2, 3)), dilation
    dh, dw = dilation
    mh, mw = (dh * (kh - 1)) // sh + 1, (dw * (kw - 1)) // sw + 1
    spread = xp.zeros((mh * sh, mw * sw, c_in, c_out), w.dtype)  # dilation as zeros between the taps
    spread[: dh * (kh - 1) + 1 : dh, : dw * (kw - 1) + 1 : dw] = w
    taps = spread.reshape(mh, sh, mw, sw, c_in, c_out)[::-1, :, ::-1]
    return taps.transpose(0, 2, 5, 1, 3, 4).reshape(mh, mw, c_out, sh * sw * c_in), (1, 1)


def _unfold_blocks(blocks, stride, corner, out) -> None:
    """Put blocks (n, A, B, sh·sw·C) of pixels side by side; `corner` is out's first pixel in that image."""
    sh, sw = stride
    blocks = blocks.reshape(*blocks.shape[:3], sh, sw, out.shape[3])
    for r in range(sh):
        for t in range(sw):
            i, j = (r - corner[0]) % sh, (t - corner[1]) % sw  # the first pixel at this place of a block
            a, b = (corner[0] + i) // sh, (corner[1] + j) // sw  # and its block
            part = out[:, i::sh, j::sw]
            part[...] = blocks[:, a : a + part.shape[1], b : b + part.shape[2], r, t]


def _cropped(x, padding):
    """x without the edges for which padding is negative, and the padding that is left."""
    (top, bottom), (left, right) = padding
    _, h, w, _ = x.shape
    x = x[:, max(0, -top) : h - max(0, -bottom), max(0, -left) : w - max(0, -right)]
    return x, tuple((max(0, before), max(0, after)) for before, after in padding)


# Windows as an array, for pooling ------------------------------------------------------------------


@primitive(domain="windows")
def _windows(x, *, kernel, stride):
    """y[n,i,j,p,q] = x[n, i·s + p, j·s + q], a view."""
    size = tuple(_output_size(x.shape[1 + a], kernel[a], stride[a], (0, 0), 1) for a in (0, 1))
    return _windows_of(x, kernel, size, stride, (1, 1))


@primitive(domain="windows")
def _overlap_windows(y, *, size, stride):
    """x[n, i·s + p, j·s + q] = Σ y[n,i,j,p,q] over all windows that hold the pixel; _windows transposed."""
    n, oh, ow, kh, kw, c = y.shape
    x = xp.zeros((n, *size, c), y.dtype)
    for p in range(kh):
        for q in range(kw):
            x[:, p : p + oh * stride[0] : stride[0], q : q + ow * stride[1] : stride[1]] += y[:, :, :, p, q]
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


# Public functions ----------------------------------------------------------------------------------


def conv2d(x, w, stride=1, padding=0, dilation=1):
    """Convolve images x (N, H, W, C_in) with kernels w (KH, KW, C_in, C_out).

    stride, dilation: an int, or a pair for height and width.
    padding: zeros around each image: an int, a pair for height and width, each an int or a pair (before,
        after); "valid" for none, "same" for output of size ⌈H / stride⌉, the odd zero being after.

    Returns (N, OH, OW, C_out) with OH = ⌊(H + top + bottom − dilation·(KH − 1) − 1) / stride⌋ + 1, in the
    arguments' dtype. Raises ValueError where sizes do not fit."""
    return _conv("conv2d", x, w, stride, padding, dilation)


def conv1d(x, w, stride=1, padding=0, dilation=1):
    """Convolve sequences x (N, L, C_in) with kernels w (K, C_in, C_out): (N, OL, C_out).

    stride, dilation: ints. padding: an int, a pair (before, after), "valid" or "same", as in conv2d."""
    _check_axes("conv1d", "x", x, "(N, L, C_in)")
    _check_axes("conv1d", "w", w, "(K, C_in, C_out)")
    n, length, c = raw(x).shape
    if not isinstance(padding, str):
        padding = (0, padding)
    images, kernels = reshape(x, (n, 1, length, c)), reshape(w, (1, *raw(w).shape))
    y = _conv("conv1d", images, kernels, (1, stride), padding, (1, dilation))
    return reshape(y, (n, *raw(y).shape[2:]))


def _conv(function: str, x, w, stride, padding, dilation):
    _check_axes(function, "x", x, "(N, H, W, C_in)")
    _check_axes(function, "w", w, "(KH, KW, C_in, C_out)")
    size, kernel = raw(x).shape[1:3], raw(w).shape[:2]
    _check_channels(function, raw(x).shape[3], "C_in", raw(w).shape[2])
    stride = _pair(function, "stride", stride)
    dilation = _pair(function, "dilation", dilation)
    if padding == "same":
        padding = tuple(map(_same_padding, size, kernel, stride, dilation))
    else:
        padding = _padding(function, padding, 'a number, pairs, "same" or "valid"')
    _check_fits(function, size, kernel, padding, dilation)
    return _conv2d(x, w, stride=stride, padding=padding, dilation=dilation)


def conv_transpose2d(x, w, stride=1, padding=0, output_padding=0, dilation=1):
    """The transpose of conv2d with the same w, stride, padding and dilation: ⟨conv2d(y, w), x⟩ =
    ⟨y, conv_transpose2d(x, w)⟩ for all y of the result's size.

    x: (N, H, W, C_in), and w: (KH, KW, C_out, C_in), its axes being those of the convolution.
    padding: as in conv2d (not "same"): so much is cut from the edges.
    output_padding: an int or a pair, less than stride: lines more at the bottom and on the right, since
        conv2d gives the same size for as many sizes as the stride.

    Returns (N, OH, OW, C_out) with OH = (H − 1)·stride − top − bottom + dilation·(KH − 1) + 1 +
    output_padding. Raises ValueError where sizes do not fit."""
    function = "conv_transpose2d"
    _check_axes(function, "x", x, "(N, H, W, C_in)")
    _check_axes(function, "w", w, "(KH, KW, C_out, C_in)")
    _check_channels(function, raw(x).shape[3], "C_in", raw(w).shape[3])
    stride = _pair(function, "stride", stride)
    dilation = _pair(function, "dilation", dilation)
    padding = _padding(function, padding, 'a number, pairs or "valid"')
    extra = _pair(function, "output_padding", output_padding, least=0)
    if extra[0] >= stride[0] or extra[1] >= stride[1]:
        raise ValueError(f"{function}: output_padding: expected less than stride {stride}, got {extra}")
    size = tuple(
        (raw(x).shape[1 + a] - 1) * stride[a]
        - sum(padding[a])
        + dilation[a] * (raw(w).shape[a] - 1)
        + 1
        + extra[a]
        for a in (0, 1)
    )
    if min(size) < 1:
        raise ValueError(f"{function}: padding: expected to leave an image, got one of size {size}")
    return _conv_transpose2d(x, w, size=size, stride=stride, padding=padding, dilation=dilation)


def average_pool2d(x, size, stride=None):
    """The mean over windows of `size` (an int or a pair) at steps `stride` (that size, if None) of images
    x (N, H, W, C). Raises ValueError where no window fits."""
    return mean(_pooling_windows("average_pool2d", x, size, stride), axis=(3, 4))


def max_pool2d(x, size, stride=None):
    """The largest values in windows, as in average_pool2d. Where values tie, they share the gradient."""
    return maximum_over(_pooling_windows("max_pool2d", x, size, stride), axis=(3, 4))


def _pooling_windows(function: str, x, size, stride):
    _check_axes(function, "x", x, "(N, H, W, C)")
    kernel = _pair(function, "size", size)
    stride = kernel if stride is None else _pair(function, "stride", stride)
    _check_fits(function, raw(x).shape[1:3], kernel, ((0, 0), (0, 0)), (1, 1))
    return _windows(x, kernel=kernel, stride=stride)


def upsample_nearest2d(x, factor):
    """Images x (N, H, W, C) with each pixel repeated `factor` (an int or a pair) times along H and W."""
    _check_axes("upsample_nearest2d", "x", x, "(N, H, W, C)")
    n, h, w, c = raw(x).shape
    fh, fw = _pair("upsample_nearest2d", "factor", factor)
    copies = broadcast_to(reshape(x, (n, h, 1, w, 1, c)), (n, h, fh, w, fw, c))
    return reshape(copies, (n, h * fh, w * fw, c))


# Arguments in normal form, or one clear error ------------------------------------------------------------


def _check_axes(function: str, argument: str, x, axes: str) -> None:
    shape = getattr(raw(x), "shape", None)
    if shape is None or len(shape) != axes.count(",") + 1:
        got = type(x).__name__ if shape is None else f"shape {shape}"
        raise ValueError(f"{function}: {argument}: expected {axes}, got {got}")


def _check_channels(function: str, channels: int, axis: str, expected: int) -> None:
    if channels != expected:
        raise ValueError(f"{function}: x: expected {expected} channels, the {axis} of w, got {channels}")


def _check_fits(function: str, size, kernel, padding, dilation) -> None:
    room = tuple(size[a] + sum(padding[a]) for a in (0, 1))
    reach = tuple(dilation[a] * (kernel[a] - 1) + 1 for a in (0, 1))
    if room[0] < reach[0] or room[1] < reach[1] or min(kernel) < 1:
        raise ValueError(
            f"{function}: x: expected height and width, with padding, of at least those of the kernel, with "
            f"dilation, {reach}, got {room}"
        )


def _pair(function: str, argument: str, value, least: int = 1) -> tuple[int, int]:
    """The pair that an int or a pair of ints stands for."""
    try:
        both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        pair = tuple(map(index, both))
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < least:
        raise ValueError(
            f"{function}: {argument}: expected an int or a pair of ints, at least {least}, got {value!r}"
        )
    return pair


def _padding(function: str, value, expected: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) from a number, a pair of numbers or pairs, or "valid"."""
    if value == "valid":
        value = 0
    if isinstance(value, str) or (isinstance(value, (tuple, list)) and len(value) != 2):
        raise ValueError(f"{function}: padding: expected {expected}, got {value!r}")
    both = value if isinstance(value, (tuple, list)) else (value, value)
    return tuple(_pair(function, "padding", side, least=0) for side in both)


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The zeros (before, after) one axis with which ⌈size / stride⌉ windows fit."""
    zeros = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    return zeros // 2, zeros - zeros // 2
