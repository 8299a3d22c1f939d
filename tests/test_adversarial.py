"""The objectives of adversarial models: closed forms, PyTorch, derivatives to second order."""

import math
from functools import partial

import numpy as np
import pytest
from adversarial import GAMES, Watching, games, mlp, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

import tinygen as tg
from tinygen import nn, ops
from tinygen.backend import Generator, xp
from tinygen.gradients import check_gradients
from tinygen.gradients.strategies import arrays, gradient_test, modules
from tinygen.models.adversarial import WGANGP, gan, hinge, lsgan, theory
from tinygen.models.adversarial.wgan_gp import gradient_penalty, penalty_at


def quantiles(distribution, n=20_000):
    """n numbers that stand for a distribution: means over them are expectations to about 1/n."""
    return distribution.ppf((np.arange(n) + 0.5) / n)


def slopes(loss, *numbers):
    """The value of a loss, and its gradient for each array of numbers."""
    leaves = [tg.Tensor(x, requires_grad=True) for x in numbers]
    value = loss(*leaves)
    return value.item(), [g.numpy() for g in tg.grad(value, leaves)]


# Against PyTorch ----------------------------------------------------------------------------------


def torch_losses(torch):
    """name: (ours, PyTorch's) of two arrays of numbers."""
    f = torch.nn.functional
    ones, zeros = torch.ones_like, torch.zeros_like
    bce, mse, relu = f.binary_cross_entropy_with_logits, f.mse_loss, torch.relu
    return {
        "discriminator": (gan.discriminator_loss, lambda r, x: bce(r, ones(r)) + bce(x, zeros(x))),
        "smoothed": (
            partial(gan.discriminator_loss, smoothing=0.1),
            lambda r, x: bce(r, 0.9 * ones(r)) + bce(x, zeros(x)),
        ),
        "minimax": (
            lambda r, x: gan.minimax_loss(x) + 0 * r.sum(),
            lambda r, x: -bce(x, zeros(x)) + 0 * r.sum(),
        ),
        "non-saturating": (
            lambda r, x: gan.non_saturating_loss(x) + 0 * r.sum(),
            lambda r, x: bce(x, ones(x)) + 0 * r.sum(),
        ),
        "least squares": (
            partial(lsgan.discriminator_loss, a=-1, b=2),
            lambda r, x: 0.5 * mse(r, 2 * ones(r)) + 0.5 * mse(x, -ones(x)),
        ),
        "hinge": (hinge.discriminator_loss, lambda r, x: relu(1 - r).mean() + relu(1 + x).mean()),
    }


@pytest.mark.parametrize(
    "name", ["discriminator", "smoothed", "minimax", "non-saturating", "least squares", "hinge"]
)
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    scale=st.sampled_from([1, 30, 1e4]),
    seed=st.integers(0, 99),
)
def test_losses_and_their_gradients_are_pytorchs(name, sizes, scale, seed):
    torch = pytest.importorskip("torch")
    ours, theirs = torch_losses(torch)[name]
    numbers = [scale * normal(n, seed=seed + k) for k, n in enumerate(sizes)]
    value, gradients = slopes(ours, *numbers)
    leaves = [torch.tensor(x, requires_grad=True) for x in numbers]
    expected = theirs(*leaves)
    expected.backward()
    assert_allclose(value, expected.item(), rtol=1e-10, atol=1e-12)
    for gradient, leaf in zip(gradients, leaves):
        assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


# The discriminator of numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_discriminator_that_is_sure_and_wrong_has_its_gradient(dtype):
    sure = np.array([40, -40], dtype)
    value, (real, fake) = slopes(gan.discriminator_loss, sure, sure)
    assert_allclose(value, 40, rtol=1e-6)
    assert_allclose(real, [-math.exp(-40) / 2, -0.5], rtol=1e-6)
    assert_allclose(fake, [0.5, math.exp(-40) / 2], rtol=1e-6)
    _, (g,) = slopes(gan.non_saturating_loss, sure)
    assert_allclose(g, [-math.exp(-40) / 2, -0.5], rtol=1e-6)
    _, (g,) = slopes(gan.minimax_loss, sure)  # which vanishes where the discriminator is right
    assert_allclose(g, [-0.5, -math.exp(-40) / 2], rtol=1e-6)
    assert real.dtype == fake.dtype == g.dtype == dtype


@pytest.mark.parametrize("loss", [gan.discriminator_loss, partial(gan.discriminator_loss, smoothing=0.2)])
def test_losses_at_extreme_logits_are_finite(loss):
    far = np.array([1e4, -1e4], "float32")
    value, gradients = slopes(loss, far, far)
    assert value == pytest.approx(1e4) and np.isfinite(gradients).all()
    for of_generator in (gan.minimax_loss, gan.non_saturating_loss):
        value, gradients = slopes(of_generator, far)
        assert abs(value) == pytest.approx(5e3) and np.isfinite(gradients).all()


def test_smoothing_wants_the_probability_one_minus_alpha_for_data():
    best = np.full(1, math.log(0.9 / 0.1))
    _, (real, fake) = slopes(partial(gan.discriminator_loss, smoothing=0.1), best, best)
    assert_allclose(real, 0, atol=1e-15)
    assert_allclose(fake, 0.9, rtol=1e-12)  # nothing is smoothed for what is generated


def test_the_generators_part_of_the_value_is_in_the_discriminators_loss():
    real, fake = normal(5, seed=1), normal(4, seed=2)
    log_d = -np.logaddexp(0, -real).mean()
    assert_allclose(log_d + gan.minimax_loss(fake), -gan.discriminator_loss(real, fake), rtol=1e-12)


def test_the_best_discriminators_value_is_that_of_the_theory():
    p, q = (tg.distributions.Normal(xp.asarray(mean), xp.asarray(0.0)) for mean in (1.0, -1.0))
    real, fake = quantiles(stats.norm(1)), quantiles(stats.norm(-1))
    x = np.linspace(-12, 12, 2001)
    value = theory.discriminator_value(theory.optimal_logit(p, q, x), p, q, x)
    loss = gan.discriminator_loss(theory.optimal_logit(p, q, real), theory.optimal_logit(p, q, fake))
    assert_allclose(-loss, value, atol=1e-4)
    assert_allclose(-loss, -math.log(4) + 2 * theory.jensen_shannon(p, q, x), atol=1e-4)
    worse = gan.discriminator_loss(1.1 * 2 * real, 1.1 * 2 * fake)  # log p/q is 2 x
    assert worse > loss


# Least squares ------------------------------------------------------------------------------------


@given(a=st.floats(-2, 2), b=st.floats(-2, 2), weights=st.tuples(*4 * [st.integers(1, 9)]))
def test_the_best_numbers_of_least_squares_are_those_of_the_paper(a, b, weights):
    # Two points, of which p and q have so many examples each.
    p, q = np.array(weights[:2]), np.array(weights[2:])
    p_share, q_share = p / p.sum(), q / q.sum()

    def loss(d):
        of_real = ops.concatenate([d[k : k + 1] for k in (0, 1) for _ in range(p[k])])
        of_fake = ops.concatenate([d[k : k + 1] for k in (0, 1) for _ in range(q[k])])
        return lsgan.discriminator_loss(of_real, of_fake, a, b)

    best = (b * p_share + a * q_share) / (p_share + q_share)  # MLX eq. 5
    _, (gradient,) = slopes(loss, best)
    assert_allclose(gradient, 0, atol=1e-12)


def test_at_the_best_discriminator_least_squares_are_the_pearson_divergence():
    real, fake = quantiles(stats.norm(1)), quantiles(stats.norm(-1))
    best = [np.tanh(x) for x in (real, fake)]  # (p − q) / (p + q), where log p/q is 2 x
    twice = 2 * sum(lsgan.generator_loss(d, 0) for d in best)  # over p and q, as in MLX eq. 6
    x = np.linspace(-30, 30, 60_001)
    p, q = stats.norm(1).pdf(x), stats.norm(-1).pdf(x)
    pearson = ((2 * q - p - q) ** 2 / (p + q)).sum() * (x[1] - x[0])
    assert_allclose(twice, pearson, atol=1e-4)
    assert_allclose(twice, 1.10080, atol=1e-4)


# Hinge --------------------------------------------------------------------------------------------


def test_the_hinge_has_a_gradient_inside_the_margin_only():
    real, fake = np.array([-3.0, 0.999, 1.0, 1.001, 50]), np.array([3.0, -0.999, -1.0, -1.001, -50])
    value, (of_real, of_fake) = slopes(hinge.discriminator_loss, real, fake)
    assert_allclose(value, 2 * (4 + 0.001) / 5, rtol=1e-12)
    assert_allclose(of_real, [-0.2, -0.2, 0, 0, 0])
    assert_allclose(of_fake, [0.2, 0.2, 0, 0, 0])
    _, (g,) = slopes(hinge.generator_loss, fake)
    assert_allclose(g, -0.2)  # everywhere


# Derivatives --------------------------------------------------------------------------------------


@games
@settings(max_examples=settings.default.max_examples // 15)
@given(
    sizes=st.tuples(*3 * [st.integers(1, 3)]),
    labels=st.sampled_from([0, 2]),
    n=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_both_losses_pass_the_check_to_second_order(kind, sizes, labels, n, seed, device):
    tg.seed(seed)
    size, hidden, latents = sizes
    generator, critic = mlp(latents + labels, hidden, size), mlp(size + labels, hidden + 1, 1)
    game = GAMES[kind](generator, critic, latents, labels).astype("float64")
    for p in game.parameters():
        p.data = p.data + xp.asarray(0.3 * normal(*p.shape, seed=seed))
    x, z = xp.asarray(normal(n, size, seed=seed)), xp.asarray(normal(n, latents, seed=seed + 1))
    y = xp.asarray(np.arange(n) % 2) if labels else None
    fake = ops.raw(game.generate(z, y))
    check_gradients(lambda: game.critic_loss(x, fake, y), params=game.critic, order=2)
    check_gradients(lambda: game.generator_loss(game.generate(z, y), y), params=game.generator, order=2)


numbers = arrays((3,), "nonzero")
test_discriminator_loss = gradient_test(
    gan.discriminator_loss, numbers, numbers, order=2, smoothing=st.sampled_from([0.0, 0.3])
)
test_non_saturating_loss = gradient_test(gan.non_saturating_loss, numbers, order=2)
test_minimax_loss = gradient_test(gan.minimax_loss, numbers, order=2)
test_least_squares_loss = gradient_test(
    lsgan.discriminator_loss, numbers, numbers, order=2, a=st.floats(-2, 2), b=st.floats(-2, 2)
)
test_penalty = gradient_test(
    lambda x, critic: penalty_at(critic, x), arrays((2, 3)), order=2, critic=modules(3, 1)
)


@settings(max_examples=settings.default.max_examples // 10)
@given(size=st.integers(1, 3), channels=st.integers(1, 2), n=st.integers(1, 2), seed=st.integers(0, 1000))
def test_the_penalty_of_a_convolutional_critic_passes_the_check(size, channels, n, seed, device):
    tg.seed(seed)
    layers = nn.Conv2d(channels, 2, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(2 * size * 2, 1)
    critic = nn.Sequential(*layers).astype("float64")
    check_gradients(
        lambda x: penalty_at(critic, x),
        xp.asarray(normal(n, size, 2, channels, seed=seed)),
        params=critic,
        order=2,
    )


# The penalty --------------------------------------------------------------------------------------


@given(
    size=st.integers(1, 4),
    n=st.integers(1, 3),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
    seed=st.integers(0, 99),
)
def test_the_penalty_of_a_linear_critic_is_that_of_its_weight(size, n, scale, seed, device):
    critic = nn.Linear(size, 1).astype("float64")
    w = scale * normal(size, 1, seed=seed)
    critic.weight.data = xp.asarray(w)
    x, fake, epsilon = (xp.asarray(a) for a in (normal(n, size), normal(n, size), np.full(n, 0.3)))
    value = gradient_penalty(critic, x, fake, epsilon)
    (gradient,) = tg.grad(value, critic.weight)
    length = np.linalg.norm(w)
    assert_allclose(value.numpy(), (length - 1) ** 2, rtol=1e-10)
    assert_allclose(gradient.numpy(), 2 * (length - 1) * w / length, rtol=1e-9, atol=1e-12)


def test_a_critic_of_slope_1_is_not_penalized_and_a_flat_one_by_1():
    critic = nn.Linear(2, 1).astype("float64")
    x, fake, epsilon = normal(4, 2), normal(4, 2, seed=1), np.full(4, 0.5)
    for w, expected in [([0.6, 0.8], 0.0), ([0.0, 0.0], 1.0), ([3.0, 0.0], 4.0)]:
        critic.weight.data = np.array(w)[:, None]
        value = gradient_penalty(critic, x, fake, epsilon)
        assert_allclose(value.numpy(), expected, atol=1e-12)
        assert np.isfinite(tg.grad(value, critic.weight)[0].data).all()


def test_the_points_of_the_penalty_are_spread_evenly_between_both_sides():
    critic = Watching(2)
    game = WGANGP(mlp(1, 2), critic, 1)
    x, fake = np.ones((5000, 2), "float32"), np.zeros((5000, 2), "float32")
    with Generator(0):
        game.critic_loss(x, fake)
    (x_hat,) = (seen for seen in critic.seen if len(seen) == 5000)  # real and generated ones come together
    assert (x_hat[:, 0] == x_hat[:, 1]).all()  # one ε for an example
    assert stats.kstest(x_hat[:, 0], "uniform").pvalue > 1e-3
    assert abs(x_hat.mean() - 0.5) < 4 / math.sqrt(12 * 5000)


def test_epsilon_belongs_to_the_real_examples():
    critic = Watching(1)
    gradient_penalty(critic, np.float32([[2], [4]]), np.float32([[0], [0]]), np.float32([1, 0.25]))
    assert_allclose(critic.seen[0], [[2], [1]])


def test_the_penalty_refuses_examples_of_different_shapes():
    with pytest.raises(ValueError, match=r"x, fake: expected one shape, got \(2, 3\) and \(2, 1\)"):
        gradient_penalty(nn.Linear(3, 1), np.zeros((2, 3)), np.zeros((2, 1)), np.zeros(2))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1)])
def test_the_penalty_refuses_another_number_of_epsilons_than_of_examples(shape):
    x = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match=r"gradient_penalty: epsilon: expected shape \(2,\), got"):
        gradient_penalty(nn.Linear(3, 1), x, x, np.zeros(shape, "float32"))


def test_the_penalty_of_wgan_gp_is_pytorchs():
    torch = pytest.importorskip("torch")
    game = WGANGP(mlp(2, 3), mlp(3, 5, 5, 1), 2, penalty=7.0).astype("float64")
    x, fake = normal(6, 3), normal(6, 3, seed=1)
    with Generator(3):
        loss = game.critic_loss(x, fake)
    loss.backward(inputs=game.critic.parameters())
    epsilon = torch.tensor(Generator(3).uniform((6,), "float64"))[:, None]
    parameters = [torch.tensor(p.numpy(), requires_grad=True) for p in game.critic.parameters()]

    def d(h):
        w1, b1, w2, b2, w3, b3 = parameters
        return torch.tanh(torch.tanh(h @ w1 + b1) @ w2 + b2) @ w3 + b3

    real, fake = torch.tensor(x), torch.tensor(fake)
    x_hat = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(d(x_hat).sum(), x_hat, create_graph=True)
    expected = d(fake).mean() - d(real).mean() + 7 * ((slope.norm(dim=1) - 1) ** 2).mean()
    expected.backward()
    assert_allclose(loss.item(), expected.item(), rtol=1e-10)
    for p, q in zip(game.critic.parameters(), parameters):
        assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-12)
