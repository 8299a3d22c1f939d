"""What implicit models share: a generator and a critic that play against each other.

A latent code z ~ N(0, I) makes an example x = G(z) by a network, the generator. The density of these examples
is never computed. A second network, the critic D (a discriminator, where its number is the logit of "real"),
gives each example a number, of the data and of the generator alike. Each player has a loss and goes down it
in turn. What these losses are, and who moves how often, makes the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ... import nn, ops
from ...autodiff import Tensor, no_grad
from ...backend import Generator, default_generator, form_of
from ...optim import Optimizer
from ..autoregressive.conditioning import one_hot


class Game(nn.Module):
    """generator: G, a Module from z (N, latents) to examples x (N, ...).
    critic: D, a Module from x to numbers (N, 1).
    latents: the dimensions of z.
    labels: the number of classes, if the model is p(x | label); conditions are labels (N,) then. Both
        networks see a label as a vector of zeros and a 1, behind z, and behind the last axis of x, the same
        for all pixels: they have that many more inputs (M. Mirza and S. Osindero, Conditional Generative
        Adversarial Nets, 2014, eq. 2).
    critic_steps: of the critic before each one of the generator.

    x has the parameters' dtype. In a turn, neither parameters nor state of the other player change (running
    statistics, singular vectors). What the networks refuse is refused before a parameter has changed, and so
    is a condition that is missing, needless or wrong (ValueError)."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, latents: int, labels: int = 0, critic_steps: int = 1
    ):
        self._expect_counts(latents=latents, critic_steps=critic_steps)
        self._expect_counts(least=0, labels=labels)
        for name, player in (("generator", generator), ("critic", critic)):
            if not isinstance(player, nn.Module):
                got = type(player).__name__
                raise ValueError(f"{type(self).__name__}: {name}: expected a Module, got {got}")
        self.generator, self.critic = generator, critic
        self.latents, self.labels, self.critic_steps = latents, labels, critic_steps

    # The players ----------------------------------------------------------------------------------

    def latent(self, n: int, rng: Generator | None = None):
        """n draws of z ~ N(0, I), an array (n, latents)."""
        return (rng or default_generator()).normal((n, self.latents), self._dtype)

    def generate(self, z, condition=None) -> Tensor:
        """x = G(z), or G(z, y)."""
        return self.generator(self._joined(z, condition))

    def judge(self, x, condition=None) -> Tensor:
        """D(x), or D(x, y), (N,)."""
        numbers = self.critic(self._joined(x, condition))
        if numbers.shape != (len(x), 1):
            raise self._refusal(numbers, f"numbers ({len(x)}, 1)", "critic: what it returns")
        return ops.reshape(numbers, (len(x),))

    def judge_both(self, x, fake, condition=None) -> tuple[Tensor, Tensor]:
        """D(x) and D(G(z)), (N,) each, by one call of the critic, which takes less time than two; but by two
        if it has batch normalization, which is to see them apart."""
        if has_batch_normalization(self.critic):
            return self.judge(x, condition), self.judge(fake, condition)
        conditions = None if condition is None else ops.concatenate([condition, condition])
        numbers = self.judge(ops.concatenate([x, fake]), conditions)
        return numbers[: len(x)], numbers[len(x) :]

    def _joined(self, x, condition):
        """What a network sees: x, and behind its last axis the label, if there are any."""
        y = one_hot(condition, self.labels, len(x), self._dtype)
        if y is None:
            return x
        n, *between, _ = x.shape
        y = ops.reshape(y, (n, *[1] * len(between), self.labels))
        return ops.concatenate([x, ops.broadcast_to(y, (n, *between, self.labels))], axis=-1)

    @no_grad()
    def sample(self, n: int, condition=None, rng: Generator | None = None):
        """n draws of x, an array (n, ...). The game stays as it is."""
        self._expect_counts(least=0, n=n)
        with nn.frozen_state():
            return ops.raw(self.generate(self.latent(n, rng), condition))

    # Their losses ---------------------------------------------------------------------------------

    def critic_loss(self, x, fake, condition=None) -> Tensor:
        """What the critic makes small, for as many real examples x as generated ones."""
        raise NotImplementedError

    def generator_loss(self, fake, condition=None) -> Tensor:
        """What the generator makes small, for generated examples."""
        raise NotImplementedError

    # Their turns ----------------------------------------------------------------------------------

    def turn_of_the_critic(self, x, condition, optimizer: Optimizer) -> Tensor:
        """One step of the critic, on a minibatch x and as many generated examples; the generator is left
        alone. Returns the loss.

        Raises ValueError for an x of another shape or dtype than what is generated."""
        with no_grad(), nn.frozen_state():
            fake = self.generate(self.latent(len(x)), condition)
        if form_of(x) != form_of(fake):
            raise self._refusal(x, f"{form_of(fake)}, as the generator makes them")
        return descend(optimizer, self.critic_loss(x, fake, condition))

    def turn_of_the_generator(self, n: int, condition, optimizer: Optimizer) -> Tensor:
        """One step of the generator, on n examples; the critic is left alone. Returns the loss."""
        fake = self.generate(self.latent(n), condition)
        with nn.frozen_state():
            loss = self.generator_loss(fake, condition)
        return descend(optimizer, loss)

    def minibatches(self, x, condition=None) -> Iterator[tuple]:
        """x, and the condition, in as many equal parts as the critic has steps.

        Raises ValueError where they do not come out equal, and for a wrong condition."""
        m, rest = divmod(len(x), self.critic_steps)
        if rest or not m:
            raise self._refusal(x, f"{self.critic_steps} equal minibatches, one for each step of the critic")
        one_hot(condition, self.labels, len(x))  # of all minibatches, before anything has changed
        for start in range(0, len(x), m):
            part = slice(start, start + m)
            yield x[part], None if condition is None else condition[part]

    @property
    def _dtype(self):
        for _, tensor in self.critic._tensors():
            if tensor.requires_grad:
                return tensor.dtype
        raise ValueError(f"{type(self).__name__}: critic: expected parameters to train, got none")


def has_batch_normalization(network: nn.Module) -> bool:
    """Whether what the network makes of an example depends on the others of its minibatch."""
    return any(isinstance(module, nn.BatchNorm) for module in network._modules())


def require_positive(name: str, value) -> None:
    """Refuse what is no positive finite number."""
    if not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


def descend(optimizer: Optimizer, loss: Tensor) -> Tensor:
    """One step of a player down its loss. Nothing is computed for the parameters of the other one."""
    optimizer.zero_grad()
    loss.backward(inputs=optimizer.params)
    optimizer.step()
    return loss.detach()
