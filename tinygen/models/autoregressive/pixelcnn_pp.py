"""PixelCNN++: two streams of shifted convolutions that meet again at coarser resolutions, and pixels from a
discretized mixture of logistics.

    T. Salimans, A. Karpathy, X. Chen and D. P. Kingma, PixelCNN++: Improving the PixelCNN with Discretized
    Logistic Mixture Likelihood and Other Modifications, 2017 (SKCK below); what the paper leaves open is as
    in the authors' code.

One stream sees the rows above a pixel, the other one what is on its left too, and takes from the first (as in
A. van den Oord et al., Conditional image generation with PixelCNN decoders, 2016). Each goes down to half the
resolution, a quarter and so on, and up again; short-cuts lead from each map on the way down to the one of
equal size on the way up (SKCK section 2.3, 2.4 and figure 2):

    x ─ ▪ ─ ▪ ─┐       ┌─ ▪ ─ ▪ ─ ▪ ─ parameters
               ▪ ─ ▪ ─ ▪

All colors of a pixel are predicted at once (SKCK section 2.2, in logistic_mixture.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy  # weights are made on the host

from ... import nn, ops
from ...autodiff import Tensor
from .logistic_mixture import by_color, logistic_mixture, pixel_parameters
from .raster import RasterModel


def concat_elu(x):
    """ELU of x and −x, side by side: (..., C) to (..., 2C). The authors' code has it as the concatenated
    ReLU of W. Shang, K. Sohn, D. Almeida and H. Lee, Understanding and Improving Convolutional Neural
    Networks via Concatenated Rectified Linear Units, 2016, with ELU for ReLU."""
    return ops.elu(ops.concatenate([x, -x], axis=-1))


# In what follows a stream's `right` says how far its kernels, 2x(2 + right), reach to the right: 1, as far as
# to the left, in the stream of the rows above, and 0 in the one that sees the pixel's own row.


class GatedBlock(nn.Module):
    """h + a σ(b) with [a, b] = conv(dropout(φ(conv(φ(h)) + W φ(beside)))), φ = concat_elu (SKCK section 2.4
    and 2.5; the gate as in the Gated PixelCNN).

    beside: the channels of what comes from short-cuts and the other stream."""

    def __init__(self, filters: int, right: int, beside: int, dropout: float):
        size = (2, 2 + right)
        self.first = nn.ShiftedConv2d(2 * filters, filters, size, right)
        self.beside = nn.Linear(2 * beside, filters) if beside else None
        self.dropout = nn.Dropout(dropout)
        self.second = nn.ShiftedConv2d(2 * filters, 2 * filters, size, right, _small)

    def forward(self, h, beside: list, convolve: Callable):
        y = convolve(self.first, concat_elu(h))
        if self.beside:
            y = y + self.beside(concat_elu(ops.concatenate(beside, axis=-1)))
        a, b = ops.split(convolve(self.second, self.dropout(concat_elu(y))), 2, axis=-1)
        return h + a * ops.sigmoid(b)


def _small(shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights with which a block starts as about the identity."""
    return 0.1 * nn.init.glorot_uniform(shape)


class Halve(nn.ShiftedConv2d):
    """Shifted convolution of stride 2: x (N, H, W, C) to y (N, H/2, W/2, C), aligned with the first pixel of
    each 2x2."""

    def __init__(self, filters: int, right: int):
        super().__init__(filters, filters, (2, 2 + right), right)

    def forward(self, x):
        return ops.conv2d(x, self.weight, stride=2, padding=((1, 0), self.around), plus=self.bias)


class Double(nn.Module):
    """Transposed convolution of stride 2: x (N, H, W, C) to y (N, 2H, 2W, C). Each row becomes two, which see
    no other; and with right = 0 each pixel becomes 2x2, which see no other."""

    def __init__(self, filters: int, right: int):
        self.right = right
        self.weight = Tensor(nn.init.glorot_uniform((2, 2 + right, filters, filters)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(filters, "float32"), requires_grad=True)

    def forward(self, x):
        return ops.conv_transpose2d(x, self.weight, 2, padding=((0, 0), (self.right, 0))) + self.bias


class Stream(nn.Module):
    """One stream at one resolution and, inside of it, at the coarser ones.

    resolutions: this one and those inside. blocks: on the way down; as many on the way up, and one more where
    it comes from a coarser resolution. beside: whether it takes from the other stream."""

    def __init__(self, resolutions: int, blocks: int, filters: int, right: int, beside: bool, dropout: float):
        other = filters if beside else 0
        inside = resolutions > 1
        self.down = [GatedBlock(filters, right, other, dropout) for _ in range(blocks)]
        self.up = [GatedBlock(filters, right, filters + other, dropout) for _ in range(blocks + inside)]
        self.coarser = None
        if inside:
            self.halve, self.double = Halve(filters, right), Double(filters, right)
            self.coarser = Stream(resolutions - 1, blocks, filters, right, beside, dropout)

    def forward(self, h, others: tuple, convolve: Callable) -> tuple:
        """The maps after each block, those of this resolution first, from the map h (N, H, W, filters) and,
        where it takes from the other stream, the other's maps."""
        n = len(self.down) + len(self.up)
        own = iter([[other] for other in others[:n]] if others else n * [[]])
        kept = [h]
        for block in self.down:
            kept.append(block(kept[-1], next(own), convolve))
        maps, coarser = kept[1:], ()
        if self.coarser:

            def inside(y, convolve):
                found = self.coarser(y, others[n:], convolve)
                return self.double(found[self.coarser.last]), *found

            h, *coarser = convolve.at_half(self.halve, inside, kept[-1])
        else:
            h = kept.pop()
        for block in self.up:
            h = block(h, [kept.pop(), *next(own)], convolve)
            maps.append(h)
        return *maps, *coarser

    @property
    def last(self) -> int:
        """Which of the maps comes out at this resolution."""
        return len(self.down) + len(self.up) - 1


class PixelCNNPlusPlus(RasterModel):
    """p(x) over images x (N, H, W, colors) of levels, integers.

    shape: (H, W, colors). levels: of a color. components: K, of the mixture.
    filters: the channels of all maps. blocks: on the way down at each resolution. resolutions: the full one,
        half of it and so on, 3 in the paper; H and W are multiples of 2^(resolutions − 1).
    dropout: the probability of it in training. Samples and held-out likelihoods want `eval()`.

    Raises as `RasterModel`, and ValueError for sizes that cannot be halved so often."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        components: int = 5,
        filters: int = 32,
        blocks: int = 1,
        resolutions: int = 2,
        dropout: float = 0.5,
    ):
        super().__init__(shape, logistic_mixture(levels, components))
        self._expect_counts(filters=filters, blocks=blocks, resolutions=resolutions)
        height, width, colors = self.shape
        if (multiple := 2 ** (resolutions - 1)) > 1 and (height % multiple or width % multiple):
            raise ValueError(
                f"PixelCNNPlusPlus: shape: expected a height and width that are multiples of {multiple}, "
                f"for {resolutions} resolutions, got {height} and {width}"
            )
        self.levels, self.components, self.filters = levels, components, filters
        self.first_above = nn.ShiftedConv2d(colors, filters, (2, 3), right=1)
        self.first = nn.MaskedConv2d("A", colors, filters, 3)
        self.above = Stream(resolutions, blocks, filters, 1, False, dropout)
        self.left = Stream(resolutions, blocks, filters, 0, True, dropout)
        self.last = nn.Linear(filters, pixel_parameters(colors, components))

    def rows(self, x, given: tuple, convolve: Callable) -> tuple:
        return self.above(convolve(self.first_above, x), (), convolve)

    def see(self, x, convolve: Callable):
        """What is before each pixel, and its own colors but for the last, (N, H, W, filters + colors − 1)."""
        return ops.concatenate([convolve(self.first, x), x[..., :-1]], axis=-1)

    def pixels(self, seen, above: tuple, given: tuple, convolve: Callable):
        before, earlier = seen[..., : self.filters], seen[..., self.filters :]
        h = self.left(before, above, convolve)[self.left.last]
        return by_color(self.last(ops.elu(h)), earlier, self.levels, self.components)
