"""What the tests of adversarial models share: the games by name, and small players for them."""

from functools import partial

import numpy as np
import pytest

from tinygen import nn, ops
from tinygen.backend import to_host
from tinygen.models.adversarial import GAN, LSGAN, SNGAN, WGAN, WGANGP, HingeGAN

GAMES = {
    "non-saturating": GAN,
    "minimax": partial(GAN, objective="minimax"),
    "smoothed": partial(GAN, smoothing=0.1),
    "lsgan": LSGAN,
    "lsgan of χ²": partial(LSGAN, a=-1, b=1, c=0),
    "hinge": HingeGAN,
    "wgan": WGAN,
    "wgan-gp": WGANGP,
    "sn-gan, hinge": SNGAN,
    "sn-gan, non-saturating": partial(SNGAN, objective="non-saturating"),
}
games = pytest.mark.parametrize("kind", GAMES)


def mlp(*sizes, activation=nn.Tanh):
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers[:-1])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


class Watching(nn.Module):
    """A linear critic that keeps what it is asked about."""

    def __init__(self, size):
        self.layer, self.seen = nn.Linear(size, 1), []

    def forward(self, x):
        self.seen.append(to_host(ops.raw(x)))
        return self.layer(x)
