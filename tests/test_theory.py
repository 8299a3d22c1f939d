"""What theory says of adversarial games: closed forms against sums, integrals and each other."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import tinygen as tg
from tinygen import nn, ops, optim
from tinygen.backend import Generator, to_host, xp
from tinygen.distributions import Laplace, Mixture, Normal, kl_divergence
from tinygen.gradients import check_gradients
from tinygen.models.adversarial import theory

numbers = st.floats(-3, 3, allow_subnormal=False)  # those have few digits
scales = st.floats(0.2, 3)
LINE = np.linspace(-40, 40, 8001)


def normal(mean, std):
    return Normal(xp.asarray(float(mean)), xp.asarray(2 * math.log(std)))


def line():
    return xp.asarray(LINE)


# Two densities on a line ---------------------------------------------------------------------------------


@given(numbers, scales)
def test_densities_integrate_to_one(mean, std):
    x = line()
    assert theory.integral(np.exp(normal(mean, std).log_prob(x)), x) == pytest.approx(1, abs=1e-12)


@given(numbers, scales, numbers, scales)
def test_divergences_by_quadrature_are_those_in_closed_form(mean, std, other, other_std):
    p, q = normal(mean, std), normal(other, other_std)
    assert theory.kl_by_quadrature(p, q, line()) == pytest.approx(kl_divergence(p, q), rel=1e-8, abs=1e-9)


def test_the_game_of_two_normals_has_the_known_value(device):
    p, q, x = normal(1, 1), normal(-1, 1), line()
    jsd = theory.jensen_shannon(p, q, x)
    value = theory.discriminator_value(theory.optimal_logit(p, q, x), p, q, x)
    assert float(to_host(jsd)) == pytest.approx(0.33683, abs=5e-6)
    assert float(to_host(value)) == pytest.approx(-0.71263, abs=5e-6)


def test_jensen_shannon_is_what_scipy_integrates():
    p, q = stats.norm(1, 1), stats.norm(-1, 1)

    def integrand(x):
        m = 0.5 * (p.pdf(x) + q.pdf(x))
        return 0.5 * (p.pdf(x) * np.log(p.pdf(x) / m) + q.pdf(x) * np.log(q.pdf(x) / m))

    expected, _ = integrate.quad(integrand, -12, 12)
    assert theory.jensen_shannon(normal(1, 1), normal(-1, 1), line()) == pytest.approx(expected, abs=1e-10)


@given(numbers, scales, numbers, scales)
def test_optimal_value_is_minus_log_4_and_twice_the_divergence(mean, std, other, other_std):
    p, q, x = normal(mean, std), normal(other, other_std), line()
    value = theory.discriminator_value(theory.optimal_logit(p, q, x), p, q, x)
    jsd = theory.jensen_shannon(p, q, x)
    assert value == pytest.approx(-math.log(4) + 2 * jsd, abs=1e-12)
    assert -1e-12 <= jsd <= math.log(2) + 1e-12


@given(numbers, scales)
def test_equal_densities_leave_the_discriminator_one_half(mean, std):
    p, x = normal(mean, std), line()
    logit = theory.optimal_logit(p, p, x)
    assert (ops.sigmoid(logit) == 0.5).all()
    assert theory.discriminator_value(logit, p, p, x) == pytest.approx(-math.log(4), abs=1e-12)
    assert theory.jensen_shannon(p, p, x) == pytest.approx(0, abs=1e-12)


def test_densities_without_overlap_are_at_the_largest_divergence():
    p, q, x = normal(-20, 1), normal(20, 1), line()
    assert theory.jensen_shannon(p, q, x) == pytest.approx(math.log(2), abs=1e-12)
    assert theory.discriminator_value(theory.optimal_logit(p, q, x), p, q, x) == pytest.approx(0, abs=1e-12)


@given(numbers, scales, numbers, scales, numbers, numbers)
def test_optimal_logit_of_normals_is_the_closed_form(mean, std, other, other_std, low, high):
    x = np.array([low, high])
    found = theory.optimal_logit(normal(mean, std), normal(other, other_std), x)
    expected = stats.norm(mean, std).logpdf(x) - stats.norm(other, other_std).logpdf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    equal = theory.optimal_logit(normal(mean, 1), normal(other, 1), x)
    np.testing.assert_allclose(equal, (mean - other) * x - 0.5 * (mean**2 - other**2), atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_no_discriminator_does_better_than_the_optimal_one(seed, size):
    p, q, x = normal(0.5, 1), normal(-1, 2), line()
    best = theory.optimal_logit(p, q, x)
    other = best + size * np.random.default_rng(seed).normal(size=len(x))
    assert theory.discriminator_value(other, p, q, x) <= theory.discriminator_value(best, p, q, x)


def test_the_value_is_flat_at_the_optimal_discriminator():
    p, q, x = normal(1, 1), normal(-1, 2), line()
    logit = tg.Tensor(theory.optimal_logit(p, q, x), requires_grad=True)
    (slope,) = tg.grad(theory.discriminator_value(logit, p, q, x), logit)
    assert abs(slope.data).max() < 1e-15


@settings(max_examples=20)
@given(numbers, st.floats(-1, 1), numbers, st.floats(-1, 1))
def test_gradients_of_divergences(mean, log_variance, other, other_log_variance):
    x = np.linspace(-15, 15, 301)

    def divergences(*parameters):
        p, q = Normal(*parameters[:2]), Normal(*parameters[2:])
        value = theory.discriminator_value(0.1 * x, p, q, x)
        return ops.stack([theory.kl_by_quadrature(p, q, x), theory.jensen_shannon(p, q, x), value])

    check_gradients(divergences, *map(np.array, (mean, log_variance, other, other_log_variance)), order=2)


def test_logistic_regression_finds_the_optimal_slope():
    """N(1, 1) against N(−1, 1): D*(x) = σ(2x)."""
    rng = Generator(0)
    x = tg.Tensor(rng.normal((50_000, 1)) + 1), tg.Tensor(rng.normal((50_000, 1)) - 1)
    tg.seed(0)
    line = nn.Linear(1, 1)
    optimizer = optim.Adam(line.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (ops.softplus(-line(x[0])).mean() + ops.softplus(line(x[1])).mean()).backward()
        optimizer.step()
    assert line.weight.item() == pytest.approx(2, rel=0.02)
    assert line.bias.item() == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize(
    ("f", "x"),
    [(np.ones(3), np.ones(4)), (np.ones((2, 2)), np.ones((2, 2))), (np.ones(1), np.ones(1)), (1.0, 2.0)],
)
def test_an_integral_needs_values_at_points_of_a_line(f, x):
    with pytest.raises(ValueError, match=r"integral: f, x: expected arrays of one shape \(N,\) with N > 1"):
        theory.integral(f, x)


# The Wasserstein distance --------------------------------------------------------------------------------


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_wasserstein_distance_of_samples_is_scipys(pairs):
    x, y = np.array(pairs).T
    assert theory.wasserstein_1(x, y) == pytest.approx(stats.wasserstein_distance(x, y), abs=1e-12)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_no_other_order_is_cheaper(pairs):
    x, y = np.array(pairs).T
    costs = [abs(x - np.array(order)).mean() for order in itertools.permutations(y)]
    assert theory.wasserstein_1(x, y) == pytest.approx(min(costs), abs=1e-12)


def test_wasserstein_distance_on_every_device(device):
    x, y = xp.asarray([3.0, 1.0, 2.0]), xp.asarray([1.0, 3.0, 8.0])
    assert to_host(theory.wasserstein_1(x, y)) == pytest.approx(2)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 1), (2, 1))])
def test_a_wasserstein_distance_needs_as_many_numbers_twice(shapes):
    with pytest.raises(ValueError, match=r"wasserstein_1: x, y: expected one shape \(N,\), N > 0, got"):
        theory.wasserstein_1(*map(np.zeros, shapes))


@given(numbers, scales, numbers, scales)
def test_wasserstein_distance_of_normals_is_the_integral_over_quantiles(mean, std, other, other_std):
    found = theory.wasserstein_1_of_normals(mean, std, other, other_std)
    x = np.linspace(-25, 25, 20_001)
    gap = abs(stats.norm(mean, std).cdf(x) - stats.norm(other, other_std).cdf(x))
    assert found == pytest.approx(integrate.simpson(gap, x=x), abs=1e-5)


def test_a_standard_deviation_below_zero_is_refused():
    with pytest.raises(
        ValueError, match="wasserstein_1_of_normals: expected std of at least 0, got 1 and -1"
    ):
        theory.wasserstein_1_of_normals(0, 1, 0, -1)


def test_wasserstein_distance_of_normals_at_known_values():
    assert theory.wasserstein_1_of_normals(0, 1, 0.5, 2) == pytest.approx(0.895593, abs=1e-6)
    assert theory.wasserstein_1_of_normals(3, 2, -1, 2) == 4
    assert theory.wasserstein_1_of_normals(0, 1, 0, 3) == pytest.approx(2 * math.sqrt(2 / math.pi))


@given(numbers, scales, numbers, scales)
def test_wasserstein_distance_by_quadrature_is_that_in_closed_form(mean, std, other, other_std):
    found = theory.wasserstein_1_by_quadrature(normal(mean, std), normal(other, other_std), line())
    assert found == pytest.approx(theory.wasserstein_1_of_normals(mean, std, other, other_std), abs=2e-4)


@given(numbers, scales, numbers, scales)
def test_the_optimal_critic_has_slope_one_and_finds_the_distance(mean, std, other, other_std):
    p, q, x = normal(mean, std), normal(other, other_std), line()
    f = theory.optimal_critic(p, q, x)
    assert abs(np.diff(f)).max() <= 0.01 + 1e-12  # the spacing of x
    found = theory.integral((np.exp(p.log_prob(x)) - np.exp(q.log_prob(x))) * f, x)
    assert found == pytest.approx(theory.wasserstein_1_of_normals(mean, std, other, other_std), abs=5e-3)


def test_the_optimal_critic_of_shifted_densities_is_a_straight_line(device):
    x = xp.linspace(-3, 3, 301)
    f = to_host(theory.optimal_critic(normal(1, 1), normal(-1, 1), x))
    np.testing.assert_allclose(f - f[0], to_host(x) + 3, atol=1e-12)
    distance = theory.wasserstein_1_by_quadrature(normal(1, 1), normal(-1, 1), xp.linspace(-9, 9, 901))
    assert to_host(distance) == pytest.approx(2, abs=1e-4)


def test_parallel_lines_differ_by_their_distance_where_other_divergences_say_nothing():
    """WGAN example 1, with lines of almost no width: W₁ = |θ|, JSD = log 2 for any θ but 0, KL = ∞."""
    rng = np.random.default_rng(0)
    z = 0.01 * rng.normal(size=1000)
    for theta in (1.0, 3.0):
        p, q = normal(0, 0.01), normal(theta, 0.01)
        assert theory.wasserstein_1(z, theta + z) == pytest.approx(theta)
        x = np.linspace(-1, 4, 5001)
        assert theory.jensen_shannon(p, q, x) == pytest.approx(math.log(2), abs=1e-9)
        assert theory.kl_by_quadrature(p, q, x) > 1000 * theta


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.floats(0.01, 2),
)
def test_a_clipped_critic_is_never_steeper_than_its_bound(seed, hidden, clip):
    rng = np.random.default_rng(seed)
    widths = (2, *hidden, 1)
    weights = [rng.uniform(-clip, clip, size) for size in zip(widths, widths[1:])]
    x = tg.Tensor(rng.normal(size=(50, 2)), requires_grad=True)
    h = x
    for weight in weights[:-1]:
        h = ops.relu(h @ weight)
    (slope,) = tg.grad((h @ weights[-1]).sum(), x)
    bound = theory.clipped_slope_bound(widths, clip)
    assert np.linalg.norm(slope.data, axis=1).max() <= bound * (1 + 1e-12)


def test_the_bound_on_slopes_is_reached_where_all_weights_are_at_the_limit():
    x = tg.Tensor(np.array([[1.0]]), requires_grad=True)
    h = ops.relu(ops.relu(x @ np.full((1, 4), 0.1)) @ np.full((4, 9), 0.1)) @ np.full((9, 1), 0.1)
    (slope,) = tg.grad(h.sum(), x)
    assert slope.item() == pytest.approx(theory.clipped_slope_bound((1, 4, 9, 1), 0.1))


# Two players of one number each --------------------------------------------------------------------------


def product(a, b):
    return a * b


rates = st.floats(0.01, 1.9)


@given(numbers, numbers, rates)
def test_simultaneous_steps_leave_the_equilibrium_at_the_rate_of_theory(a, b, lr):
    points = theory.trajectory(theory.simultaneous_step, product, np.array(a), np.array(b), lr, 10)
    radius = np.hypot(*points.T)
    expected = radius[0] * theory.bilinear_growth(lr) ** np.arange(11)
    np.testing.assert_allclose(radius, expected, rtol=1e-12)


@given(rates)
def test_simultaneous_steps_turn_by_the_same_angle(lr):
    points = theory.trajectory(theory.simultaneous_step, product, np.array(1.0), np.array(0.0), lr, 5)
    angles = np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
    np.testing.assert_allclose(np.diff(angles), math.atan(lr), rtol=1e-12)


@given(numbers, numbers, rates)
def test_alternating_steps_conserve_a_quadratic_form(a, b, lr):
    points = theory.trajectory(theory.alternating_step, product, np.array(a), np.array(b), lr, 50)
    held = theory.bilinear_invariant(*points.T, lr)
    np.testing.assert_allclose(held, held[0], rtol=1e-9, atol=1e-12)
    # The form is at least its smaller eigenvalue, 1 − η/2, times the squared radius, which is so bounded.
    assert (points**2).sum(axis=1).max() <= held[0] / (1 - lr / 2) * (1 + 1e-9) + 1e-12


@given(numbers, numbers, numbers, numbers)
def test_steps_of_any_game_are_gradient_steps(a, b, c, lr):
    """v = a² b + c b² has ∂v/∂a = 2ab and ∂v/∂b = a² + 2cb."""

    def value(a, b):
        return a * a * b + c * b * b

    a, b = np.array(a), np.array(b)
    found = theory.simultaneous_step(value, a, b, lr)
    np.testing.assert_allclose(found, (a - lr * 2 * a * b, b + lr * (a * a + 2 * c * b)), atol=1e-12)
    new_b = b + lr * (a * a + 2 * c * b)
    found = theory.alternating_step(value, a, b, lr)
    np.testing.assert_allclose(found, (a - lr * 2 * a * new_b, new_b), atol=1e-10)


def test_games_are_played_on_every_device(device):
    a, b = xp.asarray(1.0), xp.asarray(0.5)
    points = to_host(theory.trajectory(theory.alternating_step, product, a, b, 0.5, 3))
    expected = [(1.0, 0.5)]
    for _ in range(3):
        a, b = expected[-1]
        expected.append((a - 0.5 * (b + 0.5 * a), b + 0.5 * a))
    np.testing.assert_allclose(points, expected, rtol=1e-6)


# Mixtures, and on a device -------------------------------------------------------------------------------


def test_divergences_of_mixtures_on_every_device(device):
    x = line()
    p = Mixture(xp.zeros(2, "float64"), Normal(xp.asarray([-2.0, 2.0]), xp.zeros(2, "float64")))
    q = Laplace(xp.asarray(0.0), xp.asarray(0.0))
    found = [to_host(f(p, q, x)) for f in (theory.kl_by_quadrature, theory.jensen_shannon)]
    p_x = 0.5 * stats.norm(-2, 1).pdf(LINE) + 0.5 * stats.norm(2, 1).pdf(LINE)
    q_x = stats.laplace.pdf(LINE)
    m_x = 0.5 * (p_x + q_x)
    forward = np.where(p_x > 0, p_x * np.log(np.maximum(p_x, 1e-300) / q_x), 0).sum() * 0.01
    to_m = [np.where(d > 0, d * np.log(np.maximum(d, 1e-300) / m_x), 0).sum() * 0.01 for d in (p_x, q_x)]
    np.testing.assert_allclose(found, (forward, 0.5 * sum(to_m)), rtol=1e-9)
