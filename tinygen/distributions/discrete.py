"""Distributions of bits, labels and levels. A discrete draw has no gradient: there is `sample` alone."""

from __future__ import annotations

from .. import ops
from ..backend import xp
from .base import Distribution, Support, labels, spread
from .inverse_cdf import Gumbel, Logistic


class Bernoulli(Distribution):
    """x in {0, 1}, with P(x = 1) = σ(l) = 1 / (1 + e⁻ˡ).

    logits: l. Raises TypeError for what is no floating array. x has the dtype of l."""

    support = Support("zeros and ones", lambda x: (x == 0) | (x == 1))

    def __init__(self, logits):
        (self.logits,) = self._parameters(logits=logits)

    @property
    def mean(self):
        """P(x = 1) = σ(l)."""
        return ops.sigmoid(self.logits)

    @property
    def variance(self):
        """P(x = 1) P(x = 0) = σ(l) σ(−l)."""
        return ops.sigmoid(self.logits) * ops.sigmoid(-self.logits)

    def _draw(self, rng, shape):
        return rng.bernoulli(spread(ops.sigmoid(ops.raw(self.logits)), shape))

    def _log_prob(self, x):
        """x l − log(1 + eˡ)."""
        shape = xp.broadcast_shapes(self.shape, x.shape)
        return ops.bernoulli_log_likelihood(spread(self.logits, shape), spread(x, shape))

    def entropy(self):
        """−E log P(x) = −σ(l) log σ(l) − σ(−l) log σ(−l)."""
        one, zero = self.logits, -self.logits
        return -(ops.sigmoid(one) * ops.log_sigmoid(one) + ops.sigmoid(zero) * ops.log_sigmoid(zero))


class Categorical(Distribution):
    """A label x from 0 to K − 1, with P(x = k) = softmax(l)ₖ.

    logits: l, (..., K). Labels are integers of the shape (...), not one-hot vectors; draws are int64. Having
    no order they have no mean. Raises TypeError for what is no floating array, ValueError for one without a
    last axis."""

    def __init__(self, logits):
        self.logits = self._logits(logits)
        self.support = labels(self.logits.shape[-1])

    @property
    def probabilities(self):
        """P(x = k) for each k, (..., K)."""
        return ops.softmax(self.logits)

    def _draw(self, rng, shape):
        # The largest of lₖ + Gumbel noise is at k with probability softmax(l)ₖ.
        noisy = Gumbel(ops.raw(self.logits), 0.0)._draw(rng, (*shape, self.logits.shape[-1]))
        return noisy.argmax(axis=-1)

    def _log_prob(self, x):
        """lₓ − log Σₖ exp lₖ."""
        shape = xp.broadcast_shapes(self.shape, x.shape)
        logits = ops.broadcast_to(self.logits, (*shape, self.logits.shape[-1]))
        return -ops.categorical_cross_entropy(logits, spread(ops.raw(x), shape))

    def entropy(self):
        """−E log P(x) = −Σₖ P(x = k) log P(x = k)."""
        return -(ops.softmax(self.logits) * ops.log_softmax(self.logits)).sum(axis=-1)


class DiscretizedLogistic(Distribution):
    """A level x from 0 to K − 1: a draw from Logistic(μ, s) brought to the nearest of K levels, which lie
    evenly on [−1, 1]. The lowest and the highest take what lies beyond them:

        P(x) = σ((vₓ + δ − μ) / s) − σ((vₓ − δ − μ) / s)        v₀ − δ = −∞, v_{K−1} + δ = ∞

    where vₓ = −1 + 2x / (K − 1) and δ = 1 / (K − 1) (T. Salimans, A. Karpathy, X. Chen and D. P. Kingma,
    PixelCNN++, 2017, eq. 2).

    location: μ. log_scale: log s. levels: K, an int of at least 2. Levels are integers like the labels of
    `Categorical`; draws are int64. Raises as `Normal`, and ValueError for another K."""

    def __init__(self, location, log_scale, levels: int):
        self.levels = self._integer("levels", levels, least=2)
        self.location, self.log_scale = self._parameters(location=location, log_scale=log_scale)
        self.support = labels(levels)

    def _draw(self, rng, shape):
        v = Logistic(ops.raw(self.location), ops.raw(self.log_scale))._draw(rng, shape)
        x = xp.rint((v + 1) * ((self.levels - 1) / 2))
        return xp.clip(x, 0, self.levels - 1).astype("int64")

    def _log_prob(self, x):
        """With z₋ and z₊ for the edges of level x, by σ(a) − σ(b) = σ(a) σ(−b) (1 − e^{b − a}),

        [x < K − 1] log σ(z₊) + [x > 0] log σ(−z₋) + [0 < x < K − 1] log(1 − exp(−2δ / s)),

        in which nothing cancels at any scale."""
        x = ops.raw(x).astype(self.dtype)
        above_lowest, below_highest = x > 0, x < self.levels - 1
        width = 2 / (self.levels - 1) * ops.exp(-self.log_scale)  # z₊ − z₋ = 2δ / s
        return (
            below_highest * ops.log_sigmoid(self._edge(x + 1))
            + above_lowest * ops.log_sigmoid(-self._edge(x))
            + (above_lowest & below_highest) * ops.log(-ops.expm1(-width))
        )

    def _edge(self, x):
        """(vₓ − δ − μ) / s: where level x begins and x − 1 ends, in units of s from μ."""
        return ((2 * x - self.levels) / (self.levels - 1) - self.location) * ops.exp(-self.log_scale)
