"""Masked linear layers: each output is computed from some of the inputs alone, as autoregressive models need
it.

The mask is part of the computation: what is masked has no influence, gets gradient zero, and is never
overwritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy  # weights and masks are made on the host

from .. import ops
from ..autodiff import Tensor
from ..backend import to_host
from ..ops.blocks import blocks_matmul, staircase
from ..ops.shaping import permuted
from .init import glorot_uniform
from .module import Module


class MaskedLinear(Module):
    """y = x (W ∘ M) + b: x (..., inputs) to y (..., outputs), where output j sees input i if M[i, j] is 1
    (M. Germain, K. Gregor, I. Murray and H. Larochelle, MADE: Masked Autoencoder for Distribution
    Estimation, 2015, section 3, whose W and M are transposed).

    mask: M (inputs, outputs) of zeros and ones on the host; kept as untrained state, which `mask.data`
        replaces.
    weight: W (inputs, outputs), started by `init`. bias: b (outputs,), started at 0; None where the layer is
        made with bias=False.

    Raises ValueError for a mask of other axes or values, and for an x of another size or dtype."""

    def __init__(self, mask, bias: bool = True, init: Callable = glorot_uniform):
        mask = numpy.asarray(mask)
        if mask.ndim != 2 or not mask.size or not ((mask == 0) | (mask == 1)).all():
            got = f"{mask.dtype}{list(mask.shape)}"
            layer = type(self).__name__
            raise ValueError(f"{layer}: mask: expected (inputs, outputs) zeros and ones, got {got}")
        self.inputs, self.outputs = mask.shape
        self._arrange(mask)
        self.mask = Tensor(self.stored(mask.astype("float32")))
        self.weight = Tensor(self.stored(init(mask.shape)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(self.outputs, "float32"), requires_grad=True) if bias else None

    def _arrange(self, mask: numpy.ndarray) -> None:
        """Decide how matrices are stored."""

    def stored(self, matrix):
        """How this layer stores a matrix (inputs, outputs) of the host: as `weight` and `mask` are."""
        return matrix

    def matrix(self, stored):
        """The matrix (inputs, outputs) that is so stored, on the current device."""
        return stored

    def forward(self, x):
        self._expect(x, self.weight.dtype, ..., self.inputs)
        weight = self.weight * self.mask
        return ops.matmul(x, weight) if self.bias is None else ops.linear(x, weight, self.bias)

    def __repr__(self) -> str:
        layer = type(self).__name__
        return f"{layer}({self.inputs}, {self.outputs}{', bias=False' if self.bias is None else ''})"


class StaircaseLinear(MaskedLinear):
    """A `MaskedLinear` that leaves out blocks of zeros: neither stored nor multiplied, they take no memory,
    no gradient and no step of an optimizer. With inputs and outputs sorted by how many they are connected
    to, that is almost half of a large mask of MADE:

        1 1 1 1       ▪▪▪▪
        0 1 1 1       ▪▪▪▪       the blocks that stay, which
        0 0 1 1       · ·▪▪      hold every one, and some zeros
        0 0 0 1       · ·▪▪

    weight, mask: flat, what `blocks` keep of W and M, sorted.
    order_in, order_out: the inputs and outputs as they come there, and the inverse permutation, as untrained
        state; empty where they are sorted already.

    mask: as for `MaskedLinear`; a new one must have its ones where the first one's blocks are."""

    @staticmethod
    def pays(mask: numpy.ndarray) -> bool:
        """Whether blocks leave out at least a fifth of a mask. In thin ones more calls cost what is saved."""
        if min(mask.shape) < 256:
            return False
        rows, columns = _by_connections(mask)
        return staircase(mask[rows][:, columns]).size <= 0.8 * mask.size

    def _arrange(self, mask: numpy.ndarray) -> None:
        rows, columns = _by_connections(mask)
        self.blocks = staircase(mask[rows][:, columns])
        self.order_in, self.order_out = map(_with_inverse, (rows, columns))

    def stored(self, matrix):
        for axis, (places, _) in enumerate((self.order_in, self.order_out)):
            if places.size:
                matrix = matrix.take(to_host(places.data), axis)
        return self.blocks.keep(matrix)

    def matrix(self, stored):
        matrix = self.blocks.matrix(stored)
        for axis, (_, back) in enumerate((self.order_in, self.order_out)):
            if back.size:  # the transposes keep it column by column in memory
                matrix = matrix.T.take(back.data, 1 - axis).T
        return matrix

    def forward(self, x):
        self._expect(x, self.weight.dtype, ..., self.inputs)
        batch = x.shape[:-1]
        rows = x if len(batch) == 1 else ops.reshape(x, (math.prod(batch), self.inputs))
        places, back = self.order_in
        if places.size:
            rows = permuted(rows, places=places.data, back=back.data)
        y = blocks_matmul(rows, self.weight * self.mask, blocks=self.blocks)
        places, back = self.order_out
        if places.size:
            y = permuted(y, places=back.data, back=places.data)
        y = y if self.bias is None else y + self.bias
        return y if len(batch) == 1 else ops.reshape(y, (*batch, self.outputs))


def _by_connections(mask: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The orders of rows and columns with which a mask that can be a staircase is one: first the rows with
    most ones, and the columns with fewest."""
    ones = mask != 0
    return (-ones.sum(axis=1)).argsort(kind="stable"), ones.sum(axis=0).argsort(kind="stable")


def _with_inverse(order: numpy.ndarray) -> tuple[Tensor, Tensor]:
    """A permutation and its inverse; empty where nothing changes its place."""
    in_place = (order == numpy.arange(len(order))).all()
    return Tensor(order[: 0 if in_place else None]), Tensor(order.argsort()[: 0 if in_place else None])
