"""The Kullback-Leibler divergence KL(p ‖ q) = E_p[log p(x) − log q(x)]: in closed form, or by Monte Carlo."""

from __future__ import annotations

import math

from .. import ops
from ..autodiff import no_grad
from ..backend import Generator
from .base import Distribution, Reparameterized, require_dtype, require_shape
from .composition import Beta, Dirichlet, Erlang, LogNormal, digamma, log_beta
from .discrete import Bernoulli, Categorical
from .inverse_cdf import Exponential
from .location_scale import Laplace, Normal, Uniform


def kl_divergence(p, q):
    """KL(p ‖ q) in closed form, in the distributions' shape, for two of one family that has one.

    Raises TypeError for others, which `monte_carlo_kl` estimates, and for two dtypes; ValueError for two
    shapes, unless one is of scalars."""
    if type(p) is not type(q) or type(p) not in _CLOSED_FORMS:
        families = ", ".join(family.__name__ for family in _CLOSED_FORMS)
        raise TypeError(
            f"kl_divergence: p, q: expected two of one family, out of {families}, got {type(p).__name__} and "
            f"{type(q).__name__}; tinygen.distributions.monte_carlo_kl(p, q, samples) estimates others"
        )
    _require_alike("kl_divergence", p, q)
    return _CLOSED_FORMS[type(p)](p, q)


def monte_carlo_kl(p, q, samples: int, rng: Generator | None = None):
    """An unbiased estimate of KL(p ‖ q): the mean of log p(x) − log q(x) over draws x ~ p.

    samples: how many, at least 1. rng: draws them; the default generator if None.

    Gradients reach q, and p through draws where p has `rsample`; where it has not, p gets none. Raises
    ValueError and TypeError for distributions of which one does not have the values of the other."""
    _require_alike("monte_carlo_kl", p, q)

    def log_ratio():
        x, log_p = _draw_and_log_prob(p, rng, p.shape or q.shape)
        return log_p - q.log_prob(x)

    return _mean(log_ratio, samples, "monte_carlo_kl")


def monte_carlo_entropy(p, samples: int, rng: Generator | None = None):
    """An unbiased estimate of −E log p(x): the mean of −log p(x) over draws x ~ p.

    Arguments and gradients as for `monte_carlo_kl`."""
    return -_mean(lambda: _draw_and_log_prob(p, rng, p.shape)[1], samples, "monte_carlo_entropy")


def _draw_and_log_prob(p: Distribution, rng: Generator | None, shape: tuple[int, ...]):
    """x ~ p and log p(x), recorded if the draw is: the gradient of log p alone would be mere noise."""
    if isinstance(p, Reparameterized):
        x = p.rsample(rng, shape)
        return x, p.log_prob(x)
    with no_grad():
        x = p.sample(rng, shape)
        return x, p.log_prob(x)


def _mean(draw, samples: int, function: str):
    if not isinstance(samples, int) or samples < 1:
        raise ValueError(f"{function}: samples: expected an int of at least 1, got {samples!r}")
    return sum(draw() for _ in range(samples)) / samples


def _require_alike(function: str, p: Distribution, q: Distribution) -> None:
    """Refuse a q whose parameters do not fit those of p, unless one is of scalars."""
    for name, distribution in (("p", p), ("q", q)):
        if not isinstance(distribution, Distribution):
            got = type(distribution).__name__
            raise TypeError(f"{function}: {name}: expected a distribution, got {got}")
    require_shape(f"{function}: q", q, p.shape)
    if p.shape and q.shape:
        require_dtype(f"{function}: q", q, p.dtype)
    if p.event != q.event:
        raise ValueError(f"{function}: q: expected values of shape {p.event}, got {q.event}")


# Closed forms --------------------------------------------------------------------------------------


def _normal_kl(p: Normal, q: Normal):
    """½ (σₚ²/σ_q² − 1 − log σₚ²/σ_q² + (μₚ − μ_q)² / σ_q²); where q = N(0, 1), that of D. P. Kingma and
    M. Welling, Auto-Encoding Variational Bayes, 2014, Appendix B."""
    log_ratio = p.log_variance - q.log_variance
    difference = p.mean - q.mean
    square = difference * difference * ops.exp(-q.log_variance)
    return 0.5 * (ops.expm1(log_ratio) - log_ratio + square)


def _log_normal_kl(p: LogNormal, q: LogNormal):
    """That of log x: a divergence does not change when x is transformed by an invertible function."""
    return _normal_kl(p.normal, q.normal)


def _laplace_kl(p: Laplace, q: Laplace):
    """(sₚ exp(−d / sₚ) + d) / s_q − 1 − log sₚ/s_q with d = |μₚ − μ_q|."""
    log_ratio = p.log_scale - q.log_scale
    d = abs(p.mean - q.mean)
    overlap = ops.exp(log_ratio - d * ops.exp(-p.log_scale))
    return overlap - 1 - log_ratio + d * ops.exp(-q.log_scale)


def _uniform_kl(p: Uniform, q: Uniform):
    """log (b_q − a_q) / (bₚ − aₚ), if q is nowhere 0 where p is not; ∞ otherwise."""
    inside = (ops.raw(q.low) <= ops.raw(p.low)) & (ops.raw(p.high) <= ops.raw(q.high))
    return ops.where(inside, ops.log(q.scale) - ops.log(p.scale), math.inf)


def _exponential_kl(p: Exponential, q: Exponential):
    """λ_q/λₚ − 1 − log λ_q/λₚ."""
    log_ratio = q.log_rate - p.log_rate
    return ops.expm1(log_ratio) - log_ratio


def _erlang_kl(p: Erlang, q: Erlang):
    """kₚ (λ_q/λₚ − 1) − k_q log λ_q/λₚ + (kₚ − k_q) ψ(kₚ) − log Γ(kₚ) + log Γ(k_q)."""
    log_ratio = q.log_rate - p.log_rate
    constant = (p.k - q.k) * digamma(p.k) - math.lgamma(p.k) + math.lgamma(q.k)
    return p.k * ops.expm1(log_ratio) - q.k * log_ratio + constant


def _beta_kl(p: Beta, q: Beta):
    """As for the Dirichlet distribution, of which this is the case of two."""
    return p._number(_dirichlet_number((p.alpha, p.beta), (q.alpha, q.beta)))


def _dirichlet_kl(p: Dirichlet, q: Dirichlet):
    return p._number(_dirichlet_number(p.alpha, q.alpha))


def _dirichlet_number(p: tuple[int, ...], q: tuple[int, ...]) -> float:
    """log B(q) − log B(p) + Σₖ (pₖ − qₖ) (ψ(pₖ) − ψ(P)) with P = Σₖ pₖ."""
    expected_logs = [digamma(a) - digamma(sum(p)) for a in p]  # E_p log xₖ
    differences = sum((a - b) * e for a, b, e in zip(p, q, expected_logs))
    return log_beta(q) - log_beta(p) + differences


def _bernoulli_kl(p: Bernoulli, q: Bernoulli):
    """Σ P(x) (log P(x) − log Q(x)) over x = 1 and x = 0."""

    def term(p, q):
        return ops.sigmoid(p) * (ops.log_sigmoid(p) - ops.log_sigmoid(q))

    return term(p.logits, q.logits) + term(-p.logits, -q.logits)


def _categorical_kl(p: Categorical, q: Categorical):
    """Σₖ P(x = k) (log P(x = k) − log Q(x = k))."""
    count, other = p.logits.shape[-1], q.logits.shape[-1]
    if count != other:
        raise ValueError(f"kl_divergence: q: expected {count} categories, got {other}")
    log_ratios = ops.log_softmax(p.logits) - ops.log_softmax(q.logits)
    return (ops.softmax(p.logits) * log_ratios).sum(axis=-1)


_CLOSED_FORMS = {
    Normal: _normal_kl,
    LogNormal: _log_normal_kl,
    Laplace: _laplace_kl,
    Uniform: _uniform_kl,
    Exponential: _exponential_kl,
    Erlang: _erlang_kl,
    Beta: _beta_kl,
    Dirichlet: _dirichlet_kl,
    Bernoulli: _bernoulli_kl,
    Categorical: _categorical_kl,
}
