"""Products with a matrix of which only some blocks are not zero: the rest is neither stored nor multiplied.

As for whole matrices there are three products, and the VJPs of each are the other two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import numpy  # masks are looked at on the host

from .. import backend
from ..autodiff import primitive
from ..backend import xp


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Where a matrix W of `shape` (I, O) is not zero: W[top:bottom, left:right] for each of the blocks.

    Stored is a flat array, `kept` (n,): block after block, and each row by row."""

    shape: tuple[int, int]
    blocks: tuple[tuple[int, int, int, int], ...]  # top, bottom, left, right

    @property
    def size(self) -> int:
        """n, how many elements are kept."""
        return sum((bottom - top) * (right - left) for top, bottom, left, right in self.blocks)

    def parts(self, kept) -> Iterator[tuple]:
        """For each block its rows and columns in W, and the view of `kept` that has its elements."""
        start = 0
        for top, bottom, left, right in self.blocks:
            stop = start + (bottom - top) * (right - left)
            yield slice(top, bottom), slice(left, right), kept[start:stop].reshape(bottom - top, right - left)
            start = stop

    def keep(self, matrix):
        """What is kept of W, flat: a new array."""
        kept = numpy.empty(self.size, matrix.dtype)
        for rows, columns, block in self.parts(kept):
            block[...] = matrix[rows, columns]
        return kept

    def matrix(self, kept):
        """W, from what is kept: a new array, column by column in memory, as the sampler of MADE takes it."""
        matrix = xp.zeros(self.shape, kept.dtype, order="F")
        for rows, columns, block in self.parts(kept):
            matrix[rows, columns] = block
        return matrix


def staircase(mask: numpy.ndarray, side: int = 160) -> Blocks:
    """Blocks that hold all ones of a mask (I, O), and few of its zeros where it is a staircase: the longer
    axis is cut into pieces of `side` or a little more, and the block of a piece goes from its first column,
    or row, with a one to the last."""
    rows, columns = mask.shape
    if rows < columns:
        turned = staircase(mask.T, side).blocks
        return Blocks(mask.shape, tuple((top, bottom, left, right) for left, right, top, bottom in turned))
    pieces = max(1, rows // side)
    edges = [rows * k // pieces for k in range(pieces + 1)]
    found = [(*edge, mask[slice(*edge)].any(axis=0).nonzero()[0].tolist()) for edge in pairwise(edges)]
    blocks = tuple((top, bottom, ones[0], ones[-1] + 1) for top, bottom, ones in found if ones)
    return Blocks(mask.shape, blocks)


@primitive(domain="real")
def blocks_matmul(x, kept, *, blocks):
    """x W: x (N, I), kept (n,), result (N, O)."""
    y = xp.zeros((len(x), blocks.shape[1]), x.dtype)
    for rows, columns, block in blocks.parts(kept):
        sums = y[:, columns]
        sums += backend.matmul(x[:, rows], block)
    return y


@primitive(domain="real")
def _blocks_matmul_t(y, kept, *, blocks):
    """y Wᵀ: y (N, O), kept (n,), result (N, I)."""
    x = xp.zeros((len(y), blocks.shape[0]), y.dtype)
    for rows, columns, block in blocks.parts(kept):
        sums = x[:, rows]
        sums += backend.matmul(y[:, columns], block.T)
    return x


@primitive(domain="real")
def _blocks_of_t_matmul(x, y, *, blocks):
    """The blocks of xᵀ y: x (N, I), y (N, O), result (n,)."""
    kept = xp.empty(blocks.size, x.dtype)
    for rows, columns, block in blocks.parts(kept):
        backend.matmul(x[:, rows].T, y[:, columns], out=block)
    return kept


blocks_matmul.vjp("x", lambda g, kept, blocks: _blocks_matmul_t(g, kept, blocks=blocks), formula="x̄ = ȳ Wᵀ")
blocks_matmul.vjp(
    "kept", lambda g, x, blocks: _blocks_of_t_matmul(x, g, blocks=blocks), formula="W̄ = blocks of xᵀ ȳ"
)
_blocks_matmul_t.vjp("y", lambda g, kept, blocks: blocks_matmul(g, kept, blocks=blocks), formula="ȳ = x̄ W")
_blocks_matmul_t.vjp(
    "kept", lambda g, y, blocks: _blocks_of_t_matmul(g, y, blocks=blocks), formula="W̄ = blocks of x̄ᵀ y"
)
_blocks_of_t_matmul.vjp("x", lambda g, y, blocks: _blocks_matmul_t(y, g, blocks=blocks), formula="x̄ = y W̄ᵀ")
_blocks_of_t_matmul.vjp("y", lambda g, x, blocks: blocks_matmul(x, g, blocks=blocks), formula="ȳ = x W̄")
