"""Mixtures: a label is drawn, then a value from the component of that label."""

from __future__ import annotations

from .. import ops
from .base import Distribution
from .discrete import Categorical
from .location_scale import Uniform


class Mixture(Distribution):
    """p(x) = Σₖ πₖ pₖ(x) with π = softmax(l), independently for each element.

    logits: l, (..., K).
    components: p₁ ... p_K, a distribution of numbers (Normal, DiscretizedLogistic, ...) whose parameters have
        the shape (..., K). It says what x may be; so not Uniform, where that differs from one to another.

    x has the shape (...). Draws have no gradient. Raises TypeError or ValueError for logits and components
    that do not fit each other."""

    def __init__(self, logits, components: Distribution):
        self.logits = self._logits(logits)
        if not isinstance(components, Distribution) or isinstance(components, Uniform) or components.event:
            expected, got = "a distribution of numbers, other than Uniform", type(components).__name__
            raise TypeError(f"Mixture: components: expected {expected}, got {got}")
        self.components, self.support = components, components.support
        got = components.dtype, components.shape
        if got != (self.dtype, self.logits.shape):
            raise ValueError(
                f"Mixture: components: expected parameters of {self.dtype} and shape {self.logits.shape}, as "
                f"logits, got {got[0]} and {got[1]}"
            )

    @property
    def mean(self):
        """m = Σₖ πₖ μₖ."""
        return (ops.softmax(self.logits) * self.components.mean).sum(axis=-1)

    @property
    def variance(self):
        """Σₖ πₖ (σₖ² + (μₖ − m)²)."""
        deviations = self.components.mean - self.mean[..., None]
        squares = self.components.variance + deviations * deviations
        return (ops.softmax(self.logits) * squares).sum(axis=-1)

    def _draw(self, rng, shape):
        label = Categorical(self.logits)._draw(rng, shape)
        draws = ops.raw(self.components._draw(rng, (*shape, self.logits.shape[-1])))
        return ops.take_along_axis(draws, label[..., None], -1)[..., 0]

    def _log_prob(self, x):
        """log Σₖ exp(log πₖ + log pₖ(x))."""
        log_joint = ops.log_softmax(self.logits) + self.components._log_prob(x[..., None])
        return ops.logsumexp(log_joint, axis=-1)
