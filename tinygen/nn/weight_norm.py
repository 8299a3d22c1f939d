"""Weight normalization: T. Salimans and D. P. Kingma, Weight normalization: a simple reparameterization to
accelerate training of deep neural networks, 2016."""

from __future__ import annotations

from .. import ops
from ..autodiff import Tensor, no_grad
from ..backend import xp
from .module import Module, _replace
from .reparameterized import Reparameterized


class WeightNorm(Reparameterized):
    """A layer with w = g v / ‖v‖ for its weight, direction and length apart for each output (eq. 2):
    `WeightNorm(Linear(784, 500))`.

    layer: Linear, Conv1d, Conv2d, ConvTranspose2d or Embedding, whose weight becomes v. An optimizer that
        holds it must be made again: it would move v without g, and its step is an error.
    g: (outputs,), started at ‖v‖: the layer computes what it did.

    Raises TypeError for another layer, and ValueError where an output's weight is 0."""

    def __init__(self, layer: Module):
        super().__init__(layer)
        norms = ops.norm(self.as_matrix(layer.weight.data), axis=1)
        if not (norms > 0).all():
            raise ValueError(f"{self!r}: layer: expected a weight other than 0 for each output")
        self.g = Tensor(norms, requires_grad=True)
        _replace(layer.weight, layer.weight.data.copy())  # an optimizer notices that

    def computed_weight(self) -> Tensor:
        return self._with_lengths(self.g)

    def _with_lengths(self, g):
        """g v / ‖v‖ for each output; g (outputs,)."""
        v = self.layer.weight
        rest = tuple(axis for axis in range(v.ndim) if axis != self.output_axis)
        norms = ops.norm(v, axis=rest, keepdims=True)
        return v * (ops.reshape(g, norms.shape) / norms)

    def initialize(self, x):
        """Set g and the layer's bias b so that each output has mean 0 and variance 1 over a first batch x,
        and return these outputs, for the next layer (section 3, eq. 5 and 6).

        Raises ValueError for a layer without bias, and where an output is the same for the whole batch."""
        bias = getattr(self.layer, "bias", None)
        if bias is None:
            raise ValueError(f"{self!r}: initialize: expected a layer with bias")
        with no_grad():
            ones = xp.ones(self.g.shape, self.g.dtype)
            t = self.layer_with(self._with_lengths(ones), x) - bias  # v · x / ‖v‖
            rest = tuple(range(t.ndim - 1))
            if not t.size or not (t.std(axis=rest).data > 0).all():
                raise self._refusal(x, "a batch over which each output varies")
            mean, deviation = t.mean(axis=rest), t.std(axis=rest)
            self.g.data = 1 / deviation
            bias.data = -mean / deviation
            return self(x)
