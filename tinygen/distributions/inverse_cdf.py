"""Distributions whose distribution function F has an inverse in closed form: z = F⁻¹(u), u ~ U(0, 1).

The first road of Kingma and Welling (2014, section 2.4)."""

from __future__ import annotations

import math

from .. import ops
from ..backend import Generator, xp
from .base import EULER_GAMMA, Reparameterized, Support, open_uniform


class InverseCDF(Reparameterized):
    """A distribution with a method `inverse_cdf`."""

    def inverse_cdf(self, u):
        """F⁻¹(u), the x with P(X ≤ x) = u, for u in (0, 1) of the draw's shape."""
        raise NotImplementedError

    def _draw(self, rng: Generator, shape: tuple[int, ...]):
        return self.inverse_cdf(open_uniform(rng, shape, self.dtype))


class Exponential(InverseCDF):
    """Of density λ exp(−λ x) for x ≥ 0, with F(x) = 1 − exp(−λ x).

    log_rate: log λ. Raises as `Normal`."""

    support = Support("finite values of at least 0", lambda x: xp.isfinite(x) & (x >= 0))

    def __init__(self, log_rate):
        (self.log_rate,) = self._parameters(log_rate=log_rate)

    @property
    def mean(self):
        """1 / λ."""
        return ops.exp(-self.log_rate)

    @property
    def variance(self):
        """1 / λ²."""
        return ops.exp(-2 * self.log_rate)

    def inverse_cdf(self, u):
        """−log(1 − u) / λ."""
        return -ops.log1p(-u) * ops.exp(-self.log_rate)

    def _log_prob(self, x):
        """log λ − λ x."""
        return self.log_rate - ops.exp(self.log_rate) * x

    def entropy(self):
        """−E log p(x) = 1 − log λ."""
        return 1 - self.log_rate


class Logistic(InverseCDF):
    """With F(x) = σ((x − μ) / s), σ(z) = 1 / (1 + e⁻ᶻ).

    mean: μ. log_scale: log s. Raises as `Normal`."""

    def __init__(self, mean, log_scale):
        self.mean, self.log_scale = self._parameters(mean=mean, log_scale=log_scale)

    @property
    def variance(self):
        """s² π² / 3."""
        return ops.exp(2 * self.log_scale) * (math.pi**2 / 3)

    def inverse_cdf(self, u):
        """μ + s (log u − log(1 − u))."""
        return self.mean + ops.exp(self.log_scale) * (ops.log(u) - ops.log1p(-u))

    def _log_prob(self, x):
        """The density is F′(x) = σ(z) σ(−z) / s with z = (x − μ) / s."""
        z = (x - self.mean) * ops.exp(-self.log_scale)
        return ops.log_sigmoid(z) + ops.log_sigmoid(-z) - self.log_scale

    def entropy(self):
        """−E log p(x) = 2 + log s."""
        return 2 + self.log_scale


class Gumbel(InverseCDF):
    """With F(x) = exp(−exp(−(x − μ) / s)): the law of the largest of many.

    location: μ. log_scale: log s. Raises as `Normal`."""

    def __init__(self, location, log_scale):
        self.location, self.log_scale = self._parameters(location=location, log_scale=log_scale)

    @property
    def mean(self):
        """μ + γ s, γ being Euler's constant."""
        return self.location + EULER_GAMMA * ops.exp(self.log_scale)

    @property
    def variance(self):
        """s² π² / 6."""
        return ops.exp(2 * self.log_scale) * (math.pi**2 / 6)

    def inverse_cdf(self, u):
        """μ − s log(−log u)."""
        return self.location - ops.exp(self.log_scale) * ops.log(-ops.log(u))

    def _log_prob(self, x):
        """The density is F′(x) = exp(−z − e⁻ᶻ) / s with z = (x − μ) / s."""
        z = (x - self.location) * ops.exp(-self.log_scale)
        return -z - ops.exp(-z) - self.log_scale

    def entropy(self):
        """−E log p(x) = 1 + γ + log s."""
        return 1 + EULER_GAMMA + self.log_scale
