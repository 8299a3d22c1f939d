"""Generative adversarial networks.

    I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. Courville and Y. Bengio,
    Generative Adversarial Nets, 2014 (GPM below).
    T. Salimans, I. Goodfellow, W. Zaremba, V. Cheung, A. Radford and X. Chen, Improved Techniques for
    Training GANs, 2016 (SGZ).

The discriminator tells data from what the generator makes, and the generator makes that hard for it:

    min_G max_D V(D, G) = E_x[log D(x)] + E_z[log(1 − D(G(z)))]                                  (GPM eq. 1)

For a fixed G the best D is p/(p + q), and then V = −log 4 + 2 JSD(p ‖ q) (GPM proposition 1 and theorem 1).
All losses are in nats. They are computed from the logit l, D = σ(l), so that no logarithm of 0 is taken and
a discriminator that is sure and wrong still has its gradient:

    −log D = log(1 + e⁻ˡ) = softplus(−l),   −log(1 − D) = softplus(l).
"""

from __future__ import annotations

from ... import nn, ops
from ...optim import SGD
from .game import Game


def discriminator_loss(real, fake, smoothing: float = 0.0):
    """−V, of logits (N,) of real and of generated examples:

        −E[(1 − α) log D(x) + α log(1 − D(x))] − E[log(1 − D(G(z)))].

    α = smoothing: one-sided label smoothing, the target 1 − α for data and 0 for the rest (SGZ section
    3.4, where α is the target itself)."""
    of_real = ops.softplus(-real)
    if smoothing:
        of_real = (1 - smoothing) * of_real + smoothing * ops.softplus(real)
    return of_real.mean() + ops.softplus(fake).mean()


def minimax_loss(fake):
    """E[log(1 − D(G(z)))], of logits (N,): the generator's part of V. Where the discriminator is sure of what
    is generated, its gradient vanishes."""
    return -ops.softplus(fake).mean()


def non_saturating_loss(fake):
    """−E[log D(G(z))], of logits (N,): the same fixed point, and a gradient where the other vanishes (GPM
    section 3)."""
    return ops.softplus(-fake).mean()


GENERATOR_LOSSES = {"non-saturating": non_saturating_loss, "minimax": minimax_loss}


class GAN(Game):
    """objective: of the generator, "non-saturating" or "minimax". smoothing: α, from 0 to below 1/2.
    The rest is as for `Game`; the critic gives logits."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latents: int,
        labels: int = 0,
        *,
        objective: str = "non-saturating",
        smoothing: float = 0.0,
        critic_steps: int = 1,
    ):
        super().__init__(generator, discriminator, latents, labels, critic_steps)
        if objective not in GENERATOR_LOSSES:
            raise ValueError(f"GAN: objective: expected one of {list(GENERATOR_LOSSES)}, got {objective!r}")
        if not isinstance(smoothing, (int, float)) or not 0 <= smoothing < 0.5:
            raise ValueError(f"GAN: smoothing: expected a number from 0 to below 0.5, got {smoothing!r}")
        self.objective, self.smoothing = objective, smoothing

    def critic_loss(self, x, fake, condition=None):
        return discriminator_loss(*self.judge_both(x, fake, condition), self.smoothing)

    def generator_loss(self, fake, condition=None):
        return GENERATOR_LOSSES[self.objective](self.judge(fake, condition))

    def optimizers(self, lr=0.1, momentum: float = 0.5) -> tuple[SGD, SGD]:
        """Of the discriminator and of the generator, as in the paper's experiments on MNIST at their
        start."""
        return tuple(SGD(player.parameters(), lr, momentum) for player in (self.critic, self.generator))

    def iteration(self, x, optimizers, condition=None) -> dict:
        """Algorithm 1, one pass of its outer loop; x holds the k = critic_steps minibatches of the inner one.
        Returns the last loss of both players."""
        of_discriminator, of_generator = optimizers
        for minibatch, y in self.minibatches(x, condition):  # for k steps
            d = self.turn_of_the_critic(minibatch, y, of_discriminator)
        g = self.turn_of_the_generator(len(minibatch), y, of_generator)
        return {"discriminator": d, "generator": g}
