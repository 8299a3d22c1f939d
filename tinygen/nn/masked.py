"""Masked layers: each output is computed from some of the inputs alone, as autoregressive models need it.

The weights have their full shape, and the mask is part of the computation: what is masked has no influence,
gets gradient zero, and is never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy  # weights and masks are made on the host

from .. import ops
from ..autodiff import Tensor
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
            raise ValueError(f"MaskedLinear: mask: expected (inputs, outputs) zeros and ones, got {got}")
        self.inputs, self.outputs = mask.shape
        self.mask = Tensor(mask.astype("float32"))
        self.weight = Tensor(init(mask.shape), requires_grad=True)
        self.bias = Tensor(numpy.zeros(self.outputs, "float32"), requires_grad=True) if bias else None

    def forward(self, x):
        self._expect(x, self.weight.dtype, ..., self.inputs)
        weight = self.weight * self.mask
        return ops.matmul(x, weight) if self.bias is None else ops.linear(x, weight, self.bias)

    def __repr__(self) -> str:
        return f"MaskedLinear({self.inputs}, {self.outputs}{', bias=False' if self.bias is None else ''})"


class MaskedConv2d(Module):
    """Convolution that sees the pixels before its own alone, in the order of reading: x (N, H, W, inputs) to
    y (N, H, W, outputs) (A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural
    Networks, 2016, section 3.4).

    mask: "A" leaves out the pixel itself, for the first layer; "B" sees it, for all after that.
    size: of the square kernel; odd. Zeros around the image keep its size.
    colors: 1 for pixels that are predicted as a whole. Else so many colors that are predicted one after
        another: inputs and outputs are so many groups of equal size, side by side, and in the pixel itself
        a group sees the groups before its own and, under "B", its own too.
    weight: (size, size, inputs, outputs), started by `init`. bias: (outputs,), started at 0.

    The live taps are two rectangles, the rows above and the left part of the middle row:

        ▪▪▪▪▪
        ▪▪▪▪▪      above       y = x ∗ above + x ∗ left + b
        ▪▪▫··      left        with ▫ in left but for "A" of one colour; nothing is computed for ·

    Raises ValueError for an x of another dtype or number of channels, or without pixels, and for sizes that
    do not fit together."""

    def __init__(
        self,
        mask: str,
        inputs: int,
        outputs: int,
        size: int,
        colors: int = 1,
        init: Callable = glorot_uniform,
    ):
        self._expect_counts(inputs=inputs, outputs=outputs, size=size, colors=colors)
        if mask not in ("A", "B"):
            raise ValueError(f"MaskedConv2d: mask: expected 'A' or 'B', got {mask!r}")
        if size % 2 == 0:
            raise ValueError(f"MaskedConv2d: size: expected an odd int, got {size}")
        if inputs % colors or outputs % colors:
            raise ValueError(
                f"MaskedConv2d: colors: expected a divisor of inputs {inputs} and outputs {outputs}, "
                f"got {colors}"
            )
        if (mask, size, colors) == ("A", 1, 1):
            raise ValueError("MaskedConv2d: size: expected 3 or more for mask 'A' of one color, got 1")
        self.mask, self.inputs, self.outputs, self.size, self.colors = mask, inputs, outputs, size, colors
        self.weight = Tensor(init((size, size, inputs, outputs)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True)
        self.left_mask = Tensor(self._left_mask()) if colors > 1 else None

    def _left_mask(self) -> numpy.ndarray:
        """The mask of the left part of the middle row, (1, size // 2 + 1, inputs, outputs), where what the
        pixel itself gives depends on the colors."""
        of_inputs = numpy.arange(self.inputs) * self.colors // self.inputs
        of_outputs = numpy.arange(self.outputs) * self.colors // self.outputs
        sees = numpy.less if self.mask == "A" else numpy.less_equal
        mask = numpy.ones((1, self.size // 2 + 1, self.inputs, self.outputs), "float32")
        mask[0, -1] = sees(of_inputs[:, None], of_outputs)
        return mask

    def forward(self, x):
        self._expect(x, self.weight.dtype, "N", "H", "W", self.inputs)
        if min(x.shape[1:3]) < 1:
            raise self._refusal(x, "height and width of at least 1")
        reach = self.size // 2
        # Padding of −1 cuts off the last row or column, which has no pixel below or to the right to see it.
        itself = int(self.mask == "B" or self.colors > 1)
        left = self.weight[reach : reach + 1, : reach + itself]
        if self.left_mask is not None:
            left = left * self.left_mask
        y = ops.conv2d(x, left, padding=(0, (reach, itself - 1))) + self.bias
        if reach == 0:
            return y
        above = self.weight[:reach]
        return ops.conv2d(x, above, padding=((reach, -1), reach)) + y

    def __repr__(self) -> str:
        return (
            f"MaskedConv2d({self.mask!r}, {self.inputs}, {self.outputs}, {self.size}, colors={self.colors})"
        )
