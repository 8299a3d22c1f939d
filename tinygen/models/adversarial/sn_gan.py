"""The GAN whose discriminator has spectral normalization in every layer.

    T. Miyato, T. Kataoka, M. Koyama and Y. Yoshida, Spectral Normalization for Generative Adversarial
    Networks, 2018 (MKKY below).

Each weight W is used as W / σ(W), σ(W) being its largest singular value (MKKY eq. 8), so that no layer
stretches a difference of its inputs, and with activations like ReLU the whole discriminator is Lipschitz
continuous (MKKY eq. 7). (A convolution's W counts as a matrix, as in the paper: at stride 1 the layer itself
may stretch up to √(KH·KW) times as much, where windows overlap.)
"""

from __future__ import annotations

from ... import nn
from ...nn.reparameterized import OUTPUT_AXIS, Reparameterized
from ...optim import Adam
from . import gan, hinge
from .game import Game

# name: the losses of the discriminator and of the generator
OBJECTIVES = {
    "hinge": (hinge.discriminator_loss, hinge.generator_loss),  # MKKY eq. 16 and 17
    "non-saturating": (gan.discriminator_loss, gan.non_saturating_loss),  # MKKY section 4
}


def spectrally_normalized(network: nn.Module) -> nn.Module:
    """The network with nn.SpectralNorm around each of its layers Linear, Conv1d, Conv2d, ConvTranspose2d and
    Embedding, wherever it is held; in place. A layer that is reparameterized already stays as it is.

    Raises ValueError for a network without such layers, and as SpectralNorm; nothing has changed then."""
    modules = network._modules()
    done = [module.layer for module in modules if isinstance(module, Reparameterized)]
    layers = [module for module in modules if isinstance(module, tuple(OUTPUT_AXIS)) and module not in done]
    if not layers and not done:
        kinds = ", ".join(kind.__name__ for kind in OUTPUT_AXIS)
        raise ValueError(f"spectrally_normalized: network: expected layers {kinds}, got {network!r}")
    normalized = {id(layer): nn.SpectralNorm(layer) for layer in layers}
    for module in modules:
        for name, value in vars(module).items():
            setattr(module, name, _exchanged(value, normalized))
    return normalized.get(id(network), network)


def _exchanged(value, normalized: dict[int, nn.SpectralNorm]):
    """What an attribute holds, with the normalized layers in place of the others."""
    if isinstance(value, (list, tuple)):
        of_parts = getattr(value, "_make", type(value))  # a named tuple's type wants its parts one by one
        return of_parts(_exchanged(part, normalized) for part in value)
    if isinstance(value, dict):
        return {key: _exchanged(part, normalized) for key, part in value.items()}
    return normalized.get(id(value), value)


class SNGAN(Game):
    """discriminator: any network; its layers are normalized here.
    objective: "hinge" or "non-saturating". The rest is as for `Game`.

    σ(W) is followed by one step of power iteration in each update of the discriminator (MKKY Algorithm 1). So
    real and generated examples are judged in one call, by one and the same function, and the generator's turn
    uses the singular vectors as they are. (The authors' code makes a step in every call: two in an update,
    between which the function changes, and one in the generator's turn. So does a discriminator with batch
    normalization here, which is called on real and on generated examples apart.)"""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latents: int,
        labels: int = 0,
        *,
        objective: str = "hinge",
        critic_steps: int = 1,
    ):
        if objective not in OBJECTIVES:
            raise ValueError(f"SNGAN: objective: expected one of {list(OBJECTIVES)}, got {objective!r}")
        super().__init__(generator, discriminator, latents, labels, critic_steps)
        self.critic = spectrally_normalized(discriminator)
        self.objective = objective

    def critic_loss(self, x, fake, condition=None):
        return OBJECTIVES[self.objective][0](*self.judge_both(x, fake, condition))

    def generator_loss(self, fake, condition=None):
        return OBJECTIVES[self.objective][1](self.judge(fake, condition))

    def optimizers(self, alpha=0.0002, betas: tuple[float, float] = (0.5, 0.999)) -> tuple[Adam, Adam]:
        """Of the discriminator and of the generator: setting C of MKKY table 1, for their standard CNN, with
        critic_steps = n_dis = 1. Their residual networks have β₁ = 0, β₂ = 0.9 and n_dis = 5."""
        return tuple(Adam(player.parameters(), alpha, betas) for player in (self.critic, self.generator))

    iteration = gan.GAN.iteration  # the game is played as there
