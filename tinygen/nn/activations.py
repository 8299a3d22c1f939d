"""Layers without parameters: activations and changes of shape."""

from __future__ import annotations

import math

from .. import ops
from .module import Module


class ReLU(Module):
    """max(x, 0), elementwise."""

    def forward(self, x):
        return ops.relu(x)

    def __repr__(self) -> str:
        return "ReLU()"


class LeakyReLU(Module):
    """x where it is positive, slope x elsewhere; 0 ≤ slope < 1 (else ValueError). The slope is 0.2 in
    discriminators (Radford, Metz and Chintala 2016, section 4)."""

    def __init__(self, slope: float = 0.01):
        if not 0 <= slope < 1:
            raise ValueError(f"LeakyReLU: slope: expected 0 <= slope < 1, got {slope}")
        self.slope = slope

    def forward(self, x):
        return ops.leaky_relu(x, self.slope)

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})"


class ELU(Module):
    """x where it is positive, eˣ − 1 elsewhere (Clevert, Unterthiner and Hochreiter 2016, eq. 15, α = 1)."""

    def forward(self, x):
        return ops.elu(x)

    def __repr__(self) -> str:
        return "ELU()"


class Softplus(Module):
    """log(1 + eˣ), elementwise."""

    def forward(self, x):
        return ops.softplus(x)

    def __repr__(self) -> str:
        return "Softplus()"


class Sigmoid(Module):
    """σ(x) = 1 / (1 + e⁻ˣ), elementwise."""

    def forward(self, x):
        return ops.sigmoid(x)

    def __repr__(self) -> str:
        return "Sigmoid()"


class Tanh(Module):
    """The hyperbolic tangent of x, elementwise."""

    def forward(self, x):
        return ops.tanh(x)

    def __repr__(self) -> str:
        return "Tanh()"


class Flatten(Module):
    """x (N, ...) to (N, D): each example as one row. Raises ValueError for an x without axes."""

    def forward(self, x):
        if not getattr(x, "shape", ()):
            raise self._refusal(x, "an array of shape (N, ...)")
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))

    def __repr__(self) -> str:
        return "Flatten()"


class Reshape(Module):
    """x (N, ...) to (N, *shape). Raises ValueError where an example has another number of elements."""

    def __init__(self, shape: tuple[int, ...]):
        if not isinstance(shape, tuple):
            raise ValueError(f"Reshape: shape: expected a tuple of ints, got {shape!r}")
        for size in shape:
            self._expect_counts(shape=size)
        self.shape = shape

    def forward(self, x):
        size = math.prod(self.shape)
        if not getattr(x, "shape", ()) or math.prod(x.shape[1:]) != size:
            raise self._refusal(x, f"an array of shape (N, ...) with {size} elements for each of N")
        return ops.reshape(x, (x.shape[0], *self.shape))

    def __repr__(self) -> str:
        return f"Reshape({self.shape})"
