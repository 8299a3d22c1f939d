"""Normalization layers: features are brought to mean 0 and variance 1, then scaled and shifted as learned."""

from __future__ import annotations

import math

import numpy  # parameters and state are made on the host

from .. import ops
from ..autodiff import Tensor
from ..ops.normalization import scale_and_shift, standardize
from .module import Module

EPSILON = 1e-5  # ε, added to variances


class BatchNorm(Module):
    """y = γ (x − μ) / √(σ² + ε) + β for each feature: x (N, ..., features) to y of the same shape (S. Ioffe
    and C. Szegedy, Batch normalization: accelerating deep network training by reducing internal covariate
    shift, 2015, Algorithm 1).

    In training μ and σ² are those of the batch, over all axes but the last: examples, and times or pixels
    (section 3.2). In evaluation they are the running ones, which each training batch moves:

        running ← (1 − momentum) running + momentum · (μ, or the unbiased σ² n / (n − 1)).

    weight: γ (features,), started at 1. bias: β (features,), started at 0.
    running_mean, running_variance: (features,), untrained state, started at 0 and 1.

    Raises ValueError for an x of another size or dtype, and, in training, for one with fewer than two values
    of each feature."""

    def __init__(self, features: int, momentum: float = 0.1):
        self._expect_counts(features=features)
        if not 0 <= momentum <= 1:
            raise ValueError(f"BatchNorm: momentum: expected a number from 0 to 1, got {momentum}")
        self.features, self.momentum = features, momentum
        self.weight = Tensor(numpy.ones(features, "float32"), requires_grad=True)
        self.bias = Tensor(numpy.zeros(features, "float32"), requires_grad=True)
        self.running_mean = Tensor(numpy.zeros(features, "float32"))
        self.running_variance = Tensor(numpy.ones(features, "float32"))

    def forward(self, x):
        self._expect(x, self.weight.dtype, ..., self.features)
        n = math.prod(x.shape[:-1])
        if self.training and n < 2:
            raise self._refusal(x, "two or more values of each feature in training")
        rows = ops.reshape(x, (n, self.features))
        y = self._by_batch(rows) if self.training else self._by_running(rows)
        return ops.reshape(scale_and_shift(y, self.weight, self.bias), x.shape)

    def _by_batch(self, x):
        n = len(x)
        y, mean, variance = standardize(x, 0, EPSILON)
        if self._updates_state():
            self._move(self.running_mean, ops.raw(mean)[0])
            self._move(self.running_variance, ops.raw(variance)[0] * (n / (n - 1)))
        return y

    def _by_running(self, x):
        return (x - self.running_mean.data) * (self.running_variance.data + EPSILON) ** -0.5

    def _move(self, running: Tensor, value) -> None:
        running.data = (1 - self.momentum) * running.data + self.momentum * value

    def __repr__(self) -> str:
        return f"BatchNorm({self.features}, momentum={self.momentum})"


class LayerNorm(Module):
    """y = γ (x − μ) / √(σ² + ε) + β, where μ and σ² are those of each example's own features: x (..., *shape)
    to y of the same shape (J. L. Ba, J. R. Kiros and G. E. Hinton, Layer normalization, 2016, eq. 4).

    shape: the sizes of the last axes, over which the moments are taken; an int for the last axis alone.
    weight: γ of that shape, started at 1. bias: β of that shape, started at 0.

    Raises ValueError for an x of another size or dtype."""

    def __init__(self, shape: int | tuple[int, ...]):
        self.shape = shape if isinstance(shape, tuple) else (shape,)
        if not self.shape:
            raise ValueError("LayerNorm: shape: expected an int or a tuple of ints, got ()")
        for size in self.shape:
            self._expect_counts(shape=size)
        self.weight = Tensor(numpy.ones(self.shape, "float32"), requires_grad=True)
        self.bias = Tensor(numpy.zeros(self.shape, "float32"), requires_grad=True)

    def forward(self, x):
        self._expect(x, self.weight.dtype, ..., *self.shape)
        rows = (math.prod(x.shape[: -len(self.shape)]), self.weight.size)
        y, _, _ = standardize(ops.reshape(x, rows), 1, EPSILON)
        weight, bias = ops.reshape(self.weight, rows[1:]), ops.reshape(self.bias, rows[1:])
        return ops.reshape(scale_and_shift(y, weight, bias), x.shape)

    def __repr__(self) -> str:
        return f"LayerNorm({self.shape[0] if len(self.shape) == 1 else self.shape})"
