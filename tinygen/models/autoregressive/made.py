"""MADE, the masked autoencoder for distribution estimation.

    M. Germain, K. Gregor, I. Murray and H. Larochelle, MADE: Masked Autoencoder for Distribution Estimation,
    2015 (GGML below).

By the product rule, in any order of the elements of x,

    log p(x) = Σ_d log p(x_d | x_<d)                                                      (GGML section 3)

and one pass of a masked network gives the parameters of all conditionals. All figures are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ... import nn, ops
from ...backend import Generator, default_generator, to_host, xp
from ...distributions.base import require_inside
from .conditionals import Family, family_of
from .conditioning import one_hot
from .masked_network import MaskedNetwork
from .sequential import fill, fill_naively


class MADE(nn.Module):
    """p(x) over vectors x (N, inputs).

    inputs: D. hidden: the units of each hidden layer. family: of the conditionals; bernoulli()
        if None, TypeError for what is no Family.
    labels: the number of classes, if the model is p(x | label); conditions are labels (N,) then.
    order, degrees, variants, direct: as for `MaskedNetwork`.

    With several variants p(x) is their mixture with equal weights, and training goes through them in turn
    (order- and connectivity-agnostic training, GGML sections 4.3 and 4.4).

    x has the parameters' dtype, or an integer one where it holds levels. Raises ValueError for an x of
    another shape or dtype or, looked at on the CPU only, outside the support, and for a condition that is
    missing, needless or wrong."""

    def __init__(self, inputs: int, hidden, family: Family | None = None, labels: int = 0, **options: Any):
        self._expect_counts(least=0, labels=labels)
        self.family = family_of("MADE", family)
        self.network = MaskedNetwork(inputs, hidden, self.family.size, context=labels, **options)
        self.inputs, self.labels, self.variants = inputs, labels, self.network.variants

    def conditionals(self, x, condition=None, variant: int = 0):
        """The distributions p(x_d | x_<d) in the order of a variant, as one of shape (N, inputs)."""
        self._check(x)
        require_inside("MADE: x", ops.raw(x), self.family.support)
        seen = self.family.encode(x, self.network.dtype)
        return self.family.distribution(self.network(seen, self._context(condition, len(x)), variant))

    def log_prob(self, x, condition=None):
        """log p(x), (N,): exact, with all variants."""
        of_variants = [self._log_prob(x, condition, variant) for variant in range(self.variants)]
        if self.variants == 1:
            return of_variants[0]
        return ops.logsumexp(ops.stack(of_variants), axis=0) - math.log(self.variants)

    def _log_prob(self, x, condition, variant: int):
        """Σ_d log p(x_d | x_<d), (N,), in the order of a variant."""
        return self.conditionals(x, condition, variant).log_prob(x).sum(axis=1)

    def loss(self, x, condition=None, step: int = 0):
        """−log p(x) by the variant whose turn it is at a step, the mean over examples."""
        return -self._log_prob(x, condition, step % self.variants).mean()

    def sample(self, n: int, condition=None, rng: Generator | None = None):
        """n draws of x, an array (n, inputs)."""
        return self._sample(n, condition, rng, fill)

    def sample_naively(self, n: int, condition=None, rng: Generator | None = None):
        """The same draws for the same generator, with a pass for each element: the readable reference."""
        return self._sample(n, condition, rng, fill_naively)

    def _sample(self, n: int, condition, rng: Generator | None, how: Callable):
        """For each draw a variant, then the elements in its order."""
        self._expect_counts(least=0, n=n)
        context, rng = self._context(condition, n), rng or default_generator()
        if self.variants == 1:
            return self._found(n, context, 0, rng, how)
        chosen = to_host(rng.integers(0, self.variants, (n,)))
        parts, places = [], []
        for variant in range(self.variants):
            rows = xp.asarray((chosen == variant).nonzero()[0])
            of_rows = context if context is None else context[rows]
            parts.append(self._found(len(rows), of_rows, variant, rng, how))
            places.append(rows)
        return xp.concatenate(parts)[xp.argsort(xp.concatenate(places))]

    def complete(self, x, given, condition=None, variant: int = 0, rng: Generator | None = None):
        """x (N, inputs) with new draws where `given` (inputs,), of bools, is False, each conditioned on what
        comes before it in the variant's order. These are draws from p(rest | given) if what is given comes
        first in that. What x holds where nothing is given does not matter."""
        self._check(x)
        if getattr(given, "dtype", "") != "bool" or given.shape != (self.inputs,):
            raise self._refusal(given, f"bool[{self.inputs}]", "given")
        given = to_host(ops.raw(given)).nonzero()[0]
        require_inside("MADE: x", ops.raw(x)[:, xp.asarray(given)], self.family.support)
        values = ops.raw(self.family.encode(x, self.network.dtype)).T
        known = {d: values[d] for d in given.tolist()}
        context = self._context(condition, len(x))
        return self._found(len(x), context, variant, rng or default_generator(), fill, known)

    def _found(self, n: int, context, variant: int, rng: Generator, how: Callable, known: dict | None = None):
        """n vectors, drawn but for the elements that are known, as the network sees them."""
        family, order = self.family, self.network.order(variant)
        noise = family.noise(rng, self.inputs, n)

        def draw(places, parameters):
            values = family.draw(parameters, *[part[places] for part in noise])
            for row, d in enumerate(order[places]) if known else ():
                if d in known:
                    values[row] = known[d]
            return values

        return family.decode(how(self.network, draw, n, context, variant))

    def _check(self, x) -> None:
        """Refuse an x of another shape or dtype."""
        if self.family.support.integers:
            fits = hasattr(x, "dtype") and x.dtype.kind in "iu" and x.shape[1:] == (self.inputs,)
            if not fits:
                raise self._refusal(x, f"integers[N, {self.inputs}]")
        else:
            self._expect(x, self.network.dtype, "N", self.inputs)

    def _context(self, condition, n: int):
        return one_hot(condition, self.labels, n, self.network.dtype)
