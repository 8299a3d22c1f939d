"""Convolutional layers of images (N, H, W, C) and sequences (N, T, C)."""

from __future__ import annotations

from collections.abc import Callable

import numpy  # weights are made on the host

from ..autodiff import Tensor
from ..backend import share_images
from ..ops import conv1d, conv2d, conv_transpose2d
from .init import glorot_uniform
from .module import Module


class Conv1d(Module):
    """Convolution over time: x (N, T, inputs) to y (N, OT, outputs),
    OT = T + 2 padding − dilation (size − 1).

    dilation: steps of time from one tap of the kernel to the next.
    causal: with dilation (size − 1) zeros before the sequence and none after it, so that OT = T and y at time
        t depends on no x after t; there is no padding then (A. van den Oord et al., WaveNet: a generative
        model for raw audio, 2016, section 2.1).
    weight: (size, inputs, outputs), started by `init`. bias: (outputs,), started at 0.

    Raises ValueError for an x of another dtype or number of channels, or shorter than the kernel spans."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        padding: int = 0,
        dilation: int = 1,
        causal: bool = False,
        init: Callable = glorot_uniform,
    ):
        self._expect_counts(inputs=inputs, outputs=outputs, size=size, dilation=dilation)
        self._expect_counts(least=0, padding=padding)
        if causal and padding:
            raise ValueError(f"Conv1d: padding: expected 0 in a causal convolution, got {padding}")
        self.inputs, self.outputs, self.size = inputs, outputs, size
        self.padding, self.dilation, self.causal = padding, dilation, causal
        share_images()
        self.weight = Tensor(init((size, inputs, outputs)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True)

    def forward(self, x):
        self._expect(x, self.weight.dtype, "N", "T", self.inputs)
        span = self.dilation * (self.size - 1)  # from the first tap to the last
        before, after = (span, 0) if self.causal else (self.padding, self.padding)
        least = max(1, span + 1 - before - after)
        if x.shape[1] < least:
            raise self._refusal(x, f"length of at least {least}")
        return conv1d(x, self.weight, 1, (before, after), self.dilation) + self.bias

    def __repr__(self) -> str:
        padding = "causal=True" if self.causal else f"padding={self.padding}"
        return f"Conv1d({self.inputs}, {self.outputs}, {self.size}, {padding}, dilation={self.dilation})"


class Conv2d(Module):
    """Convolution: x (N, H, W, inputs) to y (N, OH, OW, outputs),
    OH = ⌊(H + top + bottom − height) / stride⌋ + 1.

    size: of the kernel, one number or (height, width).
    padding: zeros around the image, one number or ((top, bottom), (left, right)); below 0 pixels are cut off.
        The stacks of a Gated PixelCNN (A. van den Oord et al., Conditional image generation with PixelCNN
        decoders, 2016, figure 2) have such kernels and paddings.
    weight: (height, width, inputs, outputs), started by `init`. bias: (outputs,), started at 0; None where
        the layer is made with bias=False.

    Raises ValueError for an x of another dtype or number of channels, or smaller than the kernel."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[tuple[int, int], tuple[int, int]] = 0,
        bias: bool = True,
        init: Callable = glorot_uniform,
    ):
        self._expect_counts(inputs=inputs, outputs=outputs, stride=stride)
        self.inputs, self.outputs, self.size = inputs, outputs, size
        self.stride, self.padding = stride, padding
        self._kernel, self._around = self._size(size), self._padding(padding)
        share_images()
        self.weight = Tensor(init((*self._kernel, inputs, outputs)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True) if bias else None

    def _size(self, size) -> tuple[int, int]:
        """(height, width) of the kernel."""
        height, width = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
        self._expect_counts(size=height)
        self._expect_counts(size=width)
        return height, width

    def _padding(self, padding) -> tuple[tuple[int, int], tuple[int, int]]:
        """((top, bottom), (left, right))."""
        if not isinstance(padding, tuple):
            self._expect_counts(least=0, padding=padding)
            return (padding, padding), (padding, padding)
        try:
            (top, bottom), (left, right) = padding
        except (TypeError, ValueError):
            raise ValueError(
                f"Conv2d: padding: expected an int or ((top, bottom), (left, right)), got {padding}"
            ) from None
        for side in (top, bottom, left, right):
            if not isinstance(side, int):
                raise ValueError(f"Conv2d: padding: expected ints, got {padding}")
        return padding

    def forward(self, x):
        self._expect(x, self.weight.dtype, "N", "H", "W", self.inputs)
        least = [size - sum(around) for size, around in zip(self._kernel, self._around)]
        if x.shape[1] < least[0] or x.shape[2] < least[1]:
            raise self._refusal(x, f"height and width of at least {least[0]} and {least[1]}")
        return conv2d(x, self.weight, self.stride, self._around, plus=self.bias)

    def __repr__(self) -> str:
        return (
            f"Conv2d({self.inputs}, {self.outputs}, {self.size}, stride={self.stride}, "
            f"padding={self.padding}{_no_bias(self.bias)})"
        )


class ConvTranspose2d(Module):
    """Transposed convolution, Conv2d from its output's sizes back to its input's: x (N, H, W, inputs) to
    y (N, OH, OW, outputs), OH = (H − 1) stride − 2 padding + size + output_padding.

    output_padding: less than stride; tells apart the sizes OH from which Conv2d comes to the same H.
    weight: (size, size, outputs, inputs), as of that Conv2d, started by `init`. bias: as there.

    Raises ValueError for an x of another dtype or number of channels, or one that leaves no image."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        bias: bool = True,
        init: Callable = glorot_uniform,
    ):
        self._expect_counts(inputs=inputs, outputs=outputs, size=size, stride=stride)
        self._expect_counts(least=0, padding=padding, output_padding=output_padding)
        if output_padding >= stride:
            raise ValueError(
                f"ConvTranspose2d: output_padding: expected less than stride {stride}, got {output_padding}"
            )
        self.inputs, self.outputs, self.size = inputs, outputs, size
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        # Drawn from inputs to outputs, as an initializer expects it, and kept the other way round.
        weight = init((size, size, inputs, outputs)).swapaxes(2, 3)
        self.weight = Tensor(numpy.ascontiguousarray(weight), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True) if bias else None

    def forward(self, x):
        self._expect(x, self.weight.dtype, "N", "H", "W", self.inputs)
        cut = 2 * self.padding - self.size - self.output_padding
        least = max(1, 2 + cut // self.stride)  # (least − 1) stride > cut: one pixel or more is left
        if min(x.shape[1:3]) < least:
            raise self._refusal(x, f"height and width of at least {least}")
        y = conv_transpose2d(x, self.weight, self.stride, self.padding, self.output_padding)
        return y if self.bias is None else y + self.bias

    def __repr__(self) -> str:
        return (
            f"ConvTranspose2d({self.inputs}, {self.outputs}, {self.size}, stride={self.stride}, "
            f"padding={self.padding}, output_padding={self.output_padding}{_no_bias(self.bias)})"
        )


def _no_bias(bias: Tensor | None) -> str:
    return ", bias=False" if bias is None else ""
