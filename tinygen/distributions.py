"""Probability distributions of independent elements: log-densities, samples, divergences.

Parameters are Tensors or raw arrays of one shape and floating dtype, or scalars, numbers too, that hold for
all elements. They range over all real numbers, so that a network can give them: a logarithm stands for what
is positive, a logit for a probability. Results are elementwise, in the shape of the parameters, and Tensors
where a parameter or x is one; models sum over the axes of an example. Nothing but scalars broadcasts.

Log-densities, entropies and divergences are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

from . import backend, ops
from .autodiff import no_grad
from .backend import Generator, xp


class Normal:
    """N(μ, σ²), of density exp(−(x − μ)² / 2σ²) / √(2πσ²).

    mean: μ. log_variance: log σ². Raises TypeError for what is no floating array, and ValueError for shapes
        that differ.

    As in D. P. Kingma and M. Welling, Auto-Encoding Variational Bayes, 2014 (KW), whose networks give μ and
    log σ²."""

    def __init__(self, mean, log_variance):
        self.mean, self.log_variance = _parameters("Normal", mean=mean, log_variance=log_variance)

    @property
    def variance(self):
        """σ²."""
        return ops.exp(self.log_variance)

    def log_prob(self, x):
        """log p(x) = −½ (log 2π + log σ² + (x − μ)² / σ²) of finite x in the parameters' shape and dtype.

        Raises TypeError or ValueError for another x. Values are looked at on the CPU only."""
        x = _values("Normal.log_prob", x, self.mean, xp.isfinite, "finite values")
        deviation = x - self.mean
        square = deviation * deviation * ops.exp(-self.log_variance)
        return -0.5 * (self.log_variance + square + math.log(2 * math.pi))

    def rsample(self, rng: Generator | None = None):
        """A draw x = μ + σ ε, ε ~ N(0, 1), through which gradients reach μ and σ (KW section 2.4).

        rng: draws ε; the default generator if None."""
        noise = (rng or backend.default_generator()).normal(self.mean.shape, self.mean.dtype)
        return self.mean + ops.exp(0.5 * self.log_variance) * noise

    def sample(self, rng: Generator | None = None):
        """A draw as a raw array, without history."""
        with no_grad():
            return ops.raw(self.rsample(rng))

    def entropy(self):
        """−E log p(x) = ½ (log 2πe + log σ²)."""
        return 0.5 * (math.log(2 * math.pi * math.e) + self.log_variance)


class Bernoulli:
    """x in {0, 1}, with P(x = 1) = σ(l) = 1 / (1 + e⁻ˡ).

    logits: l. Raises TypeError for what is no floating array."""

    def __init__(self, logits):
        (self.logits,) = _parameters("Bernoulli", logits=logits)

    @property
    def mean(self):
        """P(x = 1) = σ(l)."""
        return ops.sigmoid(self.logits)

    @property
    def variance(self):
        """P(x = 1) P(x = 0) = σ(l) σ(−l)."""
        return ops.sigmoid(self.logits) * ops.sigmoid(-self.logits)

    def log_prob(self, x):
        """log P(x) = x l − log(1 + eˡ) of x in {0, 1}, in the parameter's shape and dtype.

        Raises TypeError or ValueError for another x. Values are looked at on the CPU only."""
        x = _values("Bernoulli.log_prob", x, self.logits, _is_binary, "zeros and ones")
        shape = self.logits.shape or x.shape
        return ops.bernoulli_log_likelihood(_spread(self.logits, shape), _spread(x, shape))

    def sample(self, rng: Generator | None = None):
        """A draw of zeros and ones as a raw array, without history; there is none with gradients."""
        return (rng or backend.default_generator()).bernoulli(ops.sigmoid(ops.raw(self.logits)))

    def entropy(self):
        """−E log P(x) = −σ(l) log σ(l) − σ(−l) log σ(−l)."""
        one, zero = self.logits, -self.logits
        return -(ops.sigmoid(one) * ops.log_sigmoid(one) + ops.sigmoid(zero) * ops.log_sigmoid(zero))


# Divergences --------------------------------------------------------------------------------------


def kl_divergence(p, q):
    """KL(p ‖ q) = E_p[log p(x) − log q(x)] in closed form, elementwise, for two of one family.

    Raises TypeError for two families or dtypes, ValueError for two shapes, unless one is of scalars."""
    if type(p) is not type(q) or type(p) not in _CLOSED_FORMS:
        raise TypeError(
            "kl_divergence: p, q: expected two of one family, Normal or Bernoulli, "
            f"got {type(p).__name__} and {type(q).__name__}"
        )
    return _CLOSED_FORMS[type(p)](p, q)


def _normal_kl(p: Normal, q: Normal):
    """½ (σₚ²/σ_q² − 1 − log σₚ²/σ_q² + (μₚ − μ_q)² / σ_q²); where q = N(0, 1), that of KW Appendix B."""
    _require_alike(p.mean, q.mean)
    log_ratio = p.log_variance - q.log_variance
    difference = p.mean - q.mean
    square = difference * difference * ops.exp(-q.log_variance)
    return 0.5 * (ops.expm1(log_ratio) - log_ratio + square)


def _bernoulli_kl(p: Bernoulli, q: Bernoulli):
    """Σ P(x) (log P(x) − log Q(x)) over x = 1 and x = 0."""
    _require_alike(p.logits, q.logits)

    def term(p, q):
        return ops.sigmoid(p) * (ops.log_sigmoid(p) - ops.log_sigmoid(q))

    return term(p.logits, q.logits) + term(-p.logits, -q.logits)


def _require_alike(p, q) -> None:
    """Refuse parameters of q that do not fit those of p, unless one is a scalar."""
    _require_shape("kl_divergence: q", q, p)
    if p.shape and q.shape:
        _require_dtype("kl_divergence: q", q, p)


_CLOSED_FORMS = {Normal: _normal_kl, Bernoulli: _bernoulli_kl}


# What is accepted ---------------------------------------------------------------------------------


def _parameters(distribution: str, **given) -> list:
    """The parameters in one shape and dtype; numbers take those of the others, or are float32 scalars."""
    arrays = {f"{distribution}: {name}": x for name, x in given.items() if not isinstance(x, Real)}
    for name, x in arrays.items():
        if not hasattr(x, "shape"):
            raise TypeError(f"{name}: expected a Tensor, an array or a number, got {type(x).__name__}")
    like = max(arrays.values(), key=lambda x: len(x.shape), default=xp.zeros((), "float32"))
    for name, x in arrays.items():
        _require_shape(name, x, like)
        _require_dtype(name, x, like)
    return [
        xp.full(like.shape, x, like.dtype) if isinstance(x, Real) else _spread(x, like.shape)
        for x in given.values()
    ]


def _values(method: str, x, parameter, inside: Callable, expected: str):
    """x as an array or Tensor; an error if it does not fit the parameter or leaves the support."""
    name = f"{method}: x"
    if isinstance(x, Real):
        x = xp.full((), x, parameter.dtype)
    if not hasattr(x, "shape"):
        raise TypeError(f"{name}: expected a Tensor, an array or a number, got {type(x).__name__}")
    _require_shape(name, x, parameter)
    _require_dtype(name, x, parameter if parameter.shape else x)
    # On a GPU, looking at values would hold up every training step.
    if backend.current_device().name == "cpu" and not inside(ops.raw(x)).all():
        raise ValueError(f"{name}: expected {expected}, got {ops.raw(x)[~inside(ops.raw(x))][0]}")
    return x


def _require_shape(name: str, x, like) -> None:
    if x.shape != like.shape and () not in (x.shape, like.shape):
        raise ValueError(f"{name}: expected shape {like.shape}, got {x.shape}")


def _require_dtype(name: str, x, like) -> None:
    if x.dtype != like.dtype or x.dtype.kind != "f":
        expected = like.dtype if like.dtype.kind == "f" else "a floating dtype"
        raise TypeError(f"{name}: expected {expected}, got {x.dtype}")


def _is_binary(x):
    return (x == 0) | (x == 1)


def _spread(x, shape: tuple[int, ...]):
    """x, or the scalar x for all elements of a shape."""
    return x if x.shape == shape else ops.broadcast_to(x, shape)
