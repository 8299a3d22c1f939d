"""Ways to apply causal convolutions: to whole images, or to what has just become known of them.

A network of causal convolutions is written once, with the function that applies them as an argument:

    convolve(layer, x) -> y

In training that is `whole`. In sampling an image grows pixel by pixel, and what was computed from known
pixels stays as it is. So each layer keeps what it was given, and a new pixel costs its own column of
activations alone (P. Ramachandran et al., Fast Generation for Convolutional Autoregressive Models, 2017).
Between convolutions a network may do only what treats each pixel on its own.

Part of a network may work at half the resolution (T. Salimans et al., PixelCNN++, 2017, section 2.3):

    convolve.at_half(halve, network, x) -> maps

are the maps of network(halve(x), convolve), of that resolution or brought back to the full one. `halve` has
stride 2 and sees nothing after the first pixel of each 2x2; so what is computed of a pixel at half the
resolution is computed with that first one, and kept for the other three.
"""

from __future__ import annotations

from collections.abc import Callable

from ... import backend, ops
from ...backend import xp


class Whole:
    """Whole images x (N, H, W, C)."""

    def __call__(self, layer, x):
        return layer(x)

    def at_half(self, halve, network: Callable, x) -> tuple:
        return network(halve(x), self)


whole = Whole()


class RowByRow:
    """One row after another, from the top: x (N, 1, W, C)."""

    def __init__(self):
        self._memories: dict[object, _Memory] = {}
        self._coarse: dict[object, _Coarse] = {}

    def __call__(self, layer, x):
        if layer not in self._memories:
            self._memories[layer] = _Memory(layer, len(x), x.shape[2])
        return self._memories[layer].row(ops.raw(x))

    def at_half(self, halve, network: Callable, x) -> tuple:
        coarse = self._coarse.setdefault(halve, _Coarse(RowByRow()))
        row = self(halve, x)
        coarse.row += 1
        if coarse.row % 2 == 0:
            coarse.maps[0] = network(row[:, :, ::2], coarse.convolve)
        return part(coarse.maps[0], 1, coarse.row % 2, of=2)


class PixelByPixel:
    """One pixel after another, from the left, in one row after another: x (N, 1, 1, C).

    width: of the images. `next_row` begins a row, the first one too, and sets `column` to 0; the caller
    counts it up. A pixel may be given again while it is not yet complete."""

    def __init__(self, width: int):
        self._width = width
        self._memories: dict[object, _Memory] = {}
        self._coarse: dict[object, _Coarse] = {}
        self.column = 0

    def next_row(self) -> None:
        self.column = 0
        for memory in self._memories.values():
            memory.begin_row()
        for coarse in self._coarse.values():
            coarse.row += 1
            if coarse.row % 2 == 0:
                coarse.convolve.next_row()

    def __call__(self, layer, x):
        memory = self._memories.get(layer)
        if memory is None:
            memory = self._memories[layer] = _Memory(layer, len(x), self._width)
            memory.begin_row()
        return memory.pixel(self.column, ops.raw(x))

    def at_half(self, halve, network: Callable, x) -> tuple:
        if halve not in self._coarse:
            self._coarse[halve] = _Coarse(PixelByPixel(self._width // 2), row=0)
        coarse, pixel, column = self._coarse[halve], self(halve, x), self.column // 2
        if coarse.row % 2 == 0 and self.column % 2 == 0:
            coarse.convolve.column = column
            coarse.maps[column] = network(pixel, coarse.convolve)
        return part(part(coarse.maps[column], 1, coarse.row % 2, of=2), 2, self.column % 2, of=2)


class _Coarse:
    """What is computed at half the resolution.

    convolve: how layers are applied there. row: the present one, at the full resolution.
    maps: by column, what the network has given and what is kept until the next row that is computed."""

    def __init__(self, convolve: Callable, row: int = -1):
        self.convolve, self.row = convolve, row
        self.maps: dict[int, tuple] = {}


def part(maps: tuple, axis: int, k: int, of: int) -> tuple:
    """Of each map the line at place k of so many along an axis, where a coarser map has one line for several
    places."""
    return tuple(ops.raw(m)[_line(m.shape[axis] * k // of, axis)] for m in maps)


def _line(k: int, axis: int) -> tuple[slice, ...]:
    return (*axis * (slice(None),), slice(k, k + 1))


class _Memory:
    """What a layer has been given and still sees.

    above: the rows above, (N, rows, W, C).
    present: the present row, after a margin of zeros on its left, (margin + W, C, N): with the examples last,
        pixels side by side are one piece of memory, which a matrix product takes as it is.
    from_above: what the present row takes from those above, and the bias, (W, outputs, N)."""

    def __init__(self, layer, n: int, width: int):
        self.above_half, self.left_half = layer.halves()
        self.bias = layer.bias.data
        rows = len(self.above_half.kernel) if self.above_half else 0
        self.margin = max(self.left_half.around[0], 0) if self.left_half else 0
        self.above = xp.zeros((n, rows, width, layer.inputs), self.bias.dtype)
        self.present = xp.zeros((self.margin + width, layer.inputs, n), self.bias.dtype)
        self.from_above = xp.zeros((width, layer.outputs, n), self.bias.dtype) + self.bias[:, None]
        self.taps = self.left_half.kernel.shape[1] if self.left_half else 0
        if self.taps:
            self.matrix = xp.ascontiguousarray(ops.raw(self.left_half.kernel).reshape(-1, layer.outputs).T)

    def begin_row(self) -> None:
        """What was the present row is above now. All columns take from above at once."""
        if self.above_half:
            last = self.present[self.margin :].transpose(2, 0, 1)
            self.above = xp.concatenate([self.above[:, 1:], last[:, None]], axis=1)
            y = ops.conv2d(self.above, self.above_half.kernel, padding=(0, self.above_half.around))
            self.from_above = xp.ascontiguousarray((ops.raw(y)[:, 0] + self.bias).transpose(1, 2, 0))

    def row(self, x):
        """y (N, 1, W, outputs) of the next row, given all of it."""
        self.begin_row()
        self.present[self.margin :] = x[:, 0].transpose(1, 2, 0)
        left = ops.conv2d(x, self.left_half.kernel, padding=(0, self.left_half.around))
        return self.from_above.transpose(2, 0, 1)[:, None] + ops.raw(left)

    def pixel(self, column: int, x):
        """y (N, 1, 1, outputs) of a pixel in the present row, given it."""
        x = x[:, 0, 0].T
        inputs, n = x.shape
        if self.margin or self.above_half:  # else nothing but this pixel is seen
            self.present[self.margin + column] = x
            x = self.present[column : column + self.taps].reshape(self.taps * inputs, n)
        if not self.taps:
            return self.from_above[column].T[:, None, None]
        y = backend.matmul(self.matrix, x)
        y += self.from_above[column]
        return y.T[:, None, None]
