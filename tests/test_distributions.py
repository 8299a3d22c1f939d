"""Distributions against SciPy, integrals, exact sums and Monte Carlo with its standard error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import tinygen as tg
from tinygen.backend import Generator
from tinygen.distributions import Bernoulli, Normal, kl_divergence
from tinygen.gradients import check_gradients

rng = np.random.default_rng(0)
MEAN, LOG_VARIANCE, LOGITS = (rng.normal(size=(2, 3)) for _ in range(3))
X = rng.normal(size=(2, 3))
BITS = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
reals = st.floats(-3, 3)


def scipy_normal(mean, log_variance):
    return stats.norm(mean, np.exp(log_variance / 2))


def within_four_standard_errors(draws, expected):
    error = draws.std(axis=0) / np.sqrt(len(draws))
    return np.all(abs(draws.mean(axis=0) - expected) < 4 * error)


# Against SciPy, integrals and sums ----------------------------------------------------------------


def test_normal_is_scipys():
    ours, theirs = Normal(MEAN, LOG_VARIANCE), scipy_normal(MEAN, LOG_VARIANCE)
    np.testing.assert_allclose(ours.log_prob(X), theirs.logpdf(X), rtol=1e-12)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-12)
    np.testing.assert_allclose(ours.variance, theirs.var(), rtol=1e-12)
    assert ours.mean is MEAN


def test_bernoulli_is_scipys():
    ours, theirs = Bernoulli(LOGITS), stats.bernoulli(1 / (1 + np.exp(-LOGITS)))
    np.testing.assert_allclose(ours.log_prob(BITS), theirs.logpmf(BITS), rtol=1e-12)
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-12)
    np.testing.assert_allclose(ours.mean, theirs.mean(), rtol=1e-12)
    np.testing.assert_allclose(ours.variance, theirs.var(), rtol=1e-12)


@settings(deadline=None)
@given(reals, reals)
def test_normal_density_integrates_to_one_and_its_entropy_is_the_integral(mean, log_variance):
    p = Normal(np.array(mean), np.array(log_variance))
    sigma = np.exp(log_variance / 2)
    x = np.linspace(mean - 10 * sigma, mean + 10 * sigma, 2001)
    log_p = p.log_prob(x)
    assert integrate.simpson(np.exp(log_p), x=x) == pytest.approx(1, abs=1e-10)
    assert integrate.simpson(-np.exp(log_p) * log_p, x=x) == pytest.approx(p.entropy(), abs=1e-9)


@settings(deadline=None)
@given(st.floats(-700, 700))
def test_bernoulli_sums_to_one(logit):
    p = Bernoulli(np.array(logit))
    log_p = p.log_prob(np.array([0.0, 1.0]))
    assert np.isfinite(log_p).all()
    assert np.exp(log_p).sum() == pytest.approx(1, rel=1e-12)
    assert -(np.exp(log_p) * log_p).sum() == pytest.approx(p.entropy(), rel=1e-12)


def test_bernoulli_is_exact_and_has_gradients_at_extreme_logits():
    logits = tg.Tensor(np.array([-1e4, 0.0, 1e4], "float32"), requires_grad=True)
    p = Bernoulli(logits)
    np.testing.assert_array_equal(p.log_prob(np.ones(3, "float32")).data[[0, 2]], [-1e4, 0])
    np.testing.assert_array_equal(p.entropy().data, np.float32([0, np.log(2), 0]))
    (p.log_prob(np.ones(3, "float32")).sum() + p.entropy().sum()).backward()
    np.testing.assert_array_equal(logits.grad.data, [1, 0.5, 0])


# Divergences --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(reals, reals, reals, reals)
def test_normal_divergence_is_the_integral(mean, log_variance, other_mean, other_log_variance):
    p = Normal(np.array(mean), np.array(log_variance))
    q = Normal(np.array(other_mean), np.array(other_log_variance))
    sigma = np.exp(log_variance / 2)
    x = np.linspace(mean - 12 * sigma, mean + 12 * sigma, 4001)
    log_p = p.log_prob(x)
    expected = integrate.simpson(np.exp(log_p) * (log_p - q.log_prob(x)), x=x)
    assert kl_divergence(p, q) == pytest.approx(expected, rel=1e-8, abs=1e-9)


@settings(deadline=None)
@given(reals, reals)
def test_bernoulli_divergence_is_the_sum(logit, other):
    p, q = Bernoulli(np.array(logit)), Bernoulli(np.array(other))
    x = np.array([0.0, 1.0])
    expected = (np.exp(p.log_prob(x)) * (p.log_prob(x) - q.log_prob(x))).sum()
    assert kl_divergence(p, q) == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_divergence_from_the_standard_normal_is_kingma_and_wellings():
    sigma2 = np.exp(LOG_VARIANCE)
    expected = -0.5 * (1 + LOG_VARIANCE - MEAN**2 - sigma2)
    got = kl_divergence(Normal(MEAN, LOG_VARIANCE), Normal(0.0, 0.0))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "p, q",
    [
        (Normal(MEAN, LOG_VARIANCE), Normal(X, -LOG_VARIANCE)),
        (Normal(MEAN, LOG_VARIANCE), Normal(0.0, 0.0)),
        (Bernoulli(LOGITS), Bernoulli(X)),
    ],
)
def test_divergence_equals_monte_carlo(p, q):
    draws = Generator(1)
    x = [p.sample(draws) for _ in range(20_000)]
    ratios = np.stack([p.log_prob(x_k) - q.log_prob(x_k) for x_k in x])
    assert within_four_standard_errors(ratios, kl_divergence(p, q))


def test_divergence_of_a_distribution_from_itself_is_zero():
    p, b = Normal(MEAN, LOG_VARIANCE), Bernoulli(LOGITS)
    assert not kl_divergence(p, p).any()
    assert not kl_divergence(b, b).any()


# Samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_samples_are_normal(dtype):
    n = 20_000
    p = Normal(np.full(n, 0.5, dtype), np.full(n, -1.5, dtype))
    x = p.sample(Generator(2))
    assert x.dtype == dtype
    assert stats.kstest(x, scipy_normal(0.5, -1.5).cdf).pvalue > 0.01


def test_bernoulli_samples_are_ones_as_often_as_they_should():
    p = Bernoulli(np.tile(LOGITS, (20_000, 1, 1)))
    x = p.sample(Generator(3))
    assert set(np.unique(x)) == {0, 1}
    assert within_four_standard_errors(x, 1 / (1 + np.exp(-LOGITS)))


def test_draws_repeat_with_their_generator_and_with_the_seed():
    for p in (Normal(MEAN, LOG_VARIANCE), Bernoulli(np.zeros(100))):
        np.testing.assert_array_equal(p.sample(Generator(1, 2)), p.sample(Generator(1, 2)))
        tg.seed(4)
        first = p.sample()
        assert not np.array_equal(first, p.sample())
        tg.seed(4)
        np.testing.assert_array_equal(first, p.sample())


def test_sample_is_a_raw_array_and_rsample_is_recorded():
    mean = tg.Tensor(MEAN, requires_grad=True)
    p = Normal(mean, LOG_VARIANCE)
    assert type(p.sample()) is np.ndarray
    assert type(Bernoulli(mean).sample()) is np.ndarray
    assert p.rsample().requires_grad
    assert type(Normal(MEAN, LOG_VARIANCE).rsample()) is np.ndarray


def test_reparameterized_gradients_of_the_second_moment():
    # E z² = μ² + σ²: its derivative with respect to μ is 2μ, and to log σ² is σ² (that is, 2σ to σ).
    n, mean, log_variance = 50_000, 0.7, -0.4
    means = tg.Tensor(np.full(n, mean), requires_grad=True)
    log_variances = tg.Tensor(np.full(n, log_variance), requires_grad=True)
    z = Normal(means, log_variances).rsample(Generator(5))
    (z * z).sum().backward()
    assert within_four_standard_errors(means.grad.data, 2 * mean)
    assert within_four_standard_errors(log_variances.grad.data, np.exp(log_variance))


# Gradients ----------------------------------------------------------------------------------------

shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@settings(deadline=None, max_examples=10)
@given(shapes, st.integers(0, 99))
def test_gradients_of_the_normal(shape, seed):
    draws = np.random.default_rng(seed)
    mean, log_variance, x, other = (draws.normal(size=shape) for _ in range(4))
    check_gradients(lambda m, v, x: Normal(m, v).log_prob(x), mean, log_variance, x, order=2)
    check_gradients(lambda m, v: Normal(m, v).rsample(), mean, log_variance, order=2)
    check_gradients(lambda v: (Normal(x, v).entropy(), Normal(x, v).variance), log_variance, order=2)
    check_gradients(
        lambda m, v, n, w: kl_divergence(Normal(m, v), Normal(n, w)), mean, log_variance, x, other, order=2
    )
    check_gradients(lambda m, v: kl_divergence(Normal(m, v), Normal(0.0, 0.0)), mean, log_variance, order=2)


@settings(deadline=None, max_examples=10)
@given(shapes, st.integers(0, 99))
def test_gradients_of_the_bernoulli(shape, seed):
    draws = np.random.default_rng(seed)
    logits, other = draws.normal(size=shape), draws.normal(size=shape)
    bits = (draws.random(shape) < 0.5).astype(float)
    check_gradients(lambda a: Bernoulli(a).log_prob(bits), logits, order=2)
    check_gradients(lambda a: (Bernoulli(a).mean, Bernoulli(a).variance), logits, order=2)
    check_gradients(lambda a: Bernoulli(a).entropy(), logits, order=2)
    check_gradients(lambda a, b: kl_divergence(Bernoulli(a), Bernoulli(b)), logits, other, order=2)


def test_second_derivative_of_the_entropy_at_logit_zero():
    check_gradients(lambda a: Bernoulli(a).entropy(), np.zeros(3), order=2)


def test_a_scalar_parameter_serves_all_elements_and_gets_the_sum_of_their_gradients():
    scalar = np.array(0.3)
    check_gradients(lambda v: Normal(MEAN, v).log_prob(X), scalar, order=2)
    check_gradients(lambda v: Normal(MEAN, v).entropy(), scalar, order=2)
    check_gradients(lambda m, v: kl_divergence(Normal(m, v), Normal(MEAN, X)), scalar, scalar, order=2)
    assert Normal(MEAN, 0.3).entropy().shape == Normal(MEAN, scalar).entropy().shape == MEAN.shape
    assert Normal(0.3, LOG_VARIANCE).mean.shape == MEAN.shape
    np.testing.assert_array_equal(
        Normal(MEAN, 0.3).log_prob(X), Normal(MEAN, np.full((2, 3), 0.3)).log_prob(X)
    )
    bits = BITS.astype("float32")
    np.testing.assert_array_equal(Bernoulli(0.0).log_prob(bits), Bernoulli(0 * bits).log_prob(bits))


# Types and shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (2, 3)])
@pytest.mark.parametrize("raw", [True, False])
def test_float32_stays_float32_forward_and_backward(shape, raw):
    mean, log_variance, logits = (np.asarray(rng.normal(size=shape), "float32") for _ in range(3))
    if not raw:
        mean, log_variance, logits = (tg.Tensor(a, requires_grad=True) for a in (mean, log_variance, logits))
    p, b = Normal(mean, log_variance), Bernoulli(logits)
    ones = np.ones(shape, "float32")
    results = [p.mean, p.variance, p.log_prob(ones), p.rsample(), p.entropy(), b.mean, b.variance]
    results += [b.log_prob(ones), b.entropy(), kl_divergence(p, Normal(0.0, 0.0)), kl_divergence(b, b)]
    for result in [*results, p.sample(), b.sample()]:
        assert result.dtype == "float32"
        assert result.shape == shape
    if not raw:
        sum(result.sum() for result in results).backward()
        for tensor in (mean, log_variance, logits):
            assert tensor.grad.dtype == "float32"
            assert tensor.grad.shape == shape
            assert np.isfinite(tensor.grad.data).all()


def test_numbers_alone_are_a_distribution_for_values_of_any_shape_and_dtype():
    p = Normal(0.0, 0.0)
    for x in (X, X.astype("float32"), X[0, 0], 0.5):
        np.testing.assert_allclose(p.log_prob(x), stats.norm.logpdf(x), rtol=1e-6)
    assert p.log_prob(X).dtype == "float64"
    assert p.log_prob(X.astype("float32")).dtype == "float32"
    assert p.sample().shape == ()


def test_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"Normal: log_variance: expected shape \(2, 3\), got \(3,\)"):
        Normal(MEAN, LOG_VARIANCE[0])
    with pytest.raises(ValueError, match=r"log_variance: expected shape \(2, 3\), got \(2, 1\)"):
        Normal(MEAN, LOG_VARIANCE[:, :1])
    with pytest.raises(TypeError, match="Normal: log_variance: expected float64, got float32"):
        Normal(MEAN, LOG_VARIANCE.astype("float32"))
    with pytest.raises(TypeError, match="Bernoulli: logits: expected a floating dtype, got int64"):
        Bernoulli(np.array([0, 1]))
    with pytest.raises(TypeError, match=r"Normal: mean: expected a Tensor, an array or a number, got list"):
        Normal([0.0], 0.0)


def test_values_that_do_not_fit_are_refused():
    p, b = Normal(MEAN, LOG_VARIANCE), Bernoulli(LOGITS)
    with pytest.raises(ValueError, match=r"Normal.log_prob: x: expected shape \(2, 3\), got \(3,\)"):
        p.log_prob(X[0])
    with pytest.raises(ValueError, match=r"Bernoulli.log_prob: x: expected shape \(2, 3\), got \(1, 3\)"):
        b.log_prob(BITS[:1])
    with pytest.raises(TypeError, match=r"Normal.log_prob: x: expected float64, got float32"):
        p.log_prob(X.astype("float32"))
    with pytest.raises(TypeError, match=r"Bernoulli.log_prob: x: expected float64, got bool"):
        b.log_prob(BITS == 1)
    with pytest.raises(TypeError, match=r"Normal.log_prob: x: expected a floating dtype, got uint8"):
        Normal(0.0, 0.0).log_prob(np.zeros(3, "uint8"))
    with pytest.raises(TypeError, match="x: expected a Tensor, an array or a number, got list"):
        p.log_prob([0.0])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 0.5, -1.0, 2.0])
def test_values_outside_the_support_are_refused(wrong):
    x = BITS.copy()
    x[1, 2] = wrong
    for given_x in (x, tg.Tensor(x, requires_grad=True)):
        with pytest.raises(ValueError, match=f"Bernoulli.log_prob: x: expected zeros and ones, got {wrong}"):
            Bernoulli(LOGITS).log_prob(given_x)
        if not np.isfinite(wrong):
            with pytest.raises(ValueError, match=f"Normal.log_prob: x: expected finite values, got {wrong}"):
                Normal(MEAN, LOG_VARIANCE).log_prob(given_x)


def test_divergences_that_do_not_fit_are_refused():
    p = Normal(MEAN, LOG_VARIANCE)
    with pytest.raises(TypeError, match=r"expected two of one family.* got Normal and Bernoulli"):
        kl_divergence(p, Bernoulli(LOGITS))
    with pytest.raises(TypeError, match=r"expected two of one family.* got int and int"):
        kl_divergence(1, 2)
    with pytest.raises(ValueError, match=r"kl_divergence: q: expected shape \(2, 3\), got \(3,\)"):
        kl_divergence(p, Normal(MEAN[0], LOG_VARIANCE[0]))
    with pytest.raises(TypeError, match="kl_divergence: q: expected float64, got float32"):
        kl_divergence(p, Normal(MEAN.astype("float32"), 0.0))
