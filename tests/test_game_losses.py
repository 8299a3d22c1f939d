"""Games as a whole: each loss is its paper's formula of what the critic says; the penalty of many critics."""

import importlib
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from adversarial import GAMES, Watching, games, mlp, normal
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import tinygen as tg
from tinygen import nn
from tinygen.backend import Generator
from tinygen.gradients import check_gradients
from tinygen.gradients.strategies import arrays, gradient_test
from tinygen.models.adversarial import WGANGP, hinge, lsgan
from tinygen.models.adversarial.wgan_gp import gradient_penalty

sys.path.append(str(Path(__file__).parent.parent / "demos"))
critics = importlib.import_module("critics")

# The formulas -------------------------------------------------------------------------------------


def D(logits):
    return 1 / (1 + np.exp(-logits))


def cross_entropy(real, fake, target=1.0):
    of_real = target * np.log(D(real)) + (1 - target) * np.log(1 - D(real))
    return -of_real.mean() - np.log(1 - D(fake)).mean()


def non_saturating(fake):
    return -np.log(D(fake)).mean()


def minimax(fake):
    return np.log(1 - D(fake)).mean()


def margins(real, fake):
    return -np.minimum(0, -1 + real).mean() - np.minimum(0, -1 - fake).mean()


def squares(numbers, target):
    return 0.5 * ((numbers - target) ** 2).mean()


def estimate(real, fake):
    return -(real.mean() - fake.mean())


def minus_mean(fake):
    return -fake.mean()


# kind: the losses of the critic and of the generator
LOSSES = {
    "non-saturating": (cross_entropy, non_saturating),
    "minimax": (cross_entropy, minimax),
    "smoothed": (partial(cross_entropy, target=0.9), non_saturating),
    "lsgan": (lambda real, fake: squares(real, 1) + squares(fake, 0), partial(squares, target=1)),
    "lsgan of χ²": (lambda real, fake: squares(real, 1) + squares(fake, -1), partial(squares, target=0)),
    "hinge": (margins, minus_mean),
    "wgan": (estimate, minus_mean),
    "wgan-gp": (estimate, minus_mean),  # and the penalty
    "sn-gan, hinge": (margins, minus_mean),
    "sn-gan, non-saturating": (cross_entropy, non_saturating),
}


def penalty_of_tanh_units(critic, x, fake, y, epsilon):
    """E[(‖∇ D(x̂, y)‖ − 1)²] of the critic D(x, y) = v · tanh(Wᵀ(x, y) + b), the gradient by hand."""
    W, b, v, _ = (p.numpy() for p in critic.parameters())
    x_hat = epsilon[:, None] * x + (1 - epsilon[:, None]) * fake
    h = np.tanh(np.concatenate([x_hat, y], axis=1) @ W + b)
    slope = (1 - h**2) * v[:, 0] @ W[: x.shape[1]].T
    return ((np.linalg.norm(slope, axis=1) - 1) ** 2).mean()


@games
@pytest.mark.parametrize("labels", [0, 3])
@settings(max_examples=settings.default.max_examples // 10)
@given(n=st.integers(1, 5), size=st.integers(1, 3), scale=st.sampled_from([0.5, 3]), seed=st.integers(0, 999))
def test_both_losses_are_the_formulas_of_the_paper(kind, labels, n, size, scale, seed):
    tg.seed(seed)
    game = GAMES[kind](mlp(2 + labels, size), mlp(size + labels, 4, 1), 2, labels).astype("float64")
    for p in game.critic.parameters():
        p.data = scale * p.data  # so that some numbers are beyond the margin
    x, fake = normal(n, size, seed=seed), 2 * normal(n, size, seed=seed + 1)
    y = np.random.default_rng(seed).integers(0, labels, n) if labels else None
    with nn.frozen_state(), Generator(seed):
        losses = game.critic_loss(x, fake, y).item(), game.generator_loss(fake, y).item()
        real_numbers, fake_numbers = (game.judge(examples, y).numpy() for examples in (x, fake))

    of_critic, of_generator = LOSSES[kind]
    expected = of_critic(real_numbers, fake_numbers)
    if kind == "wgan-gp":
        epsilon = Generator(seed).uniform((n,), dtype="float64")
        one_hot = np.eye(labels)[y] if labels else np.empty((n, 0))
        expected += 10 * penalty_of_tanh_units(game.critic, x, fake, one_hot, epsilon)
    assert_allclose(losses, (expected, of_generator(fake_numbers)), rtol=1e-9, atol=1e-12)


def test_lambda_weighs_the_penalty():
    losses = []
    for penalty in (1.0, 3.0, 4.0):
        tg.seed(0)
        game = WGANGP(mlp(2, 3), mlp(3, 4, 1), 2, penalty=penalty).astype("float64")
        with Generator(1):
            losses.append(game.critic_loss(normal(5, 3), normal(5, 3, seed=1)).item())
    assert losses[0] < losses[1]
    assert_allclose((losses[1] - losses[0]) / 2, losses[2] - losses[1], rtol=1e-9)


# Turns --------------------------------------------------------------------------------------------


@games
def test_every_turn_draws_codes_of_its_own(kind):
    tg.seed(0)
    generator = Watching(2)
    game = GAMES[kind](generator, mlp(1, 3, 1), 2, critic_steps=2)
    optimizers = game.optimizers()
    for _ in range(2):
        game.iteration(normal(6, 1).astype("float32"), optimizers)
    codes = np.concatenate(generator.seen)
    assert codes.shape == (2 * 3 * 3, 2)  # 2 iterations of 3 turns, of 3 examples
    assert len(np.unique(codes)) == codes.size


@pytest.mark.parametrize("name", ["wgan", "wgan_gp"])
def test_the_demos_have_the_minibatches_of_the_paper(name):
    demo = importlib.import_module(name)
    game = {"wgan": GAMES["wgan"], "wgan_gp": GAMES["wgan-gp"]}[name](mlp(1, 1), mlp(1, 1), 1)
    for flags in demo.DEFAULTS.values():
        assert flags["batch_size"] == game.critic_steps * 64  # m of Algorithm 1, in both papers


# Derivatives --------------------------------------------------------------------------------------

numbers = arrays(st.integers(1, 5).map(lambda n: (n,)), "nonzero")
# At the margins there are kinks.
test_hinge_of_the_discriminator = gradient_test(
    lambda real, fake: hinge.discriminator_loss(1 + real, -1 + fake), numbers, numbers, order=2
)
test_hinge_of_the_generator = gradient_test(hinge.generator_loss, numbers, order=2)
test_least_squares_of_the_generator = gradient_test(
    lsgan.generator_loss, numbers, order=2, c=st.floats(-2, 2)
)


def smooth(critic):
    """The critic with a smooth activation in place of those that have kinks."""
    kinks = nn.ReLU, nn.LeakyReLU
    for module in critic._modules():
        if isinstance(module, nn.Sequential):
            module.layers = tuple(nn.Softplus() if isinstance(f, kinks) else f for f in module.layers)
    return critic


@pytest.mark.parametrize("network", critics.NETWORKS)
# A check that fails takes seconds to say why: it is not run again and again for a smaller example.
@settings(max_examples=settings.default.max_examples // 50, phases=[Phase.generate])
@given(width=st.integers(3, 4), channels=st.integers(1, 2), n=st.integers(1, 2), seed=st.integers(0, 999))
def test_the_penalty_of_any_critic_passes_the_check_in_its_parameters(network, width, channels, n, seed):
    tg.seed(seed)
    _, critic = critics.NETWORKS[network]((4, 4, channels), width)
    critic = smooth(critic).astype("float64")
    x, fake, epsilon = (
        normal(n, 4, 4, channels, seed=seed),
        normal(n, 4, 4, channels, seed=seed + 1),
        Generator(seed).uniform((n,), dtype="float64"),
    )
    check_gradients(lambda: gradient_penalty(critic, x, fake, epsilon), params=critic)
