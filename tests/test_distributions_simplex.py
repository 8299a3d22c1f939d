"""Distributions of vectors that sum to 1: Dirichlet and Gumbel-softmax."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import tinygen as tg
from tinygen import ops
from tinygen.backend import Generator, to_host, xp
from tinygen.distributions import Beta, Dirichlet, GumbelSoftmax, LogGumbelSoftmax
from tinygen.gradients import check_gradients

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(2, 3))
shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)


def integral_over_the_simplex(p):
    """The integral of p's density over the vectors of three, and of the vectors times it."""
    t = np.arange(-50, 50, 0.25)
    t = np.stack(np.broadcast_arrays(t[:, None], t[None, :], 0.0), axis=-1)
    x = special.softmax(t, axis=-1)
    mass = np.exp(p.log_prob(x)) * x.prod(axis=-1) * 0.25**2  # |∂(x₁, x₂) / ∂(t₁, t₂)| = x₁ x₂ x₃
    return mass.sum(), (mass[..., None] * x).sum(axis=(0, 1))


# Dirichlet ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [(1, 1, 1), (1, 2, 5), (3, 1), (4, 3, 2, 1)])
def test_dirichlet_is_scipys(alpha, device):
    ours, theirs = Dirichlet(alpha), stats.dirichlet(alpha)
    x = np.random.default_rng(1).dirichlet(np.ones(len(alpha)), size=(2, 3))
    expected = theirs.logpdf(x.reshape(6, -1).T).reshape(2, 3)
    np.testing.assert_allclose(to_host(ours.log_prob(xp.asarray(x))), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(to_host(ours.entropy()), theirs.entropy(), rtol=1e-6)
    np.testing.assert_allclose(to_host(ours.mean), theirs.mean(), rtol=1e-6)
    np.testing.assert_allclose(to_host(ours.variance), theirs.var(), rtol=1e-6)


@pytest.mark.parametrize("alpha", [(1, 1, 1), (1, 2, 5), (6, 3, 2)])
def test_dirichlet_integrates_to_one_and_has_its_mean(alpha):
    total, mean = integral_over_the_simplex(Dirichlet(alpha))
    assert total == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(mean, Dirichlet(alpha).mean, rtol=1e-6)


def test_dirichlet_of_two_is_beta():
    x = rng.random(5)
    pair, number = Dirichlet((3, 2)), Beta(3, 2)
    np.testing.assert_allclose(pair.log_prob(np.stack([x, 1 - x], axis=-1)), number.log_prob(x), rtol=1e-12)
    assert pair.entropy() == number.entropy()


def test_dirichlet_draws_have_its_marginals(device):
    alpha = (1, 2, 5)
    p = Dirichlet(alpha)
    x = p.sample(Generator(1), (20_000,))
    assert x.shape == (20_000, 3)
    assert x.dtype == "float32"
    assert p.log_prob(x).shape == (20_000,)
    for k, a in enumerate(alpha):
        assert stats.kstest(to_host(x)[:, k], stats.beta(a, 8 - a).cdf).pvalue > 1e-3


@settings(max_examples=10)
@given(shapes, st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 99))
def test_gradients_of_the_dirichlet(shape, alpha, seed):
    y = np.random.default_rng(seed).normal(size=(*shape, len(alpha)))
    check_gradients(lambda y: Dirichlet(alpha).log_prob(ops.softmax(y)), y, order=2)


def test_dirichlets_and_their_values_are_refused():
    for alpha in ((1, 0), (1, 2.0), (True, 1)):
        with pytest.raises(ValueError, match="Dirichlet: alpha: expected an int of at least 1, got"):
            Dirichlet(alpha)
    with pytest.raises(ValueError, match="Dirichlet: number of alpha: expected an int of at least 2, got 1"):
        Dirichlet((3,))
    p = Dirichlet((1, 2))
    words = r"Dirichlet.log_prob: x: expected vectors of positive numbers that sum to 1, got \[.*\]"
    for wrong in ([0.5, 0.51], [0.0, 1.0], [1.5, -0.5], [np.nan, 1.0]):
        with pytest.raises(ValueError, match=words):
            p.log_prob(np.array([[0.5, 0.5], wrong]))
    for wrong in (0.5, np.zeros(()), np.full((2, 3), 1 / 3)):
        with pytest.raises(ValueError, match=r"Dirichlet.log_prob: x: expected shape \(\.\.\., 2\), got"):
            p.log_prob(wrong)


# Gumbel-softmax -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1, 3.0])
def test_gumbel_softmax_is_pytorchs_with_its_gradients(temperature):
    torch = pytest.importorskip("torch")
    relaxed = torch.distributions.relaxed_categorical
    simplex = special.softmax(rng.normal(size=(2, 3)), axis=-1)
    for ours_of, theirs_of, x in (
        (GumbelSoftmax, relaxed.RelaxedOneHotCategorical, simplex),
        (LogGumbelSoftmax, relaxed.ExpRelaxedCategorical, np.log(simplex)),
    ):
        ours, theirs = tg.Tensor(LOGITS, requires_grad=True), torch.tensor(LOGITS, requires_grad=True)
        log_p = ours_of(ours, temperature).log_prob(x)
        expected = theirs_of(torch.tensor(float(temperature)), logits=theirs).log_prob(torch.tensor(x))
        np.testing.assert_allclose(log_p.data, expected.detach(), rtol=1e-6)  # their log Γ is float32
        log_p.sum().backward()
        expected.sum().backward()
        np.testing.assert_allclose(ours.grad.data, theirs.grad, rtol=1e-10, atol=1e-12)


@settings(max_examples=10)
@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(0.5, 2))
def test_gumbel_softmax_integrates_to_one(logits, temperature):
    total, _ = integral_over_the_simplex(GumbelSoftmax(np.array(logits), temperature))
    assert total == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gumbel_softmax_draws_have_the_distribution(dtype, device):
    # Of two, log x₁/x₂ = (l₁ − l₂ + g₁ − g₂) / τ, and the difference of two Gumbels is logistic.
    logits, temperature, n = np.array([0.3, -0.4], dtype), 0.7, 20_000
    p = GumbelSoftmax(xp.asarray(logits), temperature)
    x = p.sample(Generator(1), (n,))
    assert x.shape == (n, 2)
    assert x.dtype == dtype
    assert p.log_prob(x).shape == (n,)
    x = to_host(x)
    assert stats.kstest(np.log(x[:, 0] / x[:, 1]), stats.logistic(1.0, 1 / temperature).cdf).pvalue > 1e-3


def test_gumbel_softmax_is_largest_where_the_categorical_is_drawn(device):
    logits = LOGITS[0]
    for temperature in (0.1, 1.0):
        x = to_host(LogGumbelSoftmax(xp.asarray(logits), temperature).sample(Generator(2), (20_000,)))
        counts = np.bincount(x.argmax(axis=-1), minlength=3)
        assert stats.chisquare(counts, 20_000 * special.softmax(logits)).pvalue > 1e-3


def test_the_logarithm_of_the_draw_is_the_draw_of_the_logarithm():
    p = GumbelSoftmax(LOGITS, 0.5)
    x, y = p.sample(Generator(3)), p.log.sample(Generator(3))
    np.testing.assert_allclose(np.exp(y), x, rtol=1e-12)
    np.testing.assert_allclose(p.log_prob(x), p.log.log_prob(y) - y.sum(axis=-1), rtol=1e-10)


def test_at_low_temperatures_and_extreme_logits_the_log_density_stays_finite(device):
    logits = tg.Tensor(np.array([[1e3, 0, -1e3], [0, 0.1, 0.2]], "float32"), requires_grad=True)
    for temperature in (0.01, 0.1, 10.0):
        p = LogGumbelSoftmax(logits, temperature)
        log_p = p.log_prob(p.rsample(Generator(4)))
        (gradient,) = tg.grad((log_p * log_p).sum(), logits)
        assert np.isfinite(log_p.numpy()).all()
        assert np.isfinite(gradient.numpy()).all()


@settings(max_examples=10)
@given(shapes, st.integers(1, 4), st.floats(0.3, 3), st.integers(0, 99))
def test_gradients_of_the_gumbel_softmax(shape, count, temperature, seed):
    logits, y = np.random.default_rng(seed).normal(size=(2, *shape, count))

    def densities(logits, y):
        p, x = GumbelSoftmax(logits, temperature), ops.softmax(y)
        return p.log_prob(x), p.log.log_prob(ops.log_softmax(y))

    def draws(logits):
        p = GumbelSoftmax(logits, temperature)
        return p.rsample(), p.log.rsample()

    check_gradients(densities, logits, y, order=2)
    check_gradients(draws, logits, order=2)


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (2, 3)])
@pytest.mark.parametrize("make", [GumbelSoftmax, LogGumbelSoftmax])
def test_float32_stays_float32_forward_and_backward(make, shape, device):
    logits = tg.Tensor(rng.normal(size=(*shape, 4)).astype("float32"), requires_grad=True)
    p = make(logits, 0.7)
    x = p.rsample()
    log_p = p.log_prob(x)
    assert x.dtype == log_p.dtype == p.sample().dtype == "float32"
    assert x.shape == p.sample().shape == (*shape, 4)
    assert log_p.shape == shape
    log_p.sum().backward()
    assert logits.grad.dtype == "float32"
    assert np.isfinite(logits.grad.numpy()).all()


def test_gumbel_softmaxes_and_their_values_are_refused():
    for temperature in (0, -1.0, np.nan, np.inf, None, LOGITS):
        with pytest.raises(
            ValueError, match="GumbelSoftmax: temperature: expected a finite number above 0, got"
        ):
            GumbelSoftmax(LOGITS, temperature)
    with pytest.raises(ValueError, match=r"GumbelSoftmax: logits: expected shape \(\.\.\., K\) with K > 0"):
        GumbelSoftmax(0.0, 1.0)
    p = GumbelSoftmax(LOGITS, 1.0)
    with pytest.raises(ValueError, match=r"GumbelSoftmax.log_prob: x: expected shape \(2, 3\), got \(3,\)"):
        p.log_prob(np.full(3, 1 / 3))
    with pytest.raises(ValueError, match=r"GumbelSoftmax.log_prob: x: expected vectors .*, got \[1. 0. 0.\]"):
        p.log_prob(np.eye(3)[:2])
    words = "LogGumbelSoftmax.log_prob: x: expected finite logarithms of vectors that sum to 1"
    with pytest.raises(ValueError, match=words):
        p.log.log_prob(np.zeros((2, 3)))
    with pytest.raises(TypeError, match=r"GumbelSoftmax.log_prob: x: expected float64, got float32"):
        p.log_prob(np.full((2, 3), 1 / 3, "float32"))
    assert not hasattr(p, "mean")
