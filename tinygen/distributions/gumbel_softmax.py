"""The Gumbel-softmax, or Concrete, distribution: draws from a Categorical made differentiable.

    E. Jang, S. Gu and B. Poole, Categorical Reparameterization with Gumbel-Softmax, 2017 (JGP below).
    C. J. Maddison, A. Mnih and Y. W. Teh, The Concrete Distribution, 2017 (MMT).

With noise gₖ ~ Gumbel(0, 1), argmaxₖ (lₖ + gₖ) is a draw from Categorical(l) (JGP eq. 1), without a gradient.
A softmax in its place has one, and tends to the one-hot vector of the argmax as the temperature τ goes to 0:

    x = softmax((l + g) / τ)                                                                  (JGP eq. 2)

At low temperatures most of x rounds to 0, where it has no density. Its logarithm y does not, and divergences
are the same between distributions of y: take them there (MMT Appendix C.3).
"""

from __future__ import annotations

import math
from numbers import Real

from .. import ops
from .base import LOG_SIMPLEX, SIMPLEX
from .composition import Composition
from .inverse_cdf import Gumbel


class _Relaxed(Composition):
    """The parameters of a relaxed Categorical."""

    def __init__(self, logits, temperature: float):
        if not isinstance(temperature, Real) or not 0 < temperature < math.inf:
            expected = "a finite number above 0"
            raise ValueError(f"{self._named('temperature')}: expected {expected}, got {temperature!r}")
        self.logits, self.temperature = self._logits(logits), float(temperature)
        self.event = self.logits.shape[-1:]


class LogGumbelSoftmax(_Relaxed):
    """y = log softmax((l + g) / τ), the ExpConcrete distribution of MMT.

    logits: l, (..., K), whose last axis is that of y too. temperature: τ, a number above 0. Raises as
        `Normal`, and ValueError for logits without a last axis and for another temperature."""

    support = LOG_SIMPLEX

    def _parts(self):
        return [Gumbel(self.logits, 0.0)]  # l + g

    def _part_shape(self, shape):
        return (*shape, *self.event)

    def _compose(self, perturbed):
        return ops.log_softmax(perturbed / self.temperature)

    def _log_prob(self, y):
        """log Γ(K) + (K − 1) log τ + Σₖ (lₖ − τ yₖ) − K log Σₖ exp(lₖ − τ yₖ)   (MMT Appendix C.3)."""
        (count,) = self.event
        terms = self.logits - self.temperature * y
        constant = math.lgamma(count) + (count - 1) * math.log(self.temperature)
        return constant + terms.sum(axis=-1) - count * ops.logsumexp(terms, axis=-1)


class GumbelSoftmax(_Relaxed):
    """x = softmax((l + g) / τ), the Concrete distribution of MMT.

    Arguments and errors as for `LogGumbelSoftmax`."""

    support = SIMPLEX

    @property
    def log(self) -> LogGumbelSoftmax:
        """The distribution of log x."""
        return LogGumbelSoftmax(self.logits, self.temperature)

    def _parts(self):
        return [self.log]

    def _compose(self, y):
        return ops.exp(y)

    def _log_prob(self, x):
        """log p(y) − Σₖ yₖ at y = log x (JGP eq. 3, MMT Definition 1)."""
        y = ops.log(x)
        return self.log._log_prob(y) - y.sum(axis=-1)
