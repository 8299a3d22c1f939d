"""The Wasserstein GAN with gradient penalty.

    I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin and A. Courville, Improved Training of Wasserstein GANs,
    2017 (GAA below).

The best critic's gradient has norm 1 on the straight lines from generated points to those data to which an
optimal transport takes them (GAA proposition 1). So the critic is not confined by its weights; its gradient
is asked for, at points x̂ on lines between any examples of both, since the transport is not known:

    L = E[D(x̃)] − E[D(x)] + λ E[(‖∇_x̂ D(x̂)‖₂ − 1)²]                                             (GAA eq. 3)

The penalty is a function of the critic's parameters through a gradient: its own gradient is a second-order
derivative.
"""

from __future__ import annotations

from ... import autodiff, nn, ops
from ...autodiff import Tensor
from ...backend import default_generator
from ...optim import Adam
from .game import Game, has_batch_normalization, require_positive


def gradient_penalty(critic, x, fake, epsilon):
    """E[(‖∇_x̂ D(x̂)‖₂ − 1)²], at x̂ = ε x + (1 − ε) x̃ (Algorithm 1, lines 6 and 7).

    critic: from examples to one number each, which depends on that example alone: no batch normalization.
    x, fake: real and generated examples, arrays (N, ...). epsilon: (N,), uniform from 0 to 1.

    Raises ValueError for other shapes."""
    if x.shape != fake.shape:
        raise ValueError(f"gradient_penalty: x, fake: expected one shape, got {x.shape} and {fake.shape}")
    if epsilon.shape != x.shape[:1]:
        raise ValueError(f"gradient_penalty: epsilon: expected shape {x.shape[:1]}, got {epsilon.shape}")
    epsilon = epsilon.reshape(-1, *[1] * (x.ndim - 1))
    return penalty_at(critic, Tensor(epsilon * x + (1 - epsilon) * fake, requires_grad=True))


def penalty_at(critic, x_hat: Tensor):
    """E[(‖∇ D(x̂)‖₂ − 1)²] at examples x̂ (N, ...), a Tensor that requires a gradient."""
    (gradient,) = autodiff.grad(critic(x_hat).sum(), [x_hat], create_graph=True)
    norm = ops.norm(ops.reshape(gradient, (len(x_hat), -1)), axis=1)
    return ((norm - 1) ** 2).mean()


class WGANGP(Game):
    """penalty: λ. The rest is as for `Game`. The defaults here and of `optimizers` are those of Algorithm 1:
    λ = 10, n_critic = 5, α = 0.0001, β₁ = 0, β₂ = 0.9."""

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        latents: int,
        labels: int = 0,
        *,
        penalty: float = 10.0,
        critic_steps: int = 5,
    ):
        super().__init__(generator, critic, latents, labels, critic_steps)
        require_positive("WGANGP: penalty", penalty)
        if has_batch_normalization(critic):
            raise ValueError(
                "WGANGP: critic: expected no batch normalization, for the penalty is of each example alone; "
                f"got {critic!r}"
            )
        self.penalty = penalty

    def critic_loss(self, x, fake, condition=None):
        """L (GAA eq. 3): the estimate of the distance with its sign changed, and the penalty."""
        epsilon = default_generator().uniform((len(x),), dtype=self._dtype)
        raw = ops.raw(x), ops.raw(fake)
        penalty = gradient_penalty(lambda x_hat: self.judge(x_hat, condition), *raw, epsilon)
        of_real, of_fake = self.judge_both(x, fake, condition)
        return of_fake.mean() - of_real.mean() + self.penalty * penalty

    def generator_loss(self, fake, condition=None):
        """−E[D(G(z))]."""
        return -self.judge(fake, condition).mean()

    def optimizers(self, alpha=0.0001, betas: tuple[float, float] = (0.0, 0.9)) -> tuple[Adam, Adam]:
        """Of the critic and of the generator."""
        return tuple(Adam(player.parameters(), alpha, betas) for player in (self.critic, self.generator))

    def iteration(self, x, optimizers, condition=None) -> dict:
        """Algorithm 1, lines 2 to 12; x holds n_critic = critic_steps minibatches. Returns the last loss of
        both players."""
        of_critic, of_generator = optimizers
        for minibatch, y in self.minibatches(x, condition):  # for t = 1, …, n_critic
            w = self.turn_of_the_critic(minibatch, y, of_critic)
        theta = self.turn_of_the_generator(len(minibatch), y, of_generator)
        return {"critic": w, "generator": theta}
