"""PixelCNN: one pass of masked convolutions gives the conditionals of all pixels.

    A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural Networks, 2016 (OKK below).

    log p(x) = Σ_d log p(x_d | x_<d)                                                      (OKK eq. 1 and 2)

The first convolution has a mask of type A and does not see the pixel that is predicted; those after it have
type B (OKK section 3.4). What a stack of 3x3 masks sees grows by a row upwards and a column to both sides for
each layer, but to the right only along a diagonal: pixels above and far to the right are never seen, the
blind spot that Gated PixelCNN does away with.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import nn, ops
from .conditionals import Family
from .raster import RasterModel


class ResidualBlock(nn.Module):
    """h + (1x1 from half the channels) ∘ ReLU ∘ (3x3 B) ∘ ReLU ∘ (1x1 to half the channels) ∘ ReLU of h
    (OKK figure 5, left). channels: 2h in the paper. size: of the kernel, 3 there."""

    def __init__(self, channels: int, colors: int, size: int):
        half = channels // 2
        self.narrow = nn.MaskedConv2d("B", channels, half, 1, colors)
        self.across = nn.MaskedConv2d("B", half, half, size, colors)
        self.widen = nn.MaskedConv2d("B", half, channels, 1, colors)

    def forward(self, h, convolve: Callable):
        y = h
        for layer in (self.narrow, self.across, self.widen):
            y = convolve(layer, ops.relu(y))
        return h + y


class PixelCNN(RasterModel):
    """p(x) over images x (N, H, W, colors).

    shape: (H, W, colors). family: of the conditionals; bernoulli() if None.
    channels: of the residual stream, which the colors divide into two equal parts each: a multiple of
        2 · colors. blocks: how many residual blocks. first, size: of the first
        kernel and of those in the blocks.

    Raises as `RasterModel`, and ValueError for channels that do not divide so."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int = 64,
        blocks: int = 7,
        family: Family | None = None,
        first: int = 7,
        size: int = 3,
    ):
        super().__init__(shape, family)
        self._expect_counts(channels=channels, blocks=blocks)
        colors = self.shape[2]
        if channels % (2 * colors):
            raise ValueError(f"PixelCNN: channels: expected a multiple of {2 * colors}, got {channels}")
        self.first = nn.MaskedConv2d("A", colors, channels, first, colors)
        self.blocks = [ResidualBlock(channels, colors, size) for _ in range(blocks)]
        self.middle = nn.MaskedConv2d("B", channels, channels, 1, colors)
        self.last = nn.MaskedConv2d("B", channels, colors * self.family.size, 1, colors)

    def see(self, x, convolve: Callable):
        return convolve(self.first, x)

    def pixels(self, seen, above: tuple, given: tuple, convolve: Callable):
        h = seen
        for block in self.blocks:
            h = block(h, convolve)
        h = convolve(self.middle, ops.relu(h))
        return convolve(self.last, ops.relu(h))
