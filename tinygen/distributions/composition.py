"""Distributions of what is computed from draws of others: z = h(ε₁, ε₂, ...).

The third road of Kingma and Welling (2014, section 2.4). NumPy has no Γ function of arrays, so where a
density needs one its argument is a static integer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import ops
from ..backend import Generator, xp
from .base import EULER_GAMMA, POSITIVE_REALS, SIMPLEX, Reparameterized, Support
from .inverse_cdf import Exponential
from .location_scale import Normal


class Composition(Reparameterized):
    """A distribution that `_parts` go into, reparameterized ones, and `_compose`, h, joins draws of.

    The shape of a part's draw is that of the whole; `_part_shape` says otherwise where it is not."""

    def _parts(self) -> Sequence[Reparameterized]:
        raise NotImplementedError

    def _part_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _compose(self, *draws):
        raise NotImplementedError

    def _draw(self, rng: Generator, shape: tuple[int, ...]):
        shape = self._part_shape(shape)
        return self._compose(*(part._draw(rng, shape) for part in self._parts()))


class LogNormal(Composition):
    """x = exp(y) with y ~ N(μ, σ²).

    location: μ. log_variance: log σ². Raises as `Normal`."""

    support = POSITIVE_REALS

    def __init__(self, location, log_variance):
        self.location, self.log_variance = self._parameters(location=location, log_variance=log_variance)

    @property
    def normal(self) -> Normal:
        """The distribution of log x."""
        return Normal(self.location, self.log_variance)

    @property
    def mean(self):
        """exp(μ + ½ σ²)."""
        return ops.exp(self.location + 0.5 * self.normal.variance)

    @property
    def variance(self):
        """(exp(σ²) − 1) exp(2μ + σ²)."""
        return ops.expm1(self.normal.variance) * self.mean * self.mean

    def _parts(self):
        return [self.normal]

    def _compose(self, y):
        return ops.exp(y)

    def _log_prob(self, x):
        """log p(y) − y at y = log x, since dy/dx = 1/x."""
        y = ops.log(x)
        return self.normal._log_prob(y) - y

    def entropy(self):
        """−E log p(x) = ½ (log 2πe + log σ²) + μ."""
        return self.normal.entropy() + self.location


class Erlang(Composition):
    """The sum of k independent draws from Exponential(λ): the Gamma distribution of an integer shape, of
    density λᵏ xᵏ⁻¹ exp(−λ x) / Γ(k) for x > 0.

    k: an int of at least 1, for all elements. log_rate: log λ. Raises as `Normal`, and ValueError for another
        k."""

    support = POSITIVE_REALS

    def __init__(self, k: int, log_rate):
        self.k = self._integer("k", k)
        (self.log_rate,) = self._parameters(log_rate=log_rate)

    @property
    def mean(self):
        """k / λ."""
        return self.k * ops.exp(-self.log_rate)

    @property
    def variance(self):
        """k / λ²."""
        return self.k * ops.exp(-2 * self.log_rate)

    def _parts(self):
        return [Exponential(self.log_rate)] * self.k

    def _compose(self, *draws):
        return sum(draws)

    def _log_prob(self, x):
        """k log λ + (k − 1) log x − λ x − log Γ(k)."""
        log_power = self.k * self.log_rate + (self.k - 1) * ops.log(x)
        return log_power - ops.exp(self.log_rate) * x - math.lgamma(self.k)

    def entropy(self):
        """−E log p(x) = k − log λ + log Γ(k) + (1 − k) ψ(k)."""
        return self.k + math.lgamma(self.k) + (1 - self.k) * digamma(self.k) - self.log_rate


class Beta(Composition):
    """x / (x + y) with x from Erlang(α, 1) and y from Erlang(β, 1), of density xᵅ⁻¹ (1 − x)ᵝ⁻¹ / B(α, β) on
    (0, 1).

    alpha, beta: ints of at least 1, for all elements (ValueError for others). Draws are float32."""

    shape, dtype = (), xp.dtype("float32")
    support = Support("values between 0 and 1", lambda x: (x > 0) & (x < 1))

    def __init__(self, alpha: int, beta: int):
        self.alpha, self.beta = self._integer("alpha", alpha), self._integer("beta", beta)

    @property
    def mean(self):
        """α / (α + β)."""
        return self._number(self.alpha / (self.alpha + self.beta))

    @property
    def variance(self):
        """αβ / (α + β)² (α + β + 1)."""
        total = self.alpha + self.beta
        return self._number(self.alpha * self.beta / (total**2 * (total + 1)))

    def _parts(self):
        return [Erlang(self.alpha, 0.0), Erlang(self.beta, 0.0)]

    def _compose(self, x, y):
        # Rounding must not take a draw to 1, where there is no density.
        return ops.clip(x / (x + y), a_max=1 - float(xp.finfo(self.dtype).eps) / 2)

    def _log_prob(self, x):
        """(α − 1) log x + (β − 1) log(1 − x) − log B(α, β)."""
        log_powers = (self.alpha - 1) * ops.log(x) + (self.beta - 1) * ops.log1p(-x)
        return log_powers - log_beta((self.alpha, self.beta))

    def entropy(self):
        """As that of the Dirichlet distribution, of which this is the case of two."""
        return self._number(_dirichlet_entropy((self.alpha, self.beta)))


class Dirichlet(Composition):
    """(x₁, ..., x_K) / Σₖ xₖ with xₖ from Erlang(αₖ, 1), of density Πₖ xₖ^(αₖ − 1) / B(α) on the simplex
    xₖ > 0, Σₖ xₖ = 1.

    alpha: α₁ ... α_K, ints of at least 1 (ValueError for others). Values have a last axis of K more than
        log-densities. Draws are float32."""

    shape, dtype = (), xp.dtype("float32")
    support = SIMPLEX

    def __init__(self, alpha: Sequence[int]):
        self.alpha = tuple(self._integer("alpha", a) for a in alpha)
        self.event = (self._integer("number of alpha", len(self.alpha), least=2),)

    @property
    def mean(self):
        """α / A with A = Σₖ αₖ, (K,)."""
        total = sum(self.alpha)
        return xp.asarray([a / total for a in self.alpha], self.dtype)

    @property
    def variance(self):
        """αₖ (A − αₖ) / A² (A + 1), (K,)."""
        total = sum(self.alpha)
        return xp.asarray([a * (total - a) / (total**2 * (total + 1)) for a in self.alpha], self.dtype)

    def _parts(self):
        return [Erlang(a, 0.0) for a in self.alpha]

    def _compose(self, *draws):
        x = ops.stack(draws, axis=-1)
        return x / x.sum(axis=-1, keepdims=True)

    def _log_prob(self, x):
        """Σₖ (αₖ − 1) log xₖ − log B(α)."""
        powers = xp.asarray([a - 1 for a in self.alpha], x.dtype)
        return (powers * ops.log(x)).sum(axis=-1) - log_beta(self.alpha)

    def entropy(self):
        """−E log p(x) = log B(α) − Σₖ (αₖ − 1) (ψ(αₖ) − ψ(A)) with A = Σₖ αₖ."""
        return self._number(_dirichlet_entropy(self.alpha))


# Γ and its relatives at integers -------------------------------------------------------------------


def digamma(n: int) -> float:
    """ψ(n) = d log Γ(n) / dn = −γ + Σ_{i < n} 1/i."""
    return sum(1 / i for i in range(1, n)) - EULER_GAMMA


def log_beta(alpha: Sequence[int]) -> float:
    """log B(α) = Σₖ log Γ(αₖ) − log Γ(Σₖ αₖ)."""
    return sum(map(math.lgamma, alpha)) - math.lgamma(sum(alpha))


def _dirichlet_entropy(alpha: Sequence[int]) -> float:
    expected_logs = [digamma(a) - digamma(sum(alpha)) for a in alpha]  # E log xₖ
    return log_beta(alpha) - sum((a - 1) * e for a, e in zip(alpha, expected_logs))
