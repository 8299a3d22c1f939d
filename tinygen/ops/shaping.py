"""Shaping: primitives that move, select, repeat or join elements without changing them.

Each is linear, so its VJP is its transpose: the same movement backward. What several outputs came from one
element adds up there.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod

from ..autodiff import Tensor, primitive
from ..backend import xp
from .elementwise import raw

# The same elements in another shape or order ------------------------------------------------------


@primitive(domain="real")
def _reshape(x, *, shape):
    return x.reshape(shape)


_reshape.vjp("x", lambda g, x_shape: g.reshape(x_shape), formula="x̄ = ȳ in x's shape")


def reshape(x, shape):
    """x's elements in another shape; one size may be −1, which stands for what is left."""
    return _reshape(x, shape=shape)


@primitive(domain="real")
def _transpose(x, *, axes):
    return x.transpose(axes)


_transpose.vjp(
    "x",
    lambda g, axes: g.transpose(tuple(axes.index(a) for a in range(len(axes)))),
    formula="x̄ = ȳ with axes put back",
)


def transpose(x, axes=None):
    """x with axis axes[k] in place k; all in reverse order where axes is None."""
    ndim = raw(x).ndim
    if axes is None:
        axes = range(ndim - 1, -1, -1)
    return _transpose(x, axes=tuple(a % ndim if -ndim <= a < ndim else a for a in axes))


def swapaxes(x, axis1, axis2):
    """x with two axes exchanged."""
    axes = list(range(raw(x).ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(x, axes)


def moveaxis(x, source, destination):
    """x with the axes `source` (an int or several) moved to the places `destination`."""
    ndim = raw(x).ndim
    froms, tos = ([a % ndim for a in _several(axes)] for axes in (source, destination))
    if len(froms) != len(tos) or len(set(froms)) < len(froms) or len(set(tos)) < len(tos):
        raise ValueError(
            f"moveaxis: destination: expected as many different axes as source, {source}, got {destination}"
        )
    axes = [a for a in range(ndim) if a not in froms]
    for to, a in sorted(zip(tos, froms)):
        axes.insert(to, a)
    return transpose(x, axes)


def _several(axes) -> tuple:
    return (axes,) if isinstance(axes, int) else tuple(axes)


def expand_dims(x, axis):
    """x with new axes of size 1 at the places `axis` of the result."""
    ndim = raw(x).ndim + len(_several(axis))
    new = {_axis(a, ndim, "expand_dims") for a in _several(axis)}
    sizes = iter(raw(x).shape)
    return reshape(x, tuple(1 if a in new else next(sizes) for a in range(ndim)))


def squeeze(x, axis=None):
    """x without the axes `axis`, which must have size 1; without all such axes if it is None."""
    shape = raw(x).shape
    if axis is None:
        gone = {a for a, size in enumerate(shape) if size == 1}
    else:
        gone = {_axis(a, len(shape), "squeeze") for a in _several(axis)}
    for a in gone:
        if shape[a] != 1:
            raise ValueError(f"squeeze: axis: expected one of size 1, got axis {a} of shape {shape}")
    return reshape(x, tuple(size for a, size in enumerate(shape) if a not in gone))


def _axis(axis: int, ndim: int, function: str) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"{function}: axis: expected one between {-ndim} and {ndim - 1}, got {axis}")
    return axis % ndim


@primitive(domain="real")
def _flip(x, *, axis):
    return xp.flip(x, axis)


_flip.vjp("x", lambda g, axis: flip(g, axis), formula="x̄ = ȳ flipped")


def flip(x, axis=None):
    """x in reverse order along `axis`: an int, several, or None for all."""
    return _flip(x, axis=axis)


@primitive(domain="real")
def permuted(x, *, places, back):
    """x[..., places] for a permutation `places` of the last axis and its inverse, `back`, integer arrays that
    the caller vouches for. Its gradient is a permutation too, where that of other indices adds up."""
    return x.take(places, axis=-1)


permuted.vjp("x", lambda g, places, back: permuted(g, places=back, back=places), formula="x̄[..., places] = ȳ")


# Copies -------------------------------------------------------------------------------------------


@primitive(broadcasts=True, domain="real")
def _broadcast_to(x, *, shape):
    return xp.broadcast_to(x, shape)


_broadcast_to.vjp("x", lambda g: g, formula="x̄ = ȳ summed over the copies")


def broadcast_to(x, shape):
    """x broadcast to a shape."""
    return _broadcast_to(x, shape=shape)


def repeat(x, repeats, axis=None):
    """Each element of x `repeats` times in a row along `axis` (of x flattened, if it is None).

    repeats: an int, or one for each element along the axis."""
    if axis is None:
        return repeat(reshape(x, -1), repeats, 0)
    shape = raw(x).shape
    axis = _axis(axis, len(shape), "repeat")
    if not isinstance(repeats, int):
        index = xp.repeat(xp.arange(shape[axis]), repeats)
        return getitem(x, (slice(None),) * axis + (index,))
    copies = broadcast_to(expand_dims(x, axis + 1), (*shape[: axis + 1], repeats, *shape[axis + 1 :]))
    return reshape(copies, (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))


@primitive(domain="real")
def _pad(x, *, widths, value):
    out = xp.full([a + n + b for n, (a, b) in zip(x.shape, widths)], value, x.dtype)
    out[_inside(widths, x.shape)] = x
    return out


_pad.vjp("x", lambda g, widths, x_shape: g[_inside(widths, x_shape)], formula="x̄ = ȳ without the margins")


def _inside(widths, shape) -> tuple[slice, ...]:
    return tuple(slice(before, before + size) for (before, _), size in zip(widths, shape))


def pad(x, pad_width, constant_values=0):
    """x with margins of a constant.

    pad_width: n for all sides, (before, after) for all axes, or a pair for each axis."""
    ndim = raw(x).ndim
    if isinstance(pad_width, int):
        widths = ((pad_width, pad_width),) * ndim
    elif all(isinstance(width, int) for width in pad_width):
        widths = (tuple(pad_width),) * ndim
    else:
        widths = tuple(tuple(width) for width in pad_width)
    if len(widths) != ndim or any(len(w) != 2 or w[0] < 0 or w[1] < 0 for w in widths):
        raise ValueError(
            f"pad: pad_width: expected an int, a pair or {ndim} pairs, none negative, got {pad_width}"
        )
    return _pad(x, widths=widths, value=constant_values)


# Selections ---------------------------------------------------------------------------------------


@primitive(domain="real")
def _getitem(x, *, index):
    return x[index]


_getitem.vjp(
    "x",
    lambda g, index, x_shape: _scatter(g, index=index, shape=x_shape),
    formula="x̄ = 0, then x̄[index] += ȳ",
)


@primitive(domain="real")
def _scatter(y, *, index, shape):
    """Zeros of a shape with y added at an index; what comes twice adds up."""
    out = xp.zeros(shape, y.dtype)
    if not isinstance(index, tuple) and _may_repeat(index):
        # Rows, as in an embedding. NumPy adds several times faster at single places of a flat array.
        width = prod(shape[1:])
        places = index.astype("int64").reshape(-1, 1) % shape[0] * width + xp.arange(width)
        xp.add.at(out.reshape(-1), places.reshape(-1), y.reshape(-1))
    elif _may_repeat(index):
        xp.add.at(out, index, y)
    else:
        out[index] = y
    return out


_scatter.vjp("y", lambda g, index: g[index], formula="ȳ = x̄[index]")


def _may_repeat(index) -> bool:
    """Whether an index can name one element twice: integer arrays can; slices, numbers, masks cannot."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(hasattr(part, "dtype") and part.ndim and part.dtype != bool for part in parts)


def getitem(x, index):
    """x[index] for every index of NumPy: numbers, slices, `...`, None, integer and boolean arrays."""
    if isinstance(index, tuple):
        return _getitem(x, index=tuple(_plain_index(part) for part in index))
    return _getitem(x, index=_plain_index(index))


def _plain_index(part):
    if isinstance(part, Tensor):
        return part.data
    return xp.asarray(part) if isinstance(part, list) else part


def take_along_axis(x, indices, axis):
    """The elements of x at integer `indices` along one axis, the other axes of both matching."""
    x_shape, indices = raw(x).shape, raw(indices)
    axis = _axis(axis, len(x_shape), "take_along_axis")
    if indices.ndim != len(x_shape):
        raise ValueError(
            f"take_along_axis: indices: expected {len(x_shape)} axes, as x has, got {indices.ndim}"
        )
    grid = [
        indices if a == axis else xp.arange(size).reshape([-1 if b == a else 1 for b in range(len(x_shape))])
        for a, size in enumerate(x_shape)
    ]
    return getitem(x, tuple(grid))


def diagonal(x, offset=0, axis1=0, axis2=1):
    """The elements x[..., i, i + offset] of two axes, as a new last axis."""
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = raw(x).shape[-2:]
    first, skip = max(-offset, 0), max(offset, 0)
    i = xp.arange(max(min(rows - first, columns - skip), 0))
    return getitem(x, (..., first + i, skip + i))


@primitive(domain="real")
def _tril(x, *, k):
    return xp.tril(x, k)


_tril.vjp("x", lambda g, k: tril(g, k), formula="x̄ = ȳ on and below the diagonal k, else 0")


@primitive(domain="real")
def _triu(x, *, k):
    return xp.triu(x, k)


_triu.vjp("x", lambda g, k: triu(g, k), formula="x̄ = ȳ on and above the diagonal k, else 0")


def tril(x, k=0):
    """The matrices in x's last two axes with zeros above diagonal k."""
    return _tril(_matrices(x, "tril"), k=k)


def triu(x, k=0):
    """The matrices in x's last two axes with zeros below diagonal k."""
    return _triu(_matrices(x, "triu"), k=k)


def _matrices(x, function: str):
    if raw(x).ndim < 2:
        raise ValueError(f"{function}: x: expected two axes or more, got shape {raw(x).shape}")
    return x


# Joining and splitting ----------------------------------------------------------------------------


def _at(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """The index of the part from start to stop along one axis."""
    return (slice(None),) * axis + (slice(start, stop),)


@primitive(domain="real")
def _concatenate(*xs, axis, starts):
    return xp.concatenate(xs, axis=axis)


_concatenate.vjp_each(
    lambda g, i, axis, starts: g[_at(axis, starts[i], starts[i + 1])], formula="x̄ᵢ = the part of ȳ from xᵢ"
)


def concatenate(xs, axis=0):
    """The arrays joined along an existing axis."""
    xs = list(xs)
    if not xs or raw(xs[0]).ndim == 0:
        raise ValueError("concatenate: xs: expected at least one array, of at least one axis")
    axis = _axis(axis, raw(xs[0]).ndim, "concatenate")
    starts = tuple(accumulate((raw(x).shape[axis] if axis < raw(x).ndim else 0 for x in xs), initial=0))
    return _concatenate(*xs, axis=axis, starts=starts)


@primitive(domain="real")
def _stack(*xs, axis):
    return xp.stack(xs, axis=axis)


_stack.vjp_each(lambda g, i, axis: g[(slice(None),) * axis + (i,)], formula="x̄ᵢ = ȳ at i along the axis")


def stack(xs, axis=0):
    """The arrays, of one shape, joined along a new axis."""
    xs = list(xs)
    if not xs:
        raise ValueError("stack: xs: expected at least one array")
    return _stack(*xs, axis=_axis(axis, raw(xs[0]).ndim + 1, "stack"))


@primitive(domain="real")
def _split(x, *, starts, axis):
    return tuple(x[_at(axis, start, stop)] for start, stop in zip(starts, starts[1:]))


@_split.vjp("x", formula="x̄ = the ȳₖ joined, 0 where one was not used")
def _(g, x_shape, starts, axis):
    dtype = next(part.dtype for part in g if part is not None)

    def zeros(k):
        return xp.zeros((*x_shape[:axis], starts[k + 1] - starts[k], *x_shape[axis + 1 :]), dtype)

    return concatenate([zeros(k) if part is None else part for k, part in enumerate(g)], axis)


def split(x, indices_or_sections, axis=0):
    """x cut along one axis into a tuple of parts.

    indices_or_sections: into how many equal parts, or the places to cut at, in rising order."""
    shape = raw(x).shape
    axis = _axis(axis, len(shape), "split")
    size = shape[axis]
    if isinstance(indices_or_sections, int):
        n = indices_or_sections
        if n < 1 or size % n:
            raise ValueError(f"split: indices_or_sections: expected a divisor of {size}, got {n}")
        starts = tuple(k * (size // n) for k in range(n + 1))
    else:
        starts = (
            0,
            *(min(max(cut + size if cut < 0 else cut, 0), size) for cut in indices_or_sections),
            size,
        )
        if any(a > b for a, b in zip(starts, starts[1:])):
            raise ValueError(
                f"split: indices_or_sections: expected places in rising order, got {indices_or_sections}"
            )
    return _split(x, starts=starts, axis=axis)


@primitive(domain="real")
def _unstack(x, *, axis):
    return tuple(xp.moveaxis(x, axis, 0))


@_unstack.vjp("x", formula="x̄ = the ȳₖ stacked, 0 where one was not used")
def _(g, x_shape, axis):
    dtype = next(part.dtype for part in g if part is not None)
    zeros = xp.zeros(x_shape[:axis] + x_shape[axis + 1 :], dtype)
    return stack([zeros if part is None else part for part in g], axis)


def unstack(x, axis=0):
    """The tuple of x's parts along one axis, without that axis."""
    return _unstack(x, axis=_axis(axis, raw(x).ndim, "unstack"))
