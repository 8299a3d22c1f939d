"""Location-scale families: z = location + scale · ε, ε from the standard member of the family.

The second road of Kingma and Welling (2014, section 2.4, KW), and the one that their Gaussian takes."""

from __future__ import annotations

import math

from .. import ops
from ..backend import Generator, xp
from .base import Reparameterized, Support, open_uniform, require_inside


class LocationScale(Reparameterized):
    """A distribution with the properties `location` and `scale`, whose `_noise` draws from that with
    location 0 and scale 1."""

    def _draw(self, rng: Generator, shape: tuple[int, ...]):
        return self.location + self.scale * self._noise(rng, shape)


class Normal(LocationScale):
    """N(μ, σ²), of density exp(−(x − μ)² / 2σ²) / √(2πσ²).

    mean: μ. log_variance: log σ², as the networks of KW give it. Raises TypeError for what is no floating
        array, and ValueError for shapes that differ."""

    def __init__(self, mean, log_variance):
        self.mean, self.log_variance = self._parameters(mean=mean, log_variance=log_variance)

    @property
    def location(self):
        """μ."""
        return self.mean

    @property
    def scale(self):
        """σ."""
        return ops.exp(0.5 * self.log_variance)

    @property
    def variance(self):
        """σ²."""
        return ops.exp(self.log_variance)

    def _noise(self, rng, shape):
        return rng.normal(shape, self.dtype)

    def _log_prob(self, x):
        """−½ (log 2π + log σ² + (x − μ)² / σ²)."""
        deviation = x - self.mean
        square = deviation * deviation * ops.exp(-self.log_variance)
        return -0.5 * (self.log_variance + square + math.log(2 * math.pi))

    def entropy(self):
        """−E log p(x) = ½ (log 2πe + log σ²)."""
        return 0.5 * (math.log(2 * math.pi * math.e) + self.log_variance)


class Laplace(LocationScale):
    """Of density exp(−|x − μ| / s) / 2s.

    mean: μ. log_scale: log s. Raises as `Normal`."""

    def __init__(self, mean, log_scale):
        self.mean, self.log_scale = self._parameters(mean=mean, log_scale=log_scale)

    @property
    def location(self):
        """μ."""
        return self.mean

    @property
    def scale(self):
        """s."""
        return ops.exp(self.log_scale)

    @property
    def variance(self):
        """2 s²."""
        return 2 * ops.exp(2 * self.log_scale)

    def _noise(self, rng, shape):
        u = 2 * open_uniform(rng, shape, self.dtype) - 1  # the sign of ε and P(|ε| < its size)
        return -xp.sign(u) * xp.log1p(-abs(u))

    def _log_prob(self, x):
        """−|x − μ| / s − log 2s."""
        return -abs(x - self.mean) * ops.exp(-self.log_scale) - self.log_scale - math.log(2)

    def entropy(self):
        """−E log p(x) = 1 + log 2s."""
        return 1 + math.log(2) + self.log_scale


class Uniform(LocationScale):
    """Of density 1 / (b − a) on [a, b].

    low: a. high: b. Raises as `Normal`, and ValueError for a ≥ b, looked at on the CPU only."""

    def __init__(self, low, high):
        self.low, self.high = self._parameters(low=low, high=high)
        above_low = Support("values above low", lambda high: high > ops.raw(self.low))
        require_inside("Uniform: high", ops.raw(self.high), above_low)

    @property
    def support(self) -> Support:
        low, high = ops.raw(self.low), ops.raw(self.high)
        return Support("values from low to high", lambda x: (low <= x) & (x <= high))

    @property
    def location(self):
        """a."""
        return self.low

    @property
    def scale(self):
        """b − a."""
        return self.high - self.low

    @property
    def mean(self):
        """½ (a + b)."""
        return 0.5 * (self.low + self.high)

    @property
    def variance(self):
        """(b − a)² / 12."""
        return self.scale * self.scale / 12

    def _noise(self, rng, shape):
        return rng.uniform(shape, self.dtype)

    def _log_prob(self, x):
        """−log(b − a), in x's shape."""
        return 0 * x - ops.log(self.scale)

    def entropy(self):
        """−E log p(x) = log(b − a)."""
        return ops.log(self.scale)
