"""Gated PixelCNN: two stacks of convolutions that see all earlier pixels, and gated units.

    A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves and K. Kavukcuoglu, Conditional Image
    Generation with PixelCNN Decoders, 2016 (OKVEGK below).

    log p(x | h) = Σ_d log p(x_d | x_<d, h)                                                     (OKVEGK eq. 3)

A vertical stack sees the rows above the pixel, to the left and to the right. A horizontal stack sees what is
left of the pixel in its row, and takes from the vertical one, which takes nothing from it. Together their
field of view is a rectangle: there is no blind spot (OKVEGK section 2.2). h is a label, if there is any.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import nn, ops
from .conditionals import Family
from .raster import RasterModel


class GatedLayer(nn.Module):
    """One layer of both stacks (OKVEGK figure 2): of the vertical one `above`, of the horizontal one `left`,
    with `link` from the first to the second and `onward` behind its gate. `label` is V of eq. 4, where there
    are labels: of the vertical stack, and over the link of the horizontal one.

    mask: of what is left: "A" for the layer that is shown the pixels, "B" for those after it. inputs,
    channels: into the convolutions and out of the gates. size: of the kernel that the two make up."""

    def __init__(self, mask: str, inputs: int, channels: int, size: int, colors: int, labels: int):
        both = 2 * channels  # for the tanh and for the gate
        reach = size // 2
        self.left = nn.MaskedConv2d(mask, inputs, both, (1, size), colors)
        self.above = nn.ShiftedConv2d(inputs, both, (reach + 1, size), right=reach)
        self.link = nn.Linear(both, both, bias=False)
        self.onward = nn.MaskedConv2d("B", channels, channels, 1, colors)
        if labels:
            self.label = nn.Linear(labels, both, bias=False)


def gated(a, colors: int = 1):
    """y = tanh(a_f) ⊙ σ(a_g) (OKVEGK eq. 2 and 4): (N, H, W, 2 channels) to (N, H, W, channels). a_f and a_g
    are the halves of what belongs to each color, so that a color stays among its own and those before."""
    *images, both = a.shape
    f, g = ops.split(ops.reshape(a, (*images, colors, both // colors)), 2, axis=-1)
    return ops.reshape(ops.tanh(f) * ops.sigmoid(g), (*images, both // 2))


class GatedPixelCNN(RasterModel):
    """p(x), or p(x | label), over images x (N, H, W, colors).

    shape: (H, W, colors). channels: of each stack, a multiple of the colors. layers: how many, the first one
    too. family: of the conditionals; bernoulli() if None. labels: the number of classes, if the model is
    p(x | label); conditions are labels (N,) then. first, size: of the kernels in the first layer and in the
    others, odd.

    A pixel sees (first + (layers − 1)(size − 1)) // 2 columns to both sides, and one row more above it.

    Raises as `RasterModel`, and ValueError for channels that the colors do not divide."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int = 64,
        layers: int = 7,
        family: Family | None = None,
        labels: int = 0,
        first: int = 7,
        size: int = 3,
    ):
        super().__init__(shape, family, labels)
        self._expect_counts(channels=channels, layers=layers, first=first, size=size)
        colors = self.shape[2]
        if channels % colors:
            raise ValueError(f"GatedPixelCNN: channels: expected a multiple of {colors}, got {channels}")
        self.layers = [GatedLayer("A", colors, channels, first, colors, labels)]
        self.layers += [GatedLayer("B", channels, channels, size, colors, labels) for _ in range(layers - 1)]
        self.middle = nn.MaskedConv2d("B", channels, channels, 1, colors)
        self.last = nn.MaskedConv2d("B", channels, colors * self.family.size, 1, colors)

    def given(self, context) -> tuple:
        """Vᵀh of each layer, the same for all pixels (OKVEGK eq. 4)."""
        if context is None:
            return ()
        return tuple(layer.label(context)[:, None, None, :] for layer in self.layers)

    def rows(self, x, given: tuple, convolve: Callable) -> tuple:
        """The vertical stack: from each of its layers what the horizontal one takes."""
        above, a = [], None
        for k, layer in enumerate(self.layers):
            a = convolve(layer.above, gated(a) if k else x)
            if given:
                a = a + given[k]
            above.append(layer.link(a))
        return tuple(above)

    def see(self, x, convolve: Callable):
        return convolve(self.layers[0].left, x)

    def pixels(self, seen, above: tuple, given: tuple, convolve: Callable):
        """The horizontal stack. Its residual connections begin behind the first layer, which does not see the
        pixel itself."""
        colors = self.shape[2]
        first, *others = self.layers
        h = convolve(first.onward, gated(seen + above[0], colors))
        for layer, from_above in zip(others, above[1:]):
            a = convolve(layer.left, h) + from_above
            h = h + convolve(layer.onward, gated(a, colors))
        h = convolve(self.middle, ops.relu(h))
        return convolve(self.last, ops.relu(h))
