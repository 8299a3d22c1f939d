"""Multi-scale PixelCNN: a small image first, and larger ones given it.

    A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural Networks, 2016 (OKK below),
    section 3.6, with PixelCNNs for the PixelRNNs there.

The small image x' is a part of x, its even rows and columns, counted from 0. So by the product rule, exactly,

    log p(x) = log p(x') + Σ_d log p(x_d | x', x_<d), over those x_d that are not in x'

where x_<d comes before x_d in raster order, as in a PixelCNN. x' has a model of its own, which may have two
scales in turn. With three, the places of 4x4 pixels are drawn in this order:

    0 4 1 5
    6 7 8 9
    2 a 3 b
    c d e f
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ... import nn, ops
from ...backend import xp
from .conditionals import Family
from .pixelcnn import PixelCNN


class MultiscalePixelCNN(PixelCNN):
    """p(x) over images x (N, H, W, colors).

    scales: how many, at least 2. Each has half the height and width of the next, rounded up.
    shape, channels, blocks, family, first, size: as for `PixelCNN`, and the same at all scales. Its
        convolutions are the network that is given x'. `coarse` is the model of x'.

    What comes before a pixel is what is drawn before it, in `order`.

    Raises as `PixelCNN`, and ValueError for more scales than the images have."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int = 64,
        blocks: int = 7,
        scales: int = 2,
        family: Family | None = None,
        first: int = 7,
        size: int = 3,
    ):
        super().__init__(shape, channels, blocks, family, first, size)
        self._expect_counts(least=2, scales=scales)
        height, width, colors = self.shape
        most = 1 + (max(height, width) - 1).bit_length()  # so many until there is one pixel
        if scales > most:
            raise ValueError(
                f"MultiscalePixelCNN: scales: expected at most {most} for images of {height}x{width}, "
                f"got {scales}"
            )
        small = (height + 1) // 2, (width + 1) // 2, colors
        options = {"family": self.family, "first": first, "size": size}
        if scales > 2:
            self.coarse = MultiscalePixelCNN(small, channels, blocks, scales - 1, **options)
        else:
            self.coarse = PixelCNN(small, channels, blocks, **options)
        self.read = nn.Conv2d(colors, channels, 3, padding=1)
        self.enlarge = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
        self.biases = [nn.Linear(channels, channels) for _ in range(blocks)]

    # The network that is given the small image --------------------------------------------------------

    def upsampled(self, small) -> tuple:
        """What the small image (N, ⌈H/2⌉, ⌈W/2⌉, colors) adds to the input of each block, (N, H, W, channels)
        each. It is known before the pixels between its own are, so that nothing is masked here (OKK section
        3.6: an upsampling network, and a 1x1 convolution for each layer that it biases)."""
        height, width, _ = self.shape
        maps = ops.relu(self.enlarge(ops.relu(self.read(small))))[:, :height, :width]
        return tuple(bias(maps) for bias in self.biases)

    def pixels(self, seen, above: tuple, given: tuple, convolve: Callable):
        h = seen
        for block, bias in zip(self.blocks, given):
            h = block(h + bias, convolve)
        h = convolve(self.middle, ops.relu(h))
        return convolve(self.last, ops.relu(h))

    # Both together ------------------------------------------------------------------------------------

    def order(self) -> Iterator[tuple[int, int, int]]:
        for i, j, c in self.coarse.order():
            yield 2 * i, 2 * j, c
        for i, j, c in super().order():
            if not _in_small(i, j):
                yield i, j, c

    def parameters_of(self, x, given: tuple):
        """(N, H, W, colors, family.size): those of x' from its own model, the others given x'."""
        height, width, _ = self.shape
        small = x[:, ::2, ::2]
        of_small = self.coarse.parameters_of(small, ())
        of_others = super().parameters_of(x, self.upsampled(small))
        in_place = ops.repeat(ops.repeat(of_small, 2, axis=1), 2, axis=2)[:, :height, :width]
        i, j = xp.arange(height)[:, None, None, None], xp.arange(width)[:, None, None]
        return ops.where(_in_small(i, j), in_place, of_others)

    def _fill(self, n: int, given: tuple, draw: Callable):
        """x' with its own model, then the others given x', with each activation computed once."""
        small = self.coarse._fill(n, (), lambda i, j, c, parameters: draw(2 * i, 2 * j, c, parameters))

        def draw_others(i, j, c, parameters):
            return small[:, i // 2, j // 2, c] if _in_small(i, j) else draw(i, j, c, parameters)

        return super()._fill(n, self.upsampled(small), draw_others)


def _in_small(i, j):
    """Whether the pixels at (i, j) are in the small image."""
    return (i % 2 == 0) & (j % 2 == 0)
