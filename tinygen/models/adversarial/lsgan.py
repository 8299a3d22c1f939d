"""The least squares GAN.

    X. Mao, Q. Li, H. Xie, R. Y. K. Lau, Z. Wang and S. P. Smolley, Least Squares Generative Adversarial
    Networks, 2016 (MLX below).

The discriminator gives the data the number b and what is generated the number a, as near as it can, and the
generator wants the number c. An example that is far on the right side of the decision costs as well, so that
its gradient does not vanish. For a fixed G the best discriminator is

    D* = (b p + a q) / (p + q)                                                                     (MLX eq. 5)

and for b − c = 1 and b − a = 2 the generator's loss at D*, with the same expectation over the data added, is
half the Pearson χ² divergence between p + q and 2 q (MLX eq. 4 to 7).
"""

from __future__ import annotations

import math

from ... import nn
from ...optim import Adam
from .game import Game
from .gan import GAN


def discriminator_loss(real, fake, a: float, b: float):
    """½ E[(D(x) − b)²] + ½ E[(D(G(z)) − a)²], of numbers (N,) of real and of generated
    examples (MLX eq. 2)."""
    return 0.5 * ((real - b) ** 2).mean() + 0.5 * ((fake - a) ** 2).mean()


def generator_loss(fake, c: float):
    """½ E[(D(G(z)) − c)²], of numbers (N,) (MLX eq. 2)."""
    return 0.5 * ((fake - c) ** 2).mean()


class LSGAN(Game):
    """a, b, c: the numbers for what is generated, for the data, and what the generator wants. 0, 1 and 1 are
    the paper's in its experiments (MLX eq. 9); −1, 1 and 0 give the divergence above (MLX eq. 8).
    The rest is as for `Game`; the critic's numbers are used as they are."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latents: int,
        labels: int = 0,
        *,
        a: float = 0.0,
        b: float = 1.0,
        c: float = 1.0,
        critic_steps: int = 1,
    ):
        super().__init__(generator, discriminator, latents, labels, critic_steps)
        for name, target in (("a", a), ("b", b), ("c", c)):
            if not isinstance(target, (int, float)) or not math.isfinite(target):
                raise ValueError(f"LSGAN: {name}: expected a finite number, got {target!r}")
        if a == b:
            raise ValueError(f"LSGAN: a, b: expected two different numbers, got {a!r} twice")
        self.a, self.b, self.c = a, b, c

    def critic_loss(self, x, fake, condition=None):
        return discriminator_loss(*self.judge_both(x, fake, condition), self.a, self.b)

    def generator_loss(self, fake, condition=None):
        return generator_loss(self.judge(fake, condition), self.c)

    def optimizers(self, lr=0.001, betas: tuple[float, float] = (0.5, 0.999)) -> tuple[Adam, Adam]:
        """Of the discriminator and of the generator, as in the paper's experiments on scenes."""
        return tuple(Adam(player.parameters(), lr, betas) for player in (self.critic, self.generator))

    iteration = GAN.iteration  # the game is played as there, with these losses
