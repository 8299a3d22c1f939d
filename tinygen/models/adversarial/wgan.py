"""The Wasserstein GAN.

    M. Arjovsky, S. Chintala and L. Bottou, Wasserstein Generative Adversarial Networks, 2017 (ACB below).

The generator brings its distribution nearer to the data's in the Wasserstein-1 distance, which by duality is

    W(p, q) = max over 1-Lipschitz f of  E_x[f(x)] − E_z[f(G(z))]                                (ACB eq. 2)

The critic f is a network whose weights are kept in a box [−c, c], so that it is K-Lipschitz for some K; what
it finds is at most K W(p, q). Unlike a discriminator it does not saturate, and so can be trained to its best,
or near it, before each step of the generator.
"""

from __future__ import annotations

from ... import nn
from ...autodiff import note_change
from ...backend import xp
from ...optim import RMSProp
from .game import Game, require_positive


class WGAN(Game):
    """c: the bound of the critic's weights. The rest is as for `Game`. The defaults here and of `optimizers`
    are those of Algorithm 1: α = 0.00005, c = 0.01, n_critic = 5; and m = 64 examples in a minibatch."""

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        latents: int,
        labels: int = 0,
        *,
        c: float = 0.01,
        critic_steps: int = 5,
    ):
        super().__init__(generator, critic, latents, labels, critic_steps)
        require_positive("WGAN: c", c)
        self.c = c

    def critic_loss(self, x, fake, condition=None):
        """−(E[f(x)] − E[f(G(z))]), which with its sign changed is the estimate of the distance, times K."""
        of_real, of_fake = self.judge_both(x, fake, condition)
        return of_fake.mean() - of_real.mean()

    def generator_loss(self, fake, condition=None):
        """−E[f(G(z))]."""
        return -self.judge(fake, condition).mean()

    def optimizers(self, alpha=0.00005) -> tuple[RMSProp, RMSProp]:
        """Of the critic and of the generator."""
        return tuple(RMSProp(player.parameters(), alpha) for player in (self.critic, self.generator))

    def iteration(self, x, optimizers, condition=None) -> dict:
        """Algorithm 1, lines 2 to 11; x holds n_critic = critic_steps minibatches, one for each t of line 2,
        where n_critic steps are meant and n_critic + 1 are written. Returns the last loss of both players."""
        of_critic, of_generator = optimizers
        for minibatch, y in self.minibatches(x, condition):  # for t = 0, …, n_critic − 1
            w = self.turn_of_the_critic(minibatch, y, of_critic)
            self.clip_weights()  # w ← clip(w, −c, c)
        theta = self.turn_of_the_generator(len(minibatch), y, of_generator)
        return {"critic": w, "generator": theta}

    def clip_weights(self) -> None:
        """Bring the critic's parameters back into [−c, c]."""
        for p in self.critic.parameters():
            xp.clip(p.data, -self.c, self.c, out=p.data)
            note_change(p.data)
