"""The kinds of conditionals p(x_d | x_<d) that autoregressive models have."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ... import ops
from ...backend import Generator, xp
from ...distributions import Bernoulli, Categorical, Gumbel, Logistic, Mixture, Normal
from ...distributions.base import REALS, Support, labels


class Family(NamedTuple):
    """One kind of p(x_d | x_<d).

    size: the parameters of an element. distribution: the distribution that they stand for, from parameters
    (..., size). support: where x lies.
    noise: what makes draws random, a tuple of arrays (D, ..., n), from (generator, D, n).
    draw: values (..., n), as the network sees them, from parameters (..., size, n) and their elements' noise.
    encode: what the network sees of x, in a dtype. decode: x from that."""

    size: int
    distribution: Callable
    support: Support
    noise: Callable[[Generator, int, int], tuple]
    draw: Callable
    encode: Callable = lambda x, dtype: x
    decode: Callable = lambda x: x


def family_of(model: str, family: Family | None) -> Family:
    """The family itself, bernoulli() for None; a TypeError of the model for anything else."""
    if family is not None and not isinstance(family, Family):
        raise TypeError(f"{model}: family: expected a Family, such as bernoulli() makes, got {family!r}")
    return family or bernoulli()


def bernoulli() -> Family:
    """x_d in {0, 1}, floating."""
    return Family(
        size=1,
        distribution=lambda p: Bernoulli(p[..., 0]),
        support=Bernoulli.support,
        noise=lambda rng, D, n: (Logistic(0.0, 0.0).sample(rng, (D, n)),),
        draw=lambda p, noise: p[..., 0, :] > noise,  # P(ε < l) = σ(l) for ε from Logistic(0, 1)
    )


def gaussian() -> Family:
    """Real x_d, normal with parameters μ and log σ²."""
    return Family(
        size=2,
        distribution=lambda p: Normal(p[..., 0], p[..., 1]),
        support=REALS,
        noise=lambda rng, D, n: (rng.normal((D, n)),),
        draw=lambda p, noise: p[..., 0, :] + xp.exp(0.5 * p[..., 1, :]) * noise,
    )


def mixture_of_gaussians(components: int) -> Family:
    """Real x_d, from a mixture of so many normals: logits of the weights, then each μ and log σ²."""
    _expect("mixture_of_gaussians", components=components, least=1)
    K = components

    def draw(p, gumbel, noise):
        mean, log_variance = chosen(K, p, gumbel)
        return mean + xp.exp(0.5 * log_variance) * noise

    return Family(
        size=3 * K,
        distribution=lambda p: Mixture(p[..., :K], Normal(p[..., K : 2 * K], p[..., 2 * K :])),
        support=REALS,
        noise=lambda rng, D, n: (Gumbel(0.0, 0.0).sample(rng, (D, K, n)), rng.normal((D, n))),
        draw=draw,
    )


def chosen(K: int, p, gumbel):
    """Of parameters (..., 3K, n), the logits of weights and then two numbers for each of K components, these
    two of the components that noise chooses, (..., n) each."""
    component = xp.argmax(p[..., :K, :] + gumbel, axis=-2)[..., None, :]
    pairs = (p[..., K : 2 * K, :], p[..., 2 * K :, :])
    return [xp.take_along_axis(numbers, component, -2)[..., 0, :] for numbers in pairs]


def categorical(levels: int) -> Family:
    """Levels x_d from 0 to levels − 1, integers, each with a probability of its own. The network sees them
    spread over [−1, 1]."""
    _expect("categorical", levels=levels, least=2)

    def encode(x, dtype):
        return (2 / (levels - 1)) * ops.raw(x).astype(dtype) - 1

    return Family(
        size=levels,
        distribution=Categorical,
        support=labels(levels),
        noise=lambda rng, D, n: (Gumbel(0.0, 0.0).sample(rng, (D, levels, n)),),
        draw=lambda p, gumbel: encode(xp.argmax(p + gumbel, axis=-2), p.dtype),
        encode=encode,
        decode=lambda x: xp.rint((x + 1) * ((levels - 1) / 2)).astype("int64"),
    )


def _expect(family: str, least: int, **counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < least:
            raise ValueError(f"{family}: {name}: expected an int of at least {least}, got {count!r}")
