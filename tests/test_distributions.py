"""Distributions of numbers against SciPy, PyTorch, integrals and closed forms; what they accept."""

import contextlib

import numpy as np
import pytest
import strict_cupy
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tinygen as tg
from tinygen.backend import Generator, to_host, xp
from tinygen.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    DiscretizedLogistic,
    Erlang,
    Exponential,
    Gumbel,
    GumbelSoftmax,
    Laplace,
    Logistic,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
    kl_divergence,
)
from tinygen.gradients import check_gradients

rng = np.random.default_rng(0)
MEAN, LOG_VARIANCE, LOGITS = (rng.normal(size=(2, 3)) for _ in range(3))
X = rng.normal(size=(2, 3))
BITS = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
reals = st.floats(-2, 2)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def draw_case(family, shape, seed):
    """Parameters and values inside the support, away from its ends and from the median, where one kinks."""
    draws = np.random.default_rng(seed)
    parameters = [draws.uniform(-1, 1, shape) for _ in range(family.parameters)]
    quantiles = draws.uniform(0.1, 0.4, shape) + 0.5 * draws.integers(0, 2, shape)
    return parameters, np.asarray(family.scipy(*parameters).ppf(quantiles))


def within_four_standard_errors(draws, expected):
    error = draws.std(axis=0) / np.sqrt(len(draws))
    return np.all(abs(draws.mean(axis=0) - expected) < 4 * error)


# Against SciPy, PyTorch and integrals --------------------------------------------------------------


@families
def test_is_scipys(family, device):
    parameters, x = draw_case(family, (2, 3), 0)
    ours = family.make(*(xp.asarray(a) for a in parameters))
    theirs = family.scipy(*parameters)
    np.testing.assert_allclose(
        to_host(ours.log_prob(xp.asarray(x))), theirs.logpdf(x), rtol=1e-10, atol=1e-14
    )
    rtol = 1e-12 if family.parameters else 1e-6  # what has no parameters is float32
    np.testing.assert_allclose(to_host(ours.entropy()), theirs.entropy(), rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(to_host(ours.mean), theirs.mean(), rtol=rtol)
    np.testing.assert_allclose(to_host(ours.variance), theirs.var(), rtol=rtol)


@families
def test_is_pytorchs_with_its_gradients(family):
    torch = pytest.importorskip("torch")
    if family.torch is None:
        family = family._replace(torch=_torch_logistic)
    parameters, x = draw_case(family, (2, 3), 1)
    here = [tg.Tensor(a, requires_grad=True) for a in [*parameters, x]]
    there = [torch.tensor(a, requires_grad=True) for a in [*parameters, x]]
    ours = family.make(*here[:-1]).log_prob(here[-1])
    theirs = family.torch(torch, *there[:-1]).log_prob(there[-1])
    np.testing.assert_allclose(ours.data, theirs.detach(), rtol=1e-10, atol=1e-12)
    ours.sum().backward()
    (theirs.sum() + 0 * sum(t.sum() for t in there)).backward()  # theirs may not depend on all
    for tensor, expected in zip(here, there):
        np.testing.assert_allclose(tensor.grad.data, expected.grad, rtol=1e-10, atol=1e-12)


def _torch_logistic(torch, mean, log_scale):
    distributions = torch.distributions
    base = distributions.Uniform(0 * mean, 0 * mean + 1)
    sigmoid = distributions.transforms.SigmoidTransform().inv
    affine = distributions.transforms.AffineTransform(mean, log_scale.exp())
    return distributions.TransformedDistribution(base, [sigmoid, affine])


@families
@settings(max_examples=20)
@given(data=st.data())
def test_density_integrates_to_one_and_its_entropy_is_the_integral(family, data):
    parameters = [np.array(data.draw(reals)) for _ in range(family.parameters)]
    p, theirs = family.make(*parameters), family.scipy(*parameters)
    # Between quantiles of 10⁻¹² and 1 − 10⁻¹²: what lies outside has an entropy of 10⁻¹⁰ or so.
    tails = 10.0 ** -np.arange(12, 0, -1)
    edges = np.concatenate([theirs.ppf(tails), theirs.ppf([0.5]), theirs.isf(tails[::-1])])
    nodes, weights = np.polynomial.legendre.leggauss(30)
    half = np.diff(edges)[:, None] / 2
    x = edges[:-1, None] + half * (nodes + 1)
    log_p = p.log_prob(x)
    assert (np.exp(log_p) * half * weights).sum() == pytest.approx(1, abs=1e-8)
    rounding = 1e-8 if family.parameters else 1e-6
    assert -(np.exp(log_p) * log_p * half * weights).sum() == pytest.approx(p.entropy(), abs=rounding)


@pytest.mark.parametrize("name", ["exponential", "logistic", "gumbel"])
def test_inverse_distribution_functions_are_scipys(name):
    family = FAMILIES[name]
    parameters, _ = draw_case(family, (2, 3), 2)
    u = np.random.default_rng(3).random((2, 3))
    ours, theirs = family.make(*parameters), family.scipy(*parameters)
    np.testing.assert_allclose(ours.inverse_cdf(u), theirs.ppf(u), rtol=1e-10)


def test_erlang_of_one_is_exponential():
    x = abs(X)
    np.testing.assert_allclose(
        Erlang(1, LOG_VARIANCE).log_prob(x), Exponential(LOG_VARIANCE).log_prob(x), rtol=1e-12
    )
    np.testing.assert_array_equal(
        Erlang(1, LOG_VARIANCE).sample(Generator(0)), Exponential(LOG_VARIANCE).sample(Generator(0))
    )


# Draws --------------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_have_the_distribution(family, dtype, device):
    n = 20_000
    parameters = [0.4, -0.7][: family.parameters]
    p = family.make(*(xp.asarray(np.full(n, a, dtype)) for a in parameters))
    x = to_host(p.sample(Generator(2), (n,)))
    assert x.shape == (n,)
    assert x.dtype == (dtype if parameters else "float32")
    assert stats.kstest(x, family.scipy(*parameters).cdf).pvalue > 1e-3
    assert np.isfinite(to_host(p.log_prob(xp.asarray(x)))).all()


def test_a_generator_that_is_not_of_tinygen_is_refused():
    for draw in (Normal(0.0, 0.0).sample, Normal(0.0, 0.0).rsample):
        with pytest.raises(
            TypeError, match="Normal: rng: expected a tinygen generator or None, got RandomState"
        ):
            draw(np.random.RandomState(0))


class Extremes(Generator):
    """A generator that draws only the ends of what NumPy's draws from, 0 and the last number before 1; and
    `ends`: rounding to float32 may give 1 elsewhere."""

    def __init__(self, *ends):
        self.source, self.ends = np.random.default_rng(0), ends

    def uniform(self, shape, dtype):
        ends = np.array([0, 1 - np.finfo(dtype).eps / 2, *self.ends], dtype)
        return self.source.choice(ends, shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_draw_is_infinite_or_outside_the_support(dtype):
    def zeros():
        return np.zeros(1000, dtype)

    for p in (
        Laplace(zeros(), zeros()),
        Exponential(zeros()),
        Logistic(zeros(), zeros()),
        Gumbel(zeros(), zeros()),
        Erlang(3, zeros()),
        Beta(50, 1),
        Beta(1, 50),
        Beta(1, 1),
    ):
        x = p.sample(Extremes(1), (1000,))
        assert np.isfinite(p.log_prob(x)).all()
        assert np.unique(x).size > 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_draws_end_where_they_should(dtype):
    low, width = rng.normal(size=(2, 10_000)).astype(dtype)
    p = Uniform(low, low + abs(width))
    x = p.sample(Extremes())
    assert ((p.low <= x) & (x <= p.high)).all() and np.isfinite(p.log_prob(x)).all()


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].parameters])
def test_reparameterized_gradients_of_the_second_moment(name):
    # E z² = mean² + variance, whose derivatives are those of closed forms.
    family, n = FAMILIES[name], 50_000
    values = [0.4, -0.7][: family.parameters]
    scalars = [tg.Tensor(np.array(a), requires_grad=True) for a in values]
    p = family.make(*scalars)
    expected = tg.grad(p.mean * p.mean + p.variance, scalars)
    repeated = [tg.Tensor(np.full(n, a), requires_grad=True) for a in values]
    z = family.make(*repeated).rsample(Generator(5))
    for each, gradient in zip(tg.grad((z * z).sum(), repeated), expected):
        assert within_four_standard_errors(each.data, gradient.data)


def test_reparameterized_gradients_of_the_normal_are_kingma_and_wellings():
    # E z² = μ² + σ²: its derivative with respect to μ is 2μ, and to log σ² is σ² (that is, 2σ to σ).
    n, mean, log_variance = 50_000, 0.7, -0.4
    means = tg.Tensor(np.full(n, mean), requires_grad=True)
    log_variances = tg.Tensor(np.full(n, log_variance), requires_grad=True)
    z = Normal(means, log_variances).rsample(Generator(5))
    (z * z).sum().backward()
    assert within_four_standard_errors(means.grad.data, 2 * mean)
    assert within_four_standard_errors(log_variances.grad.data, np.exp(log_variance))


def test_draws_repeat_with_their_generator_and_with_the_seed(device):
    zeros = xp.zeros((50, 3))
    for p in (
        *(family.make(*[zeros] * family.parameters) for family in FAMILIES.values()),
        Bernoulli(zeros),
        Categorical(zeros),
        DiscretizedLogistic(zeros, zeros, 256),
        Mixture(zeros, Normal(zeros, zeros)),
        Dirichlet((1, 2)),
        GumbelSoftmax(zeros, 1.0),
    ):
        first, again = (to_host(p.sample(Generator(1, 2))) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        tg.seed(4)
        first, other = (to_host(p.sample()) for _ in range(2))
        assert not np.array_equal(first, other)
        tg.seed(4)
        np.testing.assert_array_equal(first, to_host(p.sample()))


def test_scalars_are_drawn_in_any_shape():
    for p in (Normal(0.0, 0.0), Uniform(0.0, 1.0), Erlang(2, 0.0), Beta(1, 2), Bernoulli(0.0)):
        x = p.sample(shape=(2, 5))
        assert x.shape == p.log_prob(x).shape == (2, 5)
        assert np.unique(x).size > (1 if type(p) is Bernoulli else 9)
        assert p.sample().shape == ()
    with pytest.raises(
        ValueError, match=r"Normal: shape: expected \(2, 3\), that of the parameters, got \(3,\)"
    ):
        Normal(MEAN, 0.0).rsample(shape=(3,))
    with pytest.raises(ValueError, match=r"Normal: shape: expected a tuple of ints, got 3"):
        Normal(0.0, 0.0).sample(shape=3)


def test_sample_is_a_raw_array_and_rsample_is_recorded():
    mean = tg.Tensor(MEAN, requires_grad=True)
    p = Normal(mean, LOG_VARIANCE)
    assert type(p.sample()) is np.ndarray
    assert type(Bernoulli(mean).sample()) is np.ndarray
    assert type(Mixture(mean, p).sample()) is np.ndarray
    assert p.rsample().requires_grad
    assert type(Normal(MEAN, LOG_VARIANCE).rsample()) is np.ndarray


# Gradients ----------------------------------------------------------------------------------------


@families
@settings(max_examples=10)
@given(shape=shapes, seed=st.integers(0, 99))
def test_gradients(family, shape, seed):
    parameters, x = draw_case(family, shape, seed)
    check_gradients(lambda *t: family.make(*t[:-1]).log_prob(t[-1]), *parameters, x, order=2)
    if parameters:
        check_gradients(lambda *t: family.make(*t).rsample(), *parameters, order=2)
        check_gradients(lambda *t: family.make(*t).entropy(), *parameters, order=2)
        check_gradients(lambda *t: (family.make(*t).mean, family.make(*t).variance), *parameters, order=2)


def test_a_scalar_parameter_serves_all_elements_and_gets_the_sum_of_their_gradients():
    scalar = np.array(0.3)
    check_gradients(lambda v: Normal(MEAN, v).log_prob(X), scalar, order=2)
    check_gradients(lambda v: Normal(MEAN, v).entropy(), scalar, order=2)
    check_gradients(lambda v: Normal(v, v).rsample(shape=(2, 3)), scalar, order=2)
    check_gradients(lambda m, v: kl_divergence(Normal(m, v), Normal(MEAN, X)), scalar, scalar, order=2)
    assert Normal(MEAN, 0.3).entropy().shape == Normal(MEAN, scalar).entropy().shape == MEAN.shape
    assert Normal(0.3, LOG_VARIANCE).mean.shape == MEAN.shape
    np.testing.assert_array_equal(
        Normal(MEAN, 0.3).log_prob(X), Normal(MEAN, np.full((2, 3), 0.3)).log_prob(X)
    )
    bits = BITS.astype("float32")
    np.testing.assert_array_equal(Bernoulli(0.0).log_prob(bits), Bernoulli(0 * bits).log_prob(bits))


def test_a_step_on_a_gpu_brings_nothing_to_the_host(device):
    unseen = strict_cupy.forbid_transfers() if device == "strict" else contextlib.nullcontext()
    numbers = [tg.Tensor(np.full((2, 3), 0.1, "float32"), requires_grad=True) for _ in range(3)]
    a, b, logits = numbers
    labels = xp.asarray(np.array([0, 2]))
    with unseen:
        loss = 0.0
        for family in FAMILIES.values():
            p = family.make(*[a, b][: family.parameters])
            loss = loss + p.log_prob(p.rsample(shape=(2, 3))).sum()
        for temperature in (0.5, 1.0):
            p = GumbelSoftmax(logits, temperature)
            loss = loss + p.log_prob(p.rsample()).sum() + p.log.log_prob(p.log.rsample()).sum()
        loss = loss + Mixture(logits, DiscretizedLogistic(a, b, 4)).log_prob(labels).sum()
        loss = loss + Mixture(logits, Normal(a, b)).log_prob(Mixture(logits, Normal(a, b)).sample()).sum()
        loss = loss + Categorical(logits).log_prob(labels).sum() + Categorical(logits).entropy().sum()
        loss = loss + Bernoulli(logits).log_prob(Bernoulli(logits).sample()).sum()
        loss = loss + kl_divergence(Normal(a, b), Normal(0.0, 0.0)).sum()
        loss = loss + kl_divergence(Categorical(logits), Categorical(xp.zeros_like(logits.data))).sum()
        loss.backward()
    for tensor in numbers:
        assert np.isfinite(tensor.grad.numpy()).all()


# Types and shapes ---------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (2, 3)])
@pytest.mark.parametrize("raw", [True, False])
def test_float32_stays_float32_forward_and_backward(family, shape, raw, device):
    parameters, x = draw_case(family, shape, 0)
    parameters = [xp.asarray(a.astype("float32")) for a in parameters]
    x = xp.asarray(x.astype("float32"))
    if not raw:
        parameters = [tg.Tensor(a, requires_grad=True) for a in parameters]
        x = tg.Tensor(x, requires_grad=True)
    p = family.make(*parameters)
    results = [p.log_prob(x), p.rsample(shape=shape)]
    if parameters:
        results += [p.mean, p.variance, p.entropy()]
    for result in [*results, p.sample(shape=shape)]:
        assert result.dtype == "float32"
        assert result.shape == shape
    if not raw:
        sum(result.sum() for result in results).backward()
        for tensor in [*parameters, x]:
            assert tensor.grad.dtype == "float32"
            assert tensor.grad.shape == shape
            assert np.isfinite(tensor.grad.numpy()).all()


def test_numbers_alone_are_a_distribution_for_values_of_any_shape_and_dtype():
    p = Normal(0.0, 0.0)
    for x in (X, X.astype("float32"), X[0, 0], 0.5):
        np.testing.assert_allclose(p.log_prob(x), stats.norm.logpdf(x), rtol=1e-6)
    assert p.log_prob(X).dtype == "float64"
    assert p.log_prob(X.astype("float32")).dtype == "float32"
    assert p.sample().shape == ()


@pytest.mark.parametrize("make", [Laplace, Logistic])
def test_far_from_the_mean_density_and_gradients_stay_finite(make):
    x = np.array([-1e8, -1e4, 0, 1e4, 1e8], "float32")
    for log_scale in (-20.0, 0.0, 20.0):
        parameters = [tg.Tensor(np.full(5, a, "float32"), requires_grad=True) for a in (0.0, log_scale)]
        log_p = make(*parameters).log_prob(x)
        log_p.sum().backward()
        distance = abs(x.astype("float64")) / np.exp(log_scale)
        np.testing.assert_allclose(
            log_p.data[abs(x) > 0], (-distance - log_scale)[abs(x) > 0], atol=1.4, rtol=1e-5
        )
        for tensor in parameters:
            assert np.isfinite(tensor.grad.data).all()


# What is refused ----------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match=r"Uniform: high: expected values above low, got 0.5"):
        Uniform(np.array([0.0, 0.5]), 0.5)
    for k in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match=rf"Erlang: k: expected an int of at least 1, got {k}"):
            Erlang(k, MEAN)
        with pytest.raises(ValueError, match=rf"Beta: beta: expected an int of at least 1, got {k}"):
            Beta(2, k)


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


@pytest.mark.parametrize(
    "p, wrong, words",
    [
        (Bernoulli(LOGITS), [np.nan, np.inf, -np.inf, 0.5, -1.0, 2.0], "zeros and ones"),
        (Normal(MEAN, LOG_VARIANCE), [np.nan, np.inf, -np.inf], "finite values"),
        (Laplace(MEAN, LOG_VARIANCE), [np.nan, np.inf], "finite values"),
        (Logistic(MEAN, LOG_VARIANCE), [np.nan, -np.inf], "finite values"),
        (Uniform(MEAN * 0 - 1, 2.0), [np.nan, -1.5, 2.5], "values from low to high"),
        (Uniform(MEAN * 0, 1.0), [-0.5, 1.5], "values from low to high"),
        (Exponential(MEAN), [np.nan, -0.5, np.inf], "finite values of at least 0"),
        (Erlang(2, MEAN), [np.nan, 0.0, -1.0, np.inf], "finite values above 0"),
        (LogNormal(MEAN, LOG_VARIANCE), [np.nan, 0.0, np.inf], "finite values above 0"),
        (Beta(1, 1), [np.nan, 0.0, 1.0, 2.0], "values between 0 and 1"),
    ],
)
def test_values_outside_the_support_are_refused(p, wrong, words):
    x = BITS.copy() if type(p) is Bernoulli else np.full((2, 3), 0.25)
    p.log_prob(x)
    for value in wrong:
        x[1, 2] = value
        for given_x in (x, tg.Tensor(x, requires_grad=True), value):
            message = f"{type(p).__name__}.log_prob: x: expected {words}, got {value}"
            with pytest.raises(ValueError, match=message):
                p.log_prob(given_x)
