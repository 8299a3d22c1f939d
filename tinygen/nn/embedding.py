"""Embedding: a learned vector for each symbol of an alphabet."""

from __future__ import annotations

from collections.abc import Callable

from .. import backend, ops
from ..autodiff import Tensor
from .init import normal
from .module import Module

standard_normal = normal(1.0)


class Embedding(Module):
    """Row k of the weight for each integer k: indices (...) from 0 to count − 1 to y (..., features).

    weight: (count, features), started by `init`: N(0, 1), as the weights of the next layer expect it.

    Raises ValueError for indices that are no integers or out of range. Values are looked at on the CPU
    only."""

    def __init__(self, count: int, features: int, init: Callable = standard_normal):
        self._expect_counts(count=count, features=features)
        self.count, self.features = count, features
        self.weight = Tensor(init((count, features)), requires_grad=True)

    def forward(self, indices):
        indices = ops.raw(indices)
        if not hasattr(indices, "shape") or indices.dtype.kind not in "iu":
            raise self._refusal(indices, "an array of integers", "indices")
        if backend.device_of(indices) == "cpu":
            self._expect_in_range(indices)
        return ops.getitem(self.weight, indices)

    def _expect_in_range(self, indices) -> None:
        outside = (indices < 0) | (indices >= self.count)
        if outside.any():
            raise ValueError(
                f"{self!r}: indices: expected integers from 0 to {self.count - 1}, got {indices[outside][0]}"
            )

    def __repr__(self) -> str:
        return f"Embedding({self.count}, {self.features})"
