"""Layers whose weight is computed from other parameters each time that they are called.

The layer stays as it is and keeps its own parameters; a module around it hands it the computed weight for the
time of a call.
"""

from __future__ import annotations

import math

from .. import ops
from ..autodiff import Tensor
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .embedding import Embedding
from .linear import Linear
from .module import Module

# The axis of a layer's weight that counts its outputs.
OUTPUT_AXIS = {Linear: 1, Conv1d: 2, Conv2d: 3, ConvTranspose2d: 2, Embedding: 1}


class Reparameterized(Module):
    """Base class of modules around a layer, one of the kinds in OUTPUT_AXIS, that give it another weight:
    what `computed_weight` returns."""

    def __init__(self, layer: Module):
        axes = [axis for kind, axis in OUTPUT_AXIS.items() if isinstance(layer, kind)]
        if not axes:
            kinds = ", ".join(kind.__name__ for kind in OUTPUT_AXIS)
            raise TypeError(
                f"{type(self).__name__}: layer: expected one of {kinds}, got {type(layer).__name__}"
            )
        self.layer = layer
        self.output_axis = axes[0]

    def computed_weight(self) -> Tensor:
        """The weight that the layer computes with now."""
        raise NotImplementedError

    def forward(self, x):
        return self.layer_with(self.computed_weight(), x)

    def layer_with(self, weight, x):
        """What the layer makes of x with another weight than its own."""
        own = self.layer.weight
        self.layer.weight = weight
        try:
            return self.layer(x)
        finally:
            self.layer.weight = own

    def as_matrix(self, weight):
        """A weight of the layer as a matrix (outputs, all other axes), as both papers count."""
        rows = ops.moveaxis(weight, self.output_axis, 0)
        return ops.reshape(rows, (rows.shape[0], math.prod(rows.shape[1:])))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layer!r})"
