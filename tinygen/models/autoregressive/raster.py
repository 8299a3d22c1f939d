"""Models of images in raster order: what they share.

    log p(x) = Σ_d log p(x_d | x_<d)

where the values x_d of an image (H, W, colors) are read row by row from the top, in a row from the left, in a
pixel color by color (A. van den Oord, N. Kalchbrenner and K. Kavukcuoglu, Pixel Recurrent Neural Networks,
2016, eq. 1 and 2). All figures are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy  # pixels are counted on the host

from ... import nn, ops
from ...autodiff import no_grad
from ...backend import Generator, default_generator, to_host, xp
from ...distributions.base import require_inside
from .conditionals import Family, family_of
from .conditioning import one_hot
from .convolve import PixelByPixel, RowByRow, part, whole


class RasterModel(nn.Module):
    """p(x) over images x (N, H, W, colors).

    shape: (H, W, colors). family: of the conditionals; bernoulli() if None, TypeError for what is
        no Family.
    labels: the number of classes, if the model is p(x | label); conditions are labels (N,) then.

    A model defines `see` and `pixels`, and where it has any use for them `given` and `rows`; see there.

    x has the parameters' dtype, or an integer one where it holds levels. Raises ValueError for an x of
    another shape or dtype or, looked at on the CPU only, outside the support, and for a condition that is
    missing, needless or wrong."""

    def __init__(self, shape: tuple[int, int, int], family: Family | None = None, labels: int = 0):
        if not isinstance(shape, (tuple, list)) or len(shape) != 3:
            raise ValueError(f"{type(self).__name__}: shape: expected (H, W, colors), got {shape!r}")
        height, width, colors = shape
        self._expect_counts(height=height, width=width, colors=colors)
        self._expect_counts(least=0, labels=labels)
        self.shape, self.labels = tuple(shape), labels
        self.family = family_of(type(self).__name__, family)

    # The network ----------------------------------------------------------------------------------

    def given(self, context) -> tuple:
        """What the context, (N, labels) or None, gives to pixels: Tensors (N, H or 1, W or 1, ...)."""
        return ()

    def rows(self, x, given: tuple, convolve: Callable) -> tuple:
        """What pixels take from the rows above them: Tensors (N, H, W, ...). x (N, H, W, colors) was moved
        down by a row."""
        return ()

    def see(self, x, convolve: Callable):
        """What the layer that is shown the pixels x (N, H, W, colors) makes of those before each: a Tensor
        (N, H, W, ...)."""
        raise NotImplementedError

    def pixels(self, seen, above: tuple, given: tuple, convolve: Callable):
        """The parameters of all conditionals, (N, H, W, colors · family.size), from what `see` and `rows`
        have returned, and `given`."""
        raise NotImplementedError

    def order(self) -> Iterable[tuple[int, int, int]]:
        """The places (i, j, color) of the values x_d, one after another."""
        return numpy.ndindex(self.shape)

    # Densities ------------------------------------------------------------------------------------

    def conditionals(self, x, condition=None):
        """The distributions p(x_d | x_<d), as one of shape (N, H, W, colors)."""
        self._check(x)
        require_inside(f"{type(self).__name__}: x", ops.raw(x), self.family.support)
        given = self.given(self.context_of(condition, len(x)))
        return self.family.distribution(self.parameters_of(self.family.encode(x, self.dtype), given))

    def parameters_of(self, x, given: tuple):
        """(N, H, W, colors, family.size), from whole images as the network sees them."""
        n, height, width, colors = x.shape
        above = self.rows(_moved_down(x), given, whole)
        parameters = self.pixels(self.see(x, whole), above, given, whole)
        return ops.reshape(parameters, (n, height, width, colors, self.family.size))

    def log_prob(self, x, condition=None):
        """log p(x), (N,)."""
        return self.conditionals(x, condition).log_prob(x).sum(axis=(1, 2, 3))

    def loss(self, x, condition=None):
        """−log p(x), the mean over examples."""
        return -self.log_prob(x, condition).mean()

    # Samples --------------------------------------------------------------------------------------

    def sample(self, n: int, condition=None, rng: Generator | None = None):
        """n draws of x, an array (n, H, W, colors)."""
        self._expect_counts(least=0, n=n)
        return self._found(n, condition, rng, self._fill)

    def sample_naively(self, n: int, condition=None, rng: Generator | None = None):
        """The same draws for the same generator, with a pass over whole images for each value: the readable
        reference."""
        self._expect_counts(least=0, n=n)
        return self._found(n, condition, rng, self._fill_naively)

    def complete(self, x, given, condition=None, rng: Generator | None = None):
        """x (N, H, W, colors) with new draws where `given` (H, W, colors), of bools, is False, each
        conditioned on what comes before it. These are draws from p(rest | given) if what is given comes first
        in `order`. What x holds where nothing is given does not matter."""
        self._check(x)
        if getattr(given, "dtype", "") != "bool" or given.shape != self.shape:
            raise self._refusal(given, f"bool[{', '.join(map(str, self.shape))}]", "given")
        known = ops.raw(given)
        require_inside(f"{type(self).__name__}: x", ops.raw(x)[:, known], self.family.support)
        values = ops.raw(self.family.encode(x, self.dtype))
        return self._found(len(x), condition, rng, self._fill, (to_host(known), values))

    def _found(self, n: int, condition, rng: Generator | None, fill: Callable, known: tuple | None = None):
        """n images, drawn but for the values that are known."""
        context = self.context_of(condition, n)
        height, width, colors = self.shape
        noise = list(zip(*self.family.noise(rng or default_generator(), height * width * colors, n)))

        def draw(i, j, c, parameters):
            if known and known[0][i, j, c]:
                return known[1][:, i, j, c]
            return self.family.draw(parameters.T, *noise[(i * width + j) * colors + c])

        with no_grad():
            return self.family.decode(fill(n, self.given(context), draw))

    def _fill_naively(self, n: int, given: tuple, draw: Callable):
        """The values x_d one after another, by a whole pass for each."""
        x = xp.zeros((n, *self.shape), self.dtype)
        for i, j, c in self.order():
            parameters = self.parameters_of(x, given)
            x[:, i, j, c] = draw(i, j, c, ops.raw(parameters)[:, i, j, c])
        return x

    def _fill(self, n: int, given: tuple, draw: Callable):
        """The same, with each activation computed once."""
        height, width, colors = self.shape
        x = xp.zeros((n, *self.shape), self.dtype)
        row_above = xp.zeros((n, 1, width, colors), self.dtype)
        by_row, by_pixel = RowByRow(), PixelByPixel(width)
        for i in range(height):
            of_row = part(given, 1, i, height)
            above = self.rows(row_above, of_row, by_row)
            by_pixel.next_row()
            for j in range(width):
                of_pixel, above_pixel = part(of_row, 2, j, width), part(above, 2, j, width)
                pixel = x[:, i : i + 1, j : j + 1]
                for c in range(colors):
                    seen = self.see(pixel, by_pixel)
                    parameters = ops.raw(self.pixels(seen, above_pixel, of_pixel, by_pixel))
                    x[:, i, j, c] = draw(i, j, c, parameters.reshape(n, colors, self.family.size)[:, c])
                self.see(pixel, by_pixel)  # now that it is known
                by_pixel.column += 1
            row_above = x[:, i : i + 1]
        return x

    # Arguments ------------------------------------------------------------------------------------

    @property
    def dtype(self):
        """The parameters'."""
        return self.parameters()[0].dtype

    def _check(self, x) -> None:
        """Refuse an x of another shape or dtype."""
        if not self.family.support.integers:
            self._expect(x, self.dtype, "N", *self.shape)
        elif not hasattr(x, "dtype") or x.dtype.kind not in "iu" or x.shape[1:] != self.shape:
            raise self._refusal(x, f"integers[N, {', '.join(map(str, self.shape))}]")

    def context_of(self, condition, n: int):
        """What `given` takes for n images: labels as vectors (n, labels), None for a model without labels.

        Raises ValueError for a condition that is missing, needless or wrong."""
        return one_hot(condition, self.labels, n, self.dtype)


def _moved_down(x):
    """Images x (N, H, W, C) moved down by a row; the first is of zeros."""
    return ops.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
