"""The GAN with a hinge loss.

    J. H. Lim and J. C. Ye, Geometric GAN, 2017.
    D. Tran, R. Ranganath and D. M. Blei, Hierarchical Implicit Models and Likelihood-Free Variational
    Inference, 2017.
    T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, Spectral Normalization for Generative Adversarial
    Networks, 2018 (MKKY below), where both losses are written as here.

The discriminator separates with a margin, as a support vector machine does: data shall lie beyond 1, what is
generated beyond −1. What lies there already costs nothing and has no gradient. The generator makes
the number itself large, without a margin.
"""

from __future__ import annotations

from ... import ops
from ...optim import RMSProp
from .game import Game
from .gan import GAN


def discriminator_loss(real, fake):
    """−E[min(0, −1 + D(x))] − E[min(0, −1 − D(G(z)))], of numbers (N,) of real and of generated examples
    (MKKY eq. 16), where −min(0, −a) = max(0, a)."""
    return ops.relu(1 - real).mean() + ops.relu(1 + fake).mean()


def generator_loss(fake):
    """−E[D(G(z))], of numbers (N,) (MKKY eq. 17)."""
    return -fake.mean()


class HingeGAN(Game):
    """The arguments are as for `Game`; the critic's numbers are used as they are."""

    def critic_loss(self, x, fake, condition=None):
        return discriminator_loss(*self.judge_both(x, fake, condition))

    def generator_loss(self, fake, condition=None):
        return generator_loss(self.judge(fake, condition))

    def optimizers(self, lr=0.0002) -> tuple[RMSProp, RMSProp]:
        """Of the discriminator and of the generator, as in Lim and Ye's experiments on images."""
        return tuple(RMSProp(player.parameters(), lr) for player in (self.critic, self.generator))

    iteration = GAN.iteration  # the game is played as there, with these losses
