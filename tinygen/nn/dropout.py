"""Dropout: noise that keeps units from relying on each other."""

from __future__ import annotations

from ..backend import default_generator
from .module import Module


class Dropout(Module):
    """In training each element of x becomes 0 with probability p, and the others are divided by 1 − p, so
    that the mean stays; in evaluation x is left as it is (N. Srivastava, G. Hinton, A. Krizhevsky,
    I. Sutskever and R. Salakhutdinov, Dropout: a simple way to prevent neural networks from overfitting,
    2014, section 10).

    The noise comes from the default generator. Raises ValueError for an x that is no floating array."""

    def __init__(self, p: float = 0.5):
        if not isinstance(p, (int, float)) or not 0 <= p < 1:
            raise ValueError(f"Dropout: p: expected a probability of at least 0 and less than 1, got {p!r}")
        self.p = p

    def forward(self, x):
        if getattr(getattr(x, "dtype", None), "kind", "") != "f":
            raise self._refusal(x, "a floating array")
        if not self.training or self.p == 0:
            return x
        kept = default_generator().uniform(x.shape, x.dtype) >= self.p
        return x * (kept.astype(x.dtype) / (1 - self.p))

    def __repr__(self) -> str:
        return f"Dropout({self.p})"
