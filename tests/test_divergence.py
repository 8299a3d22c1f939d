"""Kullback-Leibler divergences: closed forms against integrals, sums, PyTorch and Monte Carlo."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import tinygen as tg
from tinygen.backend import Generator, to_host, xp
from tinygen.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    DiscretizedLogistic,
    Erlang,
    Gumbel,
    GumbelSoftmax,
    Logistic,
    Mixture,
    Normal,
    Uniform,
    kl_divergence,
    monte_carlo_entropy,
    monte_carlo_kl,
)
from tinygen.gradients import check_gradients

rng = np.random.default_rng(0)
A, B, C, D = rng.normal(size=(4, 2, 3))
reals = st.floats(-3, 3)
shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)


class Case(NamedTuple):
    """Two distributions of `parameters` arrays each, q's support holding p's, and PyTorch's of the same."""

    parameters: int
    p: Callable
    q: Callable
    torch_p: Callable
    torch_q: Callable

    def pair(self, arrays):
        return self.p(*arrays[: self.parameters]), self.q(*arrays[-self.parameters :])

    def torch_pair(self, torch, arrays):
        first, second = arrays[: self.parameters], arrays[-self.parameters :]
        return self.torch_p(torch, *first), self.torch_q(torch, *second)


def of_one_family(parameters, make, torch_make):
    return Case(parameters, make, make, torch_make, torch_make)


CLOSED = {
    name: of_one_family(FAMILIES[name].parameters, FAMILIES[name].make, FAMILIES[name].torch)
    for name in ("normal", "lognormal", "laplace", "exponential")
}
CLOSED["uniform"] = CLOSED["normal"]._replace(
    p=FAMILIES["uniform"].make,
    q=lambda a, b: Uniform(a - 20.0, a + 20.0 + tg.ops.exp(b)),
    torch_p=FAMILIES["uniform"].torch,
    torch_q=lambda torch, a, b: torch.distributions.Uniform(a - 20, a + 20 + b.exp()),
)
CLOSED["erlang"] = Case(
    1,
    FAMILIES["erlang of 3"].make,
    lambda r: Erlang(2, r),
    FAMILIES["erlang of 3"].torch,
    lambda torch, r: torch.distributions.Gamma(0 * r + 2, r.exp()),
)
CLOSED["bernoulli"] = of_one_family(1, Bernoulli, lambda torch, a: torch.distributions.Bernoulli(logits=a))
CLOSED["categorical"] = of_one_family(
    1, Categorical, lambda torch, a: torch.distributions.Categorical(logits=a)
)
closed = pytest.mark.parametrize("case", CLOSED.values(), ids=CLOSED)


def parameters_of(case):
    return [A, B][: case.parameters] + [C, D][: case.parameters]


def within_four_standard_errors(draws, expected, rounding=1e-10):
    error = draws.std(axis=0) / np.sqrt(len(draws))
    return np.all(abs(draws.mean(axis=0) - expected) <= 4 * error + rounding)


# Closed forms -------------------------------------------------------------------------------------


@given(reals, reals, reals, reals)
def test_normal_divergence_is_the_integral(mean, log_variance, other_mean, other_log_variance):
    p = Normal(np.array(mean), np.array(log_variance))
    q = Normal(np.array(other_mean), np.array(other_log_variance))
    sigma = np.exp(log_variance / 2)
    x = np.linspace(mean - 12 * sigma, mean + 12 * sigma, 4001)
    log_p = p.log_prob(x)
    expected = integrate.simpson(np.exp(log_p) * (log_p - q.log_prob(x)), x=x)
    assert kl_divergence(p, q) == pytest.approx(expected, rel=1e-8, abs=1e-9)


@given(reals, reals)
def test_bernoulli_divergence_is_the_sum(logit, other):
    p, q = Bernoulli(np.array(logit)), Bernoulli(np.array(other))
    x = np.array([0.0, 1.0])
    expected = (np.exp(p.log_prob(x)) * (p.log_prob(x) - q.log_prob(x))).sum()
    assert kl_divergence(p, q) == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_divergence_from_the_standard_normal_is_kingma_and_wellings():
    sigma2 = np.exp(B)
    expected = -0.5 * (1 + B - A**2 - sigma2)
    np.testing.assert_allclose(kl_divergence(Normal(A, B), Normal(0.0, 0.0)), expected, rtol=1e-12)


def test_categorical_divergence_from_the_uniform_is_the_missing_entropy():
    p = Categorical(A)
    expected = np.log(3) - p.entropy()
    np.testing.assert_allclose(kl_divergence(p, Categorical(np.zeros(3))), expected, rtol=1e-12)


@closed
def test_divergence_is_pytorchs_with_its_gradients(case):
    torch = pytest.importorskip("torch")
    here = [tg.Tensor(a, requires_grad=True) for a in parameters_of(case)]
    there = [torch.tensor(a, requires_grad=True) for a in parameters_of(case)]
    ours = kl_divergence(*case.pair(here))
    theirs = torch.distributions.kl_divergence(*case.torch_pair(torch, there))
    np.testing.assert_allclose(ours.data, theirs.detach(), rtol=1e-9, atol=1e-12)
    ours.sum().backward()
    theirs.sum().backward()
    for tensor, expected in zip(here, there):
        np.testing.assert_allclose(tensor.grad.data, expected.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "p, q",
    [(Beta(4, 2), Beta(1, 3)), (Beta(1, 1), Beta(5, 2)), (Dirichlet((1, 2, 3)), Dirichlet((4, 1, 2)))],
)
def test_divergence_of_integer_parameters_is_pytorchs(p, q):
    torch = pytest.importorskip("torch")
    theirs = [
        torch.distributions.Beta(*torch.tensor([p.alpha, p.beta]).double())
        if isinstance(p, Beta)
        else torch.distributions.Dirichlet(torch.tensor(p.alpha).double())
        for p in (p, q)
    ]
    assert kl_divergence(p, q) == pytest.approx(torch.distributions.kl_divergence(*theirs).item(), rel=1e-6)


@closed
def test_divergence_of_a_distribution_from_itself_is_zero(case):
    p = case.p(*[A, B][: case.parameters])
    assert not kl_divergence(p, p).any()


def test_uniform_divergence_is_infinite_where_the_support_is_left():
    p = Uniform(np.zeros(3), np.ones(3))
    got = kl_divergence(p, Uniform(np.array([-1.0, 0.5, 0.0]), np.array([1.0, 2.0, 1.0])))
    np.testing.assert_array_equal(got, [np.log(2), np.inf, 0])


# Monte Carlo --------------------------------------------------------------------------------------


@closed
def test_closed_forms_equal_monte_carlo(case, device):
    p, q = case.pair([xp.asarray(np.tile(a, (20_000, 1, 1))) for a in parameters_of(case)])
    estimates = to_host(monte_carlo_kl(p, q, 1, Generator(1)))
    assert within_four_standard_errors(estimates, to_host(kl_divergence(p, q))[0])
    entropies = to_host(monte_carlo_entropy(p, 1, Generator(2)))
    assert within_four_standard_errors(entropies, to_host(p.entropy())[0])


@pytest.mark.parametrize(
    "p, q",
    [(Beta(4, 2), Beta(1, 3)), (Beta(1, 1), Beta(5, 2)), (Dirichlet((1, 2, 3)), Dirichlet((4, 1, 2)))],
)
def test_closed_forms_of_integer_parameters_equal_monte_carlo(p, q):
    x = p.sample(Generator(1), (50_000,))
    assert within_four_standard_errors(p.log_prob(x) - q.log_prob(x), kl_divergence(p, q), 1e-6)
    assert within_four_standard_errors(-p.log_prob(x), p.entropy(), 1e-6)


def test_monte_carlo_is_the_mean_over_its_draws():
    p, q, draws = Logistic(A, B), Logistic(C, D), Generator(3)
    x = [p.sample(draws) for _ in range(3)]
    expected = np.mean([p.log_prob(x_k) - q.log_prob(x_k) for x_k in x], axis=0)
    np.testing.assert_allclose(monte_carlo_kl(p, q, 3, Generator(3)), expected, rtol=1e-12)
    expected = np.mean([-p.log_prob(x_k) for x_k in x], axis=0)
    np.testing.assert_allclose(monte_carlo_entropy(p, 3, Generator(3)), expected, rtol=1e-12)


def test_scalars_are_estimated_from_draws_of_their_own_for_each_element():
    zeros = np.zeros((2, 3), "float32")
    estimates = monte_carlo_kl(Normal(0.0, 0.0), Normal(zeros, 1.0), 2)
    assert estimates.shape == (2, 3)
    assert np.unique(estimates).size == 6
    assert monte_carlo_entropy(Normal(0.0, 0.0), 2).shape == ()


def test_gradients_go_through_draws_that_have_them():
    n = 20_000
    a, b, c, d = (tg.Tensor(np.full(n, x), requires_grad=True) for x in (0.5, -0.4, -0.2, 0.3))
    got = tg.grad(monte_carlo_kl(Normal(a, b), Normal(c, d), 1, Generator(4)).sum(), [a, b, c, d])
    expected = tg.grad(kl_divergence(Normal(a, b), Normal(c, d)).sum(), [a, b, c, d])
    for estimate, gradient in zip(got, expected):
        assert within_four_standard_errors(estimate.data, gradient.data[0])


def test_gradients_of_what_has_no_rsample_reach_q_alone():
    n = 20_000
    a, b = (tg.Tensor(np.full(n, x), requires_grad=True) for x in (0.5, -0.4))
    estimate = monte_carlo_kl(Bernoulli(a), Bernoulli(b), 1, Generator(5)).sum()
    (expected,) = tg.grad(kl_divergence(Bernoulli(a), Bernoulli(b)).sum(), b)
    estimate.backward()
    assert a.grad is None
    assert within_four_standard_errors(b.grad.data, expected.data[0])


def test_monte_carlo_serves_all_pairs_over_the_same_values():
    z = np.zeros((4000, 2))
    pairs = [
        (Gumbel(z, z), Logistic(z, z)),
        (Uniform(z, 1.0), Beta(2, 2)),
        (Mixture(z, Normal(z, z)), Normal(0.0, 0.0)),
        (GumbelSoftmax(z, 1.0), Dirichlet((1, 1))),
        (DiscretizedLogistic(z, z, 3), Categorical(np.zeros((4000, 2, 3)))),
    ]
    for p, q in pairs:
        estimates = monte_carlo_kl(p, q, 5, Generator(6))
        assert np.isfinite(estimates).all()
        assert estimates.mean() > -0.02
    assert abs(monte_carlo_kl(Mixture(z, Normal(z, z)), Normal(0.0, 0.0), 5).mean()) < 1e-12
    x = np.linspace(-5, 60, 10_001)
    log_ratio = stats.gumbel_r.logpdf(x) - stats.logistic.logpdf(x)
    expected = integrate.simpson(stats.gumbel_r.pdf(x) * log_ratio, x=x)
    assert within_four_standard_errors(monte_carlo_kl(*pairs[0], 1).ravel(), expected)


# Gradients and types ------------------------------------------------------------------------------


@closed
@settings(max_examples=10)
@given(shape=shapes, seed=st.integers(0, 99))
def test_gradients_of_closed_forms(case, shape, seed):
    arrays = np.random.default_rng(seed).uniform(-2, 2, (2 * case.parameters, *shape, 3))
    check_gradients(lambda *t: kl_divergence(*case.pair(t)), *arrays, order=2)


def test_gradients_of_the_divergence_from_the_standard_normal():
    check_gradients(lambda m, v: kl_divergence(Normal(m, v), Normal(0.0, 0.0)), A, B, order=2)


@closed
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3)])
def test_float32_stays_float32_forward_and_backward(case, shape, device):
    arrays = rng.normal(size=(2 * case.parameters, *shape)).astype("float32")
    tensors = [tg.Tensor(a, requires_grad=True) for a in arrays]
    p, q = case.pair(tensors)
    results = [kl_divergence(p, q), monte_carlo_kl(p, q, 2), monte_carlo_entropy(p, 2)]
    for result in results:
        assert result.dtype == "float32"
        assert result.shape == p.shape
    (results[0].sum() + results[1].sum()).backward()
    for tensor in tensors:
        assert tensor.grad.dtype == "float32"
        assert np.isfinite(tensor.grad.numpy()).all()


# What is refused ----------------------------------------------------------------------------------


def test_divergences_that_do_not_fit_are_refused():
    p = Normal(A, B)
    with pytest.raises(
        TypeError, match=r"expected two of one family.* got Normal and Bernoulli; .*monte_carlo"
    ):
        kl_divergence(p, Bernoulli(A))
    with pytest.raises(TypeError, match=r"expected two of one family.* got Logistic and Logistic"):
        kl_divergence(Logistic(A, B), Logistic(A, B))
    with pytest.raises(TypeError, match=r"expected two of one family.* got int and int"):
        kl_divergence(1, 2)
    for divergence, more in ((kl_divergence, ()), (monte_carlo_kl, (2,))):
        name = divergence.__name__
        with pytest.raises(ValueError, match=rf"{name}: q: expected shape \(2, 3\), got \(3,\)"):
            divergence(p, Normal(A[0], B[0]), *more)
        with pytest.raises(TypeError, match=rf"{name}: q: expected float64, got float32"):
            divergence(p, Normal(A.astype("float32"), 0.0), *more)
        with pytest.raises(ValueError, match=rf"{name}: q: expected values of shape \(2,\), got \(3,\)"):
            divergence(Dirichlet((1, 2)), Dirichlet((1, 2, 3)), *more)
    with pytest.raises(ValueError, match=r"kl_divergence: q: expected 3 categories, got 1"):
        kl_divergence(Categorical(A), Categorical(A[:, :1]))
    with pytest.raises(TypeError, match=r"monte_carlo_kl: q: expected a distribution, got float"):
        monte_carlo_kl(p, 0.0, 2)
    with pytest.raises(TypeError, match=r"monte_carlo_kl: p: expected a distribution, got int"):
        monte_carlo_kl(1, p, 2)
    for samples in (0, -1, 2.0, None):
        for estimate in (lambda s: monte_carlo_kl(p, p, s), lambda s: monte_carlo_entropy(p, s)):
            with pytest.raises(ValueError, match=rf"samples: expected an int of at least 1, got {samples}"):
                estimate(samples)
