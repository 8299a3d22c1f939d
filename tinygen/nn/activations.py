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
        self.shape = tuple(shape)

    def forward(self, x):
        size = math.prod(self.shape)
        if not getattr(x, "shape", ()) or math.prod(x.shape[1:]) != size:
            raise self._refusal(x, f"an array of shape (N, ...) with {size} elements for each of N")
        return ops.reshape(x, (x.shape[0], *self.shape))

    def __repr__(self) -> str:
        return f"Reshape({self.shape})"
