"""The affine layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy  # weights are made on the host

from .. import ops
from ..autodiff import Tensor
from .init import glorot_uniform
from .module import Module


class Linear(Module):
    """y = x W + b: x (..., inputs) to y (..., outputs).

    weight: W (inputs, outputs), started by `init`. bias: b (outputs,), started at 0; None where the layer is
        made with bias=False.

    Raises ValueError for an x of another size or dtype."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, init: Callable = glorot_uniform):
        self._expect_counts(inputs=inputs, outputs=outputs)
        self.inputs, self.outputs = inputs, outputs
        self.weight = Tensor(init((inputs, outputs)), requires_grad=True)
        self.bias = Tensor(numpy.zeros(outputs, "float32"), requires_grad=True) if bias else None

    def forward(self, x):
        self._expect(x, self.weight.dtype, ..., self.inputs)
        if self.bias is None:
            return ops.matmul(x, self.weight)
        return ops.linear(x, self.weight, self.bias)

    def __repr__(self) -> str:
        return f"Linear({self.inputs}, {self.outputs}{', bias=False' if self.bias is None else ''})"
