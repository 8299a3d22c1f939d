"""The variational autoencoder with an inverse autoregressive flow for its posterior.

    D. P. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever and M. Welling, Improving Variational
    Inference with Inverse Autoregressive Flow, 2016 (IAF below).

A posterior q(z|x) with independent elements leaves a gap between the ELBO and log p(x) wherever the true one
p(z|x) is another. Here the encoder gives a vector h beside the moments of a normal start z₀, and a flow that
depends on h takes that to z:

    z₀ = μ(x) + σ(x) ε,   z = f(z₀; h(x)),   log q(z|x) = log q(z₀|x) − log |det ∂z/∂z₀|.  (IAF section 4)
"""

from __future__ import annotations

from ... import nn, ops
from ...autodiff import Tensor
from ...backend import Generator
from ...distributions import Normal
from ..flows import IAF
from .vae import VAE


class IAFVAE(VAE):
    """encoder: a Module from x (N, ...) to (N, 2 · latents + context): the mean and the log variance of
        q(z₀|x), and h.
    decoder, likelihood: as for `VAE`. flow: f, of as many inputs as z has, whose condition is h; TypeError
        for what is no IAF."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, flow: IAF, likelihood: str = "bernoulli"):
        if not isinstance(flow, IAF):
            raise TypeError(f"IAFVAE: flow: expected an IAF, got {flow!r}")
        super().__init__(encoder, decoder, flow.inputs, likelihood)
        self.flow, self.context = flow, flow.context

    def encode(self, x) -> Normal:
        """q(z₀|x), a Normal of shape (N, latents): what the flow starts from."""
        return self._start(x)[0]

    def _start(self, x):
        """q(z₀|x) and h(x), None where there is none."""
        out, L = self.encoder(x), self.latents
        size = 2 * L + self.context
        if out.shape[1:] != (size,):
            raise self._refusal(out, f"{out.dtype}[N, {size}]", "encoder")
        return Normal(out[:, :L], out[:, L : 2 * L]), out[:, 2 * L :] if self.context else None

    def draw_posterior(self, x, samples: int = 1, rng: Generator | None = None):
        """As for `VAE`: z (samples · N, latents) and log q(z|x)."""
        q, h = self._start(x)
        q = Normal(ops.concatenate([q.mean] * samples), ops.concatenate([q.log_variance] * samples))
        z0 = q.rsample(rng)
        z, log_det = self.flow.inverse(z0, None if h is None else ops.concatenate([h] * samples))
        return z, q.log_prob(z0).sum(axis=1) - log_det

    def terms(self, x, rng: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The two terms of the ELBO, (N,) each: log p(x|z) and log q(z|x) − log p(z) at one draw of z, whose
        mean is the divergence, which has no closed form here."""
        self._expect_inside(x)
        z, log_q = self.draw_posterior(x, 1, rng)
        log_likelihood = self.decode(z).log_prob(x)
        reconstruction = log_likelihood.sum(axis=tuple(range(1, log_likelihood.ndim)))
        return reconstruction, log_q - self.prior().log_prob(z).sum(axis=1)
