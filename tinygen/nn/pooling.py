"""Layers without parameters that change the resolution of images (N, H, W, C)."""

from __future__ import annotations

from .. import ops
from .module import Module


class AvgPool2d(Module):
    """The means of squares of size×size pixels: x (N, H, W, C) to (N, ⌊H / size⌋, ⌊W / size⌋, C).

    Raises ValueError for an x that is no floating array of images, or smaller than the square."""

    def __init__(self, size: int):
        self._expect_counts(size=size)
        self.size = size

    def forward(self, x):
        _expect_images(self, x, self.size)
        return ops.average_pool2d(x, self.size)

    def __repr__(self) -> str:
        return f"AvgPool2d({self.size})"


class Upsample2d(Module):
    """Every pixel as a square of factor×factor: x (N, H, W, C) to (N, H · factor, W · factor, C).

    Raises ValueError for an x that is no floating array of images."""

    def __init__(self, factor: int):
        self._expect_counts(factor=factor)
        self.factor = factor

    def forward(self, x):
        _expect_images(self, x, 1)
        return ops.upsample_nearest2d(x, self.factor)

    def __repr__(self) -> str:
        return f"Upsample2d({self.factor})"


def _expect_images(layer: Module, x, least: int) -> None:
    """Refuse what are no images of at least so many pixels in height and width."""
    shape = getattr(x, "shape", ())
    if len(shape) != 4 or x.dtype.kind != "f" or min(shape[1:3]) < least:
        raise layer._refusal(x, f"floating images [N, H, W, C] with H and W of at least {least}")
