"""Bits, labels, levels and mixtures: sums, chi-squared tests, SciPy and PyTorch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

import tinygen as tg
from tinygen.backend import Generator, to_host, xp
from tinygen.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    DiscretizedLogistic,
    Mixture,
    Normal,
    Uniform,
)
from tinygen.gradients import check_gradients

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(2, 3))
BITS = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)


def are_drawn_by(counts, probabilities):
    """Whether a chi-squared test lets counts of outcomes pass, those expected below 5 times in one class."""
    expected = probabilities * counts.sum()
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    return stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


# Bernoulli ----------------------------------------------------------------------------------------


def test_bernoulli_is_scipys(device):
    ours, theirs = Bernoulli(xp.asarray(LOGITS)), stats.bernoulli(special.expit(LOGITS))
    np.testing.assert_allclose(to_host(ours.log_prob(xp.asarray(BITS))), theirs.logpmf(BITS), rtol=1e-12)
    np.testing.assert_allclose(to_host(ours.entropy()), theirs.entropy(), rtol=1e-12)
    np.testing.assert_allclose(to_host(ours.mean), theirs.mean(), rtol=1e-12)
    np.testing.assert_allclose(to_host(ours.variance), theirs.var(), rtol=1e-12)


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


def test_bernoulli_draws_ones_as_often_as_it_should(device):
    x = to_host(Bernoulli(xp.asarray(np.tile(LOGITS, (20_000, 1, 1)))).sample(Generator(3)))
    assert set(np.unique(x)) == {0, 1}
    error = x.std(axis=0) / np.sqrt(len(x))
    assert np.all(abs(x.mean(axis=0) - special.expit(LOGITS)) < 4 * error)


@settings(max_examples=10)
@given(shapes, st.integers(0, 99))
def test_gradients_of_the_bernoulli(shape, seed):
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=shape)
    bits = (draws.random(shape) < 0.5).astype(float)
    check_gradients(lambda a: Bernoulli(a).log_prob(bits), logits, order=2)
    check_gradients(lambda a: (Bernoulli(a).mean, Bernoulli(a).variance), logits, order=2)
    check_gradients(lambda a: Bernoulli(a).entropy(), logits, order=2)


def test_second_derivative_of_the_entropy_at_logit_zero():
    check_gradients(lambda a: Bernoulli(a).entropy(), np.zeros(3), order=2)


# Categorical --------------------------------------------------------------------------------------


def test_categorical_is_the_softmax(device):
    p, probabilities = Categorical(xp.asarray(LOGITS)), special.softmax(LOGITS, axis=-1)
    np.testing.assert_allclose(to_host(p.probabilities), probabilities, rtol=1e-12)
    for k in range(3):
        got = to_host(p.log_prob(xp.asarray(np.full(2, k, "uint8"))))
        np.testing.assert_allclose(got, np.log(probabilities[:, k]), rtol=1e-12)
    np.testing.assert_allclose(to_host(p.entropy()), stats.entropy(probabilities, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_categorical_draws_its_labels(dtype, device):
    logits = np.random.default_rng(1).normal(size=9).astype(dtype)
    logits[4] = -1e4
    p = Categorical(xp.asarray(logits))
    x = to_host(p.sample(Generator(1), (30_000,)))
    assert x.dtype == "int64"
    counts = np.bincount(x, minlength=9)
    assert counts[4] == 0
    assert are_drawn_by(counts, special.softmax(logits.astype("float64")))
    assert p.log_prob(xp.asarray(x)).shape == (30_000,)


def test_each_row_of_logits_draws_its_own_labels():
    logits = np.where(np.eye(4) > 0, 0.0, -1e4)
    np.testing.assert_array_equal(Categorical(logits).sample(), np.arange(4))


def test_categorical_at_extreme_logits():
    logits = tg.Tensor(np.array([[1e4, 0, -1e4], [0, -1e4, 1e4]], "float32"), requires_grad=True)
    p = Categorical(logits)
    log_p = p.log_prob(np.array([0, 1]))
    np.testing.assert_array_equal(log_p.data, [0, -2e4])
    np.testing.assert_array_equal(p.entropy().data, [0, 0])
    (log_p.sum() + p.entropy().sum()).backward()
    np.testing.assert_array_equal(logits.grad.data, [[0, 0, 0], [0, 1, -1]])


@settings(max_examples=10)
@given(shapes, st.integers(1, 4), st.integers(0, 99))
def test_gradients_of_the_categorical(shape, count, seed):
    draws = np.random.default_rng(seed)
    logits, x = draws.normal(size=(*shape, count)), draws.integers(0, count, shape)
    check_gradients(lambda a: Categorical(a).log_prob(x), logits, order=2)
    check_gradients(lambda a: (Categorical(a).entropy(), Categorical(a).probabilities), logits, order=2)


def test_a_categorical_is_refused():
    for logits in (0.5, np.zeros(()), np.zeros((3, 0))):
        with pytest.raises(ValueError, match=r"Categorical: logits: expected shape \(..., K\) with K > 0"):
            Categorical(logits)
    p = Categorical(LOGITS)
    with pytest.raises(ValueError, match=r"Categorical.log_prob: x: expected integers from 0 to 2, got 3"):
        p.log_prob(np.array([0, 3]))
    with pytest.raises(ValueError, match=r"Categorical.log_prob: x: expected integers from 0 to 2, got -1"):
        p.log_prob(-1)
    with pytest.raises(ValueError, match=r"Categorical.log_prob: x: expected shape \(2,\), got \(2, 3\)"):
        p.log_prob(np.zeros((2, 3), int))
    for wrong in (np.zeros(2), np.zeros(2, bool), 0.5):
        with pytest.raises(TypeError, match=r"Categorical.log_prob: x: expected integers from 0 to 2, got"):
            p.log_prob(wrong)
    with pytest.raises(NotImplementedError, match=r"Mixture has no entropy in closed form; .*monte_carlo"):
        Mixture(LOGITS, Normal(LOGITS, LOGITS)).entropy()


# The discretized logistic -------------------------------------------------------------------------


def naive_log_probabilities(location, log_scale, levels):
    """Differences of the logistic's distribution function between the edges of the bins."""
    edges = np.linspace(-1, 1, 2 * levels - 1)[1::2]
    cdf = special.expit((edges - location) / np.exp(log_scale))
    return np.log(np.diff(cdf, prepend=0, append=1))


@given(st.floats(-1.5, 1.5), st.floats(-2, 3), st.integers(2, 256))
def test_discretized_logistic_is_the_difference_of_distribution_functions(location, log_scale, levels):
    p = DiscretizedLogistic(np.array(location), np.array(log_scale), levels)
    expected = naive_log_probabilities(location, log_scale, levels)
    np.testing.assert_allclose(p.log_prob(np.arange(levels)), expected, rtol=1e-8, atol=1e-8)


@given(st.floats(-2, 2), st.floats(-30, 5), st.integers(2, 256))
def test_discretized_logistic_sums_to_one(location, log_scale, levels):
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
        p = DiscretizedLogistic(np.array(location, dtype), np.array(log_scale, dtype), levels)
        log_p = p.log_prob(np.arange(levels))
        assert log_p.dtype == dtype
        assert np.isfinite(log_p).all()
        assert np.exp(log_p).sum(dtype="float64") == pytest.approx(1, abs=tolerance)


def test_discretized_logistic_has_finite_gradients_at_tiny_scales_and_far_levels(device):
    levels = np.tile(np.arange(256), 3)
    location = tg.Tensor(np.repeat([-30.0, 0.1, 30.0], 256).astype("float32"), requires_grad=True)
    for log_scale in (-60.0, -20.0, -7.0, 0.0, 20.0):
        log_scales = tg.Tensor(np.full(768, log_scale, "float32"), requires_grad=True)
        log_p = DiscretizedLogistic(location, log_scales, 256).log_prob(xp.asarray(levels))
        location_gradient, scale_gradient = tg.grad(log_p.sum(), [location, log_scales])
        for values in (log_p, location_gradient, scale_gradient):
            assert np.isfinite(values.numpy()).all()
        # A location far above pulls up, one far below pulls down.
        if log_scale < 0:
            pull = location_gradient.numpy()
            assert (pull[1:256] > 0).all()
            assert (pull[512:-1] < 0).all()


@pytest.mark.parametrize("location, log_scale", [(0.2, -3.0), (-1.1, -1.0), (0.9, 0.0), (0.0, -12.0)])
def test_discretized_logistic_draws_its_levels(location, log_scale, device):
    location, log_scale = (xp.asarray(np.array(a, "float32")) for a in (location, log_scale))
    p = DiscretizedLogistic(location, log_scale, 16)
    x = to_host(p.sample(Generator(2), (30_000,)))
    assert x.dtype == "int64"
    probabilities = np.exp(to_host(p.log_prob(xp.arange(16))).astype("float64"))
    assert are_drawn_by(np.bincount(x, minlength=16), probabilities)


@settings(max_examples=10)
@given(shapes, st.integers(2, 9), st.integers(0, 99))
def test_gradients_of_the_discretized_logistic(shape, levels, seed):
    draws = np.random.default_rng(seed)
    location, log_scale = draws.normal(size=shape), draws.uniform(-2, 1, shape)
    x = draws.integers(0, levels, shape)
    check_gradients(lambda m, s: DiscretizedLogistic(m, s, levels).log_prob(x), location, log_scale, order=2)


def test_a_discretized_logistic_is_refused():
    for levels in (1, 256.0, None):
        message = f"DiscretizedLogistic: levels: expected an int of at least 2, got {levels}"
        with pytest.raises(ValueError, match=message):
            DiscretizedLogistic(0.0, 0.0, levels)
    p = DiscretizedLogistic(LOGITS, LOGITS, 4)
    with pytest.raises(
        ValueError, match=r"DiscretizedLogistic.log_prob: x: expected integers from 0 to 3, got 4"
    ):
        p.log_prob(np.full((2, 3), 4, "uint8"))
    with pytest.raises(
        TypeError, match=r"DiscretizedLogistic.log_prob: x: expected integers .*, got float64"
    ):
        p.log_prob(LOGITS)


# Mixtures -----------------------------------------------------------------------------------------

MEANS, LOG_VARIANCES = rng.normal(size=(2, 2, 3))


def scipy_mixture(logits, means, log_variances, x, what):
    parts = getattr(stats.norm(means, np.exp(log_variances / 2)), what)(x[..., None])
    return (special.softmax(logits, axis=-1) * parts).sum(axis=-1)


def test_mixture_of_normals_is_the_weighted_sum(device):
    x = rng.normal(size=2)
    p = Mixture(xp.asarray(LOGITS), Normal(xp.asarray(MEANS), xp.asarray(LOG_VARIANCES)))
    expected = np.log(scipy_mixture(LOGITS, MEANS, LOG_VARIANCES, x, "pdf"))
    np.testing.assert_allclose(to_host(p.log_prob(xp.asarray(x))), expected, rtol=1e-12)


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 99))
def test_mixture_of_normals_integrates_to_one_and_has_its_moments(count, seed):
    draws = np.random.default_rng(seed)
    p = Mixture(draws.normal(size=count), Normal(draws.normal(size=count), draws.normal(size=count)))
    x = np.linspace(-40, 40, 40_001)
    density = np.exp(p.log_prob(x))
    mean = integrate.simpson(density * x, x=x)
    assert integrate.simpson(density, x=x) == pytest.approx(1, abs=1e-9)
    assert p.mean == pytest.approx(mean, abs=1e-9)
    assert p.variance == pytest.approx(integrate.simpson(density * (x - mean) ** 2, x=x), rel=1e-9)


def test_one_mixture_of_labels_for_values_of_any_shape(device):
    weights, tables = special.softmax(LOGITS[0]), special.softmax(rng.normal(size=(3, 4)), axis=-1)
    log_weights = xp.asarray(np.log(weights))
    x = np.array([[0, 1], [1, 0]])
    p = Mixture(log_weights, Bernoulli(xp.asarray(special.logit(tables[:, 0]))))
    one = weights @ tables[:, 0]
    computed = to_host(p.log_prob(xp.asarray(x.astype("float64"))))
    np.testing.assert_allclose(computed, np.log(np.where(x == 1, one, 1 - one)), rtol=1e-12)
    p = Mixture(log_weights, Categorical(xp.asarray(np.log(tables))))
    computed = to_host(p.log_prob(xp.asarray(x)))
    np.testing.assert_allclose(computed, np.log((weights @ tables)[x]), rtol=1e-12)


def test_mixture_is_pytorchs_with_its_gradients():
    torch = pytest.importorskip("torch")
    arrays = [LOGITS, MEANS, LOG_VARIANCES, rng.normal(size=2)]
    here = [tg.Tensor(a, requires_grad=True) for a in arrays]
    there = [torch.tensor(a, requires_grad=True) for a in arrays]
    ours = Mixture(here[0], Normal(here[1], here[2]))
    d = torch.distributions
    components = d.Normal(there[1], (there[2] / 2).exp())
    theirs = d.MixtureSameFamily(d.Categorical(logits=there[0]), components)
    np.testing.assert_allclose(ours.mean.data, theirs.mean.detach(), rtol=1e-12)
    np.testing.assert_allclose(ours.variance.data, theirs.variance.detach(), rtol=1e-12)
    ours, theirs = ours.log_prob(here[3]), theirs.log_prob(there[3])
    np.testing.assert_allclose(ours.data, theirs.detach(), rtol=1e-12)
    ours.sum().backward()
    theirs.sum().backward()
    for tensor, expected in zip(here, there):
        np.testing.assert_allclose(tensor.grad.data, expected.grad, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixture_of_normals_draws_from_all_components(dtype, device):
    logits, means, log_variances = np.array([[0.0, 1.0], [-2.0, 3.0], [1.0, -1.0]], dtype)
    p = Mixture(xp.asarray(logits), Normal(xp.asarray(means), xp.asarray(log_variances)))
    x = to_host(p.sample(Generator(3), (20_000,)))
    assert x.dtype == dtype
    arrays = [a.astype("float64") for a in (logits, means, log_variances)]
    assert stats.kstest(x, lambda x: scipy_mixture(*arrays, x, "cdf")).pvalue > 1e-3


def test_mixture_of_discretized_logistics_sums_to_one_and_draws_its_levels(device):
    logits, location, log_scale = (xp.asarray(a) for a in rng.normal(size=(3, 4)).astype("float32"))
    p = Mixture(logits, DiscretizedLogistic(location, log_scale - 2.0, 16))
    probabilities = np.exp(to_host(p.log_prob(xp.arange(16))).astype("float64"))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    x = to_host(p.sample(Generator(4), (30_000,)))
    assert x.dtype == "int64"
    assert are_drawn_by(np.bincount(x, minlength=16), probabilities)


def test_far_from_all_components_density_and_gradients_stay_finite():
    logits, means, scales = (
        tg.Tensor(np.array(a, "float32"), requires_grad=True) for a in ([1e4, -1e4], [-1e4, 1e4], [-8.0, 8.0])
    )
    (Mixture(logits, Normal(means, scales)).log_prob(np.float32(0.5))).backward()
    Mixture(logits, DiscretizedLogistic(means, scales, 256)).log_prob(7).backward()
    for tensor in (logits, means, scales):
        assert np.isfinite(tensor.grad.data).all()


@settings(max_examples=10)
@given(shapes, st.integers(1, 4), st.integers(0, 99))
def test_gradients_of_mixtures(shape, count, seed):
    draws = np.random.default_rng(seed)
    logits, means, scales = draws.normal(size=(3, *shape, count))
    x, levels = draws.normal(size=shape), draws.integers(0, 8, shape)
    check_gradients(
        lambda a, m, s, x: Mixture(a, Normal(m, s)).log_prob(x), logits, means, scales, x, order=2
    )
    check_gradients(
        lambda a, m, s: Mixture(a, DiscretizedLogistic(m, s, 8)).log_prob(levels),
        logits,
        means,
        scales,
        order=2,
    )

    def moments(a, m, s):
        p = Mixture(a, Normal(m, s))
        return p.mean, p.variance

    check_gradients(moments, logits, means, scales, order=2)


def test_a_mixture_is_refused():
    with pytest.raises(
        ValueError, match=r"Mixture: components: expected parameters of float64 and shape \(2, 3\)"
    ):
        Mixture(LOGITS, Normal(LOGITS[0], LOGITS[0]))
    with pytest.raises(ValueError, match=r"as logits, got float32 and \(2, 3\)"):
        Mixture(LOGITS, Normal(LOGITS.astype("float32"), 0.0))
    for components in (None, Dirichlet((1, 2)), Uniform(0 * LOGITS, 1 + 0 * LOGITS)):
        with pytest.raises(
            TypeError,
            match=r"Mixture: components: expected a distribution of numbers, other than Uniform, got",
        ):
            Mixture(LOGITS, components)
    p = Mixture(LOGITS, Normal(LOGITS, LOGITS))
    with pytest.raises(ValueError, match=r"Mixture.log_prob: x: expected shape \(2,\), got \(2, 3\)"):
        p.log_prob(LOGITS)
    with pytest.raises(ValueError, match=r"Mixture.log_prob: x: expected finite values, got nan"):
        p.log_prob(np.array([0.0, np.nan]))


# Types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (2, 3)])
def test_float32_stays_float32_forward_and_backward(shape, device):
    logits, a, b = (
        tg.Tensor(rng.normal(size=(*shape, 4)).astype("float32"), requires_grad=True) for _ in range(3)
    )
    bits, labels = xp.ones((*shape, 4), "float32"), xp.ones(shape, "uint8")
    levels = DiscretizedLogistic(a, b, 8)
    results = [
        Categorical(logits).log_prob(labels),
        Categorical(logits).entropy(),
        Mixture(logits, Normal(a, b)).log_prob(labels.astype("float32")),
        Mixture(logits, Normal(a, b)).mean,
        Mixture(logits, Normal(a, b)).variance,
        Mixture(logits, levels).log_prob(labels),
        Mixture(logits, Normal(a, b)).sample(),
    ]
    each = [
        levels.log_prob(bits.astype("int64")),
        Bernoulli(logits).log_prob(bits),
        Bernoulli(logits).entropy(),
    ]
    each += [Bernoulli(logits).mean, Bernoulli(logits).variance, Bernoulli(logits).sample()]
    for result in results + each:
        assert result.dtype == "float32"
    assert {result.shape for result in [*results, Mixture(logits, levels).sample()]} == {shape}
    assert {result.shape for result in [*each, levels.sample()]} == {(*shape, 4)}
    sum(result.sum() for result in results + each).backward()
    for tensor in (logits, a, b):
        assert tensor.grad.dtype == "float32"
        assert tensor.grad.shape == (*shape, 4)
        assert np.isfinite(tensor.grad.numpy()).all()
