"""The variational autoencoder.

    D. P. Kingma and M. Welling, Auto-Encoding Variational Bayes, 2014 (KW below).
    Y. Burda, R. Grosse and R. Salakhutdinov, Importance Weighted Autoencoders, 2016 (BGS).

A latent code z ~ p(z) = N(0, I) makes an observation x ~ p(x|z) by a network, the decoder. The posterior
p(z|x) is intractable, so a second network, the encoder, gives an approximation q(z|x) = N(z; μ(x), σ²(x) I).
Both are trained together to maximize the evidence lower bound (ELBO) on the log-likelihood,

    log p(x) ≥ L(x) = E_{q(z|x)}[log p(x|z)] − KL(q(z|x) ‖ p(z))                              (KW eq. 3)

All bounds are in nats, one for each example.
"""

from __future__ import annotations

import math

from ... import nn, ops
from ...autodiff import Tensor, no_grad
from ...backend import Generator
from ...distributions import Bernoulli, Normal, kl_divergence
from ...distributions.base import require_inside


class VAE(nn.Module):
    """encoder: a Module from x (N, ...) to (N, 2 · latents), the mean and the log variance of q(z|x).
    decoder: a Module from z (N, latents) to (N, ...), the logits or the means of p(x|z).
    latents: the number of dimensions of z.
    likelihood: "bernoulli" for x in {0, 1}, or "gaussian" for real x, with one learned variance for all
        elements. Raises ValueError for another, and for an x outside, looked at on the CPU only."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latents: int, likelihood: str = "bernoulli"):
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"likelihood: expected 'bernoulli' or 'gaussian', got {likelihood!r}")
        self.encoder, self.decoder = encoder, decoder
        self.latents, self.likelihood = latents, likelihood
        if likelihood == "gaussian":
            self.log_variance = Tensor(0.0, requires_grad=True)

    def encode(self, x) -> Normal:
        """q(z|x), a Normal of shape (N, latents)."""
        mean, log_variance = ops.split(self.encoder(x), 2, axis=1)
        return Normal(mean, log_variance)

    def decode(self, z) -> Bernoulli | Normal:
        """p(x|z), of shape (N, ...)."""
        out = self.decoder(z)
        if self.likelihood == "bernoulli":
            return Bernoulli(out)
        return Normal(out, self.log_variance)

    def terms(self, x, rng: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The two terms of the ELBO (KW eq. 3), (N,) each: the reconstruction log p(x|z) at one draw of z
        from q(z|x), and the divergence KL(q(z|x) ‖ p(z)) in closed form (KW Appendix B)."""
        self._expect_inside(x)
        q = self.encode(x)
        z = q.rsample(rng)  # z = μ + σ ε, ε ~ N(0, I): gradients reach μ and σ (KW section 2.4)
        reconstruction = _sum_each(self.decode(z).log_prob(x))
        divergence = _sum_each(kl_divergence(q, self.prior()))
        return reconstruction, divergence

    def elbo(self, x, rng: Generator | None = None) -> Tensor:
        """L(x) of KW eq. 3, (N,), by one draw of z for each example: an unbiased estimate."""
        reconstruction, divergence = self.terms(x, rng)
        return reconstruction - divergence

    def loss(self, x, rng: Generator | None = None) -> Tensor:
        """−L(x), mean over the examples."""
        return -self.elbo(x, rng).mean()

    def importance_weighted_bound(self, x, samples: int, rng: Generator | None = None) -> Tensor:
        """L_K(x) = E[log 1/K Σₖ p(x, zₖ) / q(zₖ|x)] with z₁ ... z_K ~ q(z|x), (N,)   (BGS eq. 8).

        K = `samples`. L₁ is the ELBO, and L_K rises towards log p(x) with K. Memory grows with N · K."""
        if samples < 1:
            raise ValueError(f"samples: expected at least 1, got {samples}")
        self._expect_inside(x)
        z, log_q = self.draw_posterior(x, samples, rng)
        log_likelihood = self.decode(z).log_prob(ops.concatenate([x] * samples))
        log_weights = _sum_each(log_likelihood) + _sum_each(self.prior().log_prob(z)) - log_q
        return ops.logsumexp(log_weights.reshape(samples, x.shape[0]), axis=0) - math.log(samples)

    def draw_posterior(self, x, samples: int = 1, rng: Generator | None = None):
        """z ~ q(z|x), (samples · N, latents), row k N + i being draw k for example i; and log q(z|x)."""
        q = self.encode(x)
        q = Normal(ops.concatenate([q.mean] * samples), ops.concatenate([q.log_variance] * samples))
        z = q.rsample(rng)
        return z, _sum_each(q.log_prob(z))

    def _expect_inside(self, x) -> None:
        """Refuse values that the likelihood has no density for, before the encoder sees them."""
        support = (Bernoulli if self.likelihood == "bernoulli" else Normal).support
        require_inside(f"{type(self).__name__}: x", ops.raw(x), support)

    def prior(self) -> Normal:
        """p(z) = N(0, I)."""
        return Normal(0.0, 0.0)

    @no_grad()
    def sample(self, n: int, rng: Generator | None = None):
        """n draws of x from the model: z ~ p(z), x ~ p(x|z). An array (n, ...)."""
        z = self.prior().sample(rng, (n, self.latents)).astype(self.parameters()[0].dtype)
        return self.decode(z).sample(rng)


def _sum_each(values):
    """The sum over all axes but the first: one number for each example."""
    return values.sum(axis=tuple(range(1, values.ndim)))
