"""Masked convolutions: each pixel is computed from those before it alone, as autoregressive models need it.

The weights have their full shape; what is masked has no influence, gets gradient zero, and is never
overwritten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy  # weights and masks are made on the host

from .. import ops
from ..autodiff import Tensor
from ..backend import share_images
from .init import glorot_uniform
from .module import Module


class Half(NamedTuple):
    """Some taps of a kernel, side by side in whole rows: kernel (rows, columns, inputs, outputs), and how
    many columns these reach to the left and to the right of the pixel, fewer than none if they end before."""

    kernel: Tensor
    around: tuple[int, int]


class MaskedConv2d(Module):
    """Convolution that sees the pixels before its own alone, in the order of reading: x (N, H, W, inputs) to
    y (N, H, W, outputs) (A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural
    Networks, 2016, section 3.4).

    mask: "A" leaves out the pixel itself, for the first layer; "B" sees it, for all after that.
    size: of the kernel, one number or (height, width); odd. Zeros around the image keep its size.
    colors: 1 for pixels that are predicted as a whole. Else so many colors that are predicted one after
        another: inputs and outputs are so many groups of equal size, side by side, and in the pixel itself
        a group sees the groups before its own and, under "B", its own too.
    weight: (height, width, inputs, outputs), started by `init`. bias: (outputs,), started at 0.

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
        size: int | tuple[int, int],
        colors: int = 1,
        init: Callable = glorot_uniform,
    ):
        height, width = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
        self._expect_counts(inputs=inputs, outputs=outputs, colors=colors)
        for length in (height, width):
            self._expect_counts(size=length)
        if mask not in ("A", "B"):
            raise ValueError(f"MaskedConv2d: mask: expected 'A' or 'B', got {mask!r}")
        if height % 2 == 0 or width % 2 == 0:
            raise ValueError(f"MaskedConv2d: size: expected odd numbers, got {size}")
        if inputs % colors or outputs % colors:
            raise ValueError(
                f"MaskedConv2d: colors: expected a divisor of inputs {inputs} and outputs {outputs}, "
                f"got {colors}"
            )
        if (mask, height, width, colors) == ("A", 1, 1, 1):
            raise ValueError("MaskedConv2d: size: expected 3 or more for mask 'A' of one color, got 1")
        self.mask, self.inputs, self.outputs, self.size, self.colors = mask, inputs, outputs, size, colors
        share_images()
        self.weight = Tensor(init((height, width, inputs, outputs)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True)
        self.left_mask = Tensor(self._left_mask()) if colors > 1 else None

    def _left_mask(self) -> numpy.ndarray:
        """The mask of the left part of the middle row, (1, width // 2 + 1, inputs, outputs), where what the
        pixel itself gives depends on the colors."""
        of_inputs = numpy.arange(self.inputs) * self.colors // self.inputs
        of_outputs = numpy.arange(self.outputs) * self.colors // self.outputs
        sees = numpy.less if self.mask == "A" else numpy.less_equal
        mask = numpy.ones((1, self.weight.shape[1] // 2 + 1, self.inputs, self.outputs), "float32")
        mask[0, -1] = sees(of_inputs[:, None], of_outputs)
        return mask

    def halves(self) -> tuple[Half | None, Half | None]:
        """(above, left); None for a half without taps."""
        rows, reach = self.weight.shape[0] // 2, self.weight.shape[1] // 2
        itself = int(self.mask == "B" or self.colors > 1)
        above = Half(self.weight[:rows], (reach, reach)) if rows else None
        if reach + itself == 0:
            return above, None
        left = self.weight[rows : rows + 1, : reach + itself]
        return above, Half(left if self.left_mask is None else left * self.left_mask, (reach, itself - 1))

    def forward(self, x):
        self._expect(x, self.weight.dtype, "N", "H", "W", self.inputs)
        if min(x.shape[1:3]) < 1:
            raise self._refusal(x, "height and width of at least 1")
        above, left = self.halves()
        y = self.bias
        if left:
            y = ops.conv2d(x, left.kernel, padding=(0, left.around), plus=y)
        if above:  # padding of −1 cuts off the last row, which has no pixel below to see it
            y = ops.conv2d(x, above.kernel, padding=((len(above.kernel), -1), above.around), plus=y)
        return y

    def __repr__(self) -> str:
        return (
            f"MaskedConv2d({self.mask!r}, {self.inputs}, {self.outputs}, {self.size}, colors={self.colors})"
        )


class ShiftedConv2d(Module):
    """Convolution that sees no pixel below its own, nor, where `right` is 0, one to the right: x (N, H, W,
    inputs) to y (N, H, W, outputs). The kernel's last row is the pixel's own.

        ▪▪▪▪▪                    ▪▪▪
        ▪▪▪▪▪                    ▪▪▫
        ▪▪▫▪▪  (3, 5), right 2        (2, 3), right 0

    With an image moved down by a row first, or to the right by a pixel, no pixel sees itself (A. van den Oord
    et al., Conditional image generation with PixelCNN decoders, 2016, section 2.2; T. Salimans et al.,
    PixelCNN++, 2017, section 2.3).

    size: (height, width) of the kernel. right: how many of its columns are to the right of the pixel.
    weight: (height, width, inputs, outputs), started by `init`. bias: (outputs,), started at 0.

    Raises ValueError for an x of another dtype or number of channels, and for a `right` outside the
    kernel."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        right: int = 0,
        init: Callable = glorot_uniform,
    ):
        self._expect_counts(inputs=inputs, outputs=outputs)
        self._expect_counts(least=0, right=right)
        if not isinstance(size, tuple) or len(size) != 2:
            raise ValueError(f"ShiftedConv2d: size: expected (height, width), got {size!r}")
        for length in size:
            self._expect_counts(size=length)
        if right >= size[1]:
            raise ValueError(f"ShiftedConv2d: right: expected less than the width {size[1]}, got {right}")
        self.inputs, self.outputs, self.size, self.right = inputs, outputs, size, right
        share_images()
        self.weight = Tensor(init((*size, inputs, outputs)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True)

    @property
    def around(self) -> tuple[int, int]:
        """How many columns the kernel reaches to the left and to the right of the pixel."""
        return self.size[1] - 1 - self.right, self.right

    def halves(self) -> tuple[Half | None, Half]:
        """(above, left), as for `MaskedConv2d`: the rows above and the row of the pixel."""
        above = Half(self.weight[:-1], self.around) if self.size[0] > 1 else None
        return above, Half(self.weight[-1:], self.around)

    def forward(self, x):
        self._expect(x, self.weight.dtype, "N", "H", "W", self.inputs)
        return ops.conv2d(x, self.weight, padding=((self.size[0] - 1, 0), self.around), plus=self.bias)

    def __repr__(self) -> str:
        return f"ShiftedConv2d({self.inputs}, {self.outputs}, {self.size}, right={self.right})"
