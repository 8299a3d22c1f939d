"""MADE, the masked autoencoder for distribution estimation.

    M. Germain, K. Gregor, I. Murray and H. Larochelle, MADE: Masked Autoencoder for Distribution Estimation,
    2015 (GGML below).

By the product rule, in any order of the elements of x,

    log p(x) = Σ_d log p(x_d | x_<d),                                                         (GGML eq. 6)

and one pass of a masked network gives the parameters of all conditionals. All figures are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ... import nn, ops
from ...autodiff import no_grad
from ...backend import Generator, default_generator, to_host, xp
from ...distributions import Bernoulli, Categorical, Gumbel, Logistic, Mixture, Normal
from ...distributions.base import REALS, Support, labels, require_inside
from .conditioning import one_hot
from .masked_network import MaskedNetwork
from .sequential import fill, fill_naively

# The conditionals ---------------------------------------------------------------------------------


class Family(NamedTuple):
    """One kind of p(x_d | x_<d).

    size: the parameters of an element. distribution: the distribution that they stand for, from parameters
    (..., size). support: where x lies.
    noise: what makes draws random, a tuple of arrays (D, ..., n), from (generator, D, n).
    draw: values (n,) from parameters (size, n) and an element's noise.
    encode: what the network sees of x, and what `draw` gives. decode: x from that."""

    size: int
    distribution: Callable
    support: Support
    noise: Callable[[Generator, int, int], tuple]
    draw: Callable
    encode: Callable = lambda x: x
    decode: Callable = lambda x: x


def bernoulli() -> Family:
    """x_d in {0, 1}, floating."""
    return Family(
        size=1,
        distribution=lambda p: Bernoulli(p[..., 0]),
        support=Bernoulli.support,
        noise=lambda rng, D, n: (Logistic(0.0, 0.0).sample(rng, (D, n)),),
        draw=lambda p, noise: p[0] + noise > 0,  # P(l + ε > 0) = σ(l) for ε from Logistic(0, 1)
    )


def gaussian() -> Family:
    """Real x_d, normal with parameters μ and log σ²."""
    return Family(
        size=2,
        distribution=lambda p: Normal(p[..., 0], p[..., 1]),
        support=REALS,
        noise=lambda rng, D, n: (rng.normal((D, n)),),
        draw=lambda p, noise: p[0] + xp.exp(0.5 * p[1]) * noise,
    )


def mixture_of_gaussians(components: int) -> Family:
    """Real x_d, from a mixture of so many normals: logits of the weights, then each μ and log σ²."""
    K = components

    def draw(p, gumbel, noise):
        chosen = xp.argmax(p[:K] + gumbel, axis=0)[None]
        mean, log_variance = (xp.take_along_axis(part, chosen, 0)[0] for part in (p[K : 2 * K], p[2 * K :]))
        return mean + xp.exp(0.5 * log_variance) * noise

    return Family(
        size=3 * K,
        distribution=lambda p: Mixture(p[..., :K], Normal(p[..., K : 2 * K], p[..., 2 * K :])),
        support=REALS,
        noise=lambda rng, D, n: (Gumbel(0.0, 0.0).sample(rng, (D, K, n)), rng.normal((D, n))),
        draw=draw,
    )


def categorical(levels: int) -> Family:
    """Levels x_d from 0 to levels − 1, integers, each with a probability of its own. The network sees them
    spread over [−1, 1]."""
    if not isinstance(levels, int) or levels < 2:
        raise ValueError(f"categorical: levels: expected an int of at least 2, got {levels!r}")

    def encode(x):
        return (2 / (levels - 1)) * ops.raw(x).astype("float32") - 1

    return Family(
        size=levels,
        distribution=Categorical,
        support=labels(levels),
        noise=lambda rng, D, n: (Gumbel(0.0, 0.0).sample(rng, (D, levels, n)),),
        draw=lambda p, gumbel: encode(xp.argmax(p + gumbel, axis=0)),
        encode=encode,
        decode=lambda x: xp.rint((x + 1) * ((levels - 1) / 2)).astype("int64"),
    )


# The model ----------------------------------------------------------------------------------------


class MADE(nn.Module):
    """p(x) over vectors x (N, inputs).

    inputs: D. hidden: the units of each hidden layer. family: of the conditionals.
    labels: the number of classes, if the model is p(x | label).
    order, degrees, variants, direct: as for `MaskedNetwork`.

    With several variants p(x) is their mixture with equal weights, and training goes through them in turn
    (order- and connectivity-agnostic training, GGML section 4)."""

    def __init__(self, inputs: int, hidden, family: Family | None = None, labels: int = 0, **options: Any):
        self.family = family or bernoulli()
        self.network = MaskedNetwork(inputs, hidden, self.family.size, context=labels, **options)
        self.inputs, self.labels, self.variants = inputs, labels, self.network.variants

    def conditionals(self, x, condition=None):
        """The distributions p(x_d | x_<d), one of shape (N, inputs), of the variant in use.

        Raises TypeError or ValueError for an x of another shape or dtype or outside the support, and for a
        missing, needless or wrong condition."""
        require_inside("MADE: x", ops.raw(x), self.family.support)
        context = one_hot(condition, self.labels, len(x))
        return self.family.distribution(self.network(self.family.encode(x), context))

    def log_prob(self, x, condition=None):
        """log p(x), (N,): exact, with all variants. condition: labels (N,), where there are some."""
        of_variants = [self._log_prob(x, condition, variant) for variant in range(self.variants)]
        if self.variants == 1:
            return of_variants[0]
        return ops.logsumexp(ops.stack(of_variants), axis=0) - math.log(self.variants)

    def _log_prob(self, x, condition, variant: int):
        self.network.use(variant)
        return self.conditionals(x, condition).log_prob(x).sum(axis=1)

    def loss(self, x, condition=None, step: int = 0):
        """−log p(x) by the variant whose turn it is at a step, the mean over examples."""
        return -self._log_prob(x, condition, step % self.variants).mean()

    def sample(self, n: int, condition=None, rng: Generator | None = None):
        """n draws of x, an array (n, inputs). condition: labels (n,)."""
        rng = rng or default_generator()
        chosen = to_host(rng.integers(0, self.variants, (n,)))
        x = self.family.decode(xp.zeros((n, self.inputs), "float32"))
        for variant in range(self.variants):
            index = xp.asarray((chosen == variant).nonzero()[0])
            labels = None if condition is None else condition[index]
            x[index] = self._filled(len(index), labels, variant, rng)
        return x

    def complete(self, x, given, condition=None, variant: int = 0, rng: Generator | None = None):
        """x (N, inputs) with new draws where `given` (inputs,) is False, each conditioned on what comes before
        it in the variant's order: a draw from p(rest | given) if what is given comes first in it."""
        known, values = to_host(given).tolist(), ops.raw(self.family.encode(x)).T
        return self._filled(len(x), condition, variant, rng or default_generator(), known, values)

    @no_grad()
    def _filled(self, n, condition, variant, rng, known=None, values=None, how=fill):
        """n vectors, drawn but for the elements d with known[d], which are values[d]."""
        self.network.use(variant)
        noise, family = self.family.noise(rng, self.inputs, n), self.family

        def draw(d, parameters):
            if known is not None and known[d]:
                return values[d]
            return family.draw(parameters, *(part[d] for part in noise))

        return family.decode(how(self.network, draw, n, one_hot(condition, self.labels, n)))

    def sample_naively(self, n: int, condition=None, rng: Generator | None = None):
        """What `sample` returns for the same generator where there is one variant, with a whole pass for each
        element: the readable reference."""
        rng = rng or default_generator()
        rng.integers(0, 1, (n,))
        return self._filled(n, condition, 0, rng, how=fill_naively)
