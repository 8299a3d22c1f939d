"""The VAE against analytic truth: a linear-Gaussian VAE is probabilistic PCA, where everything is closed.

With decoder mean z Wᵀ + b and variance σ² the marginal is p(x) = N(x; b, W Wᵀ + σ² I), and the posterior is
N(z; M⁻¹ Wᵀ (x − b), σ² M⁻¹), M = Wᵀ W + σ² I (M. Tipping and C. Bishop, Probabilistic Principal Component
Analysis, 1999). For orthogonal columns of W its covariance is diagonal, so that a VAE's encoder can be exact.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

import tinygen as tg
from tinygen import nn
from tinygen.backend import Generator, xp
from tinygen.gradients import check_gradients
from tinygen.models.latent.vae import VAE

D, K, SIGMA2 = 5, 2, 0.3


class Affine(nn.Module):
    """x A + c, with given arrays."""

    def __init__(self, weight, bias):
        self.weight = tg.Tensor(weight, requires_grad=True)
        self.bias = tg.Tensor(bias, requires_grad=True)

    def forward(self, x):
        return tg.ops.linear(x, self.weight, self.bias)


@pytest.fixture
def ppca():
    """(VAE whose encoder is the exact posterior, x (40, D), log p(x) (40,))."""
    rng = np.random.default_rng(1)
    columns, _ = np.linalg.qr(rng.standard_normal((D, K)))
    w, b = columns * [1.5, 0.7], rng.standard_normal(D)
    m = w.T @ w + SIGMA2 * np.eye(K)
    assert np.allclose(m, np.diag(np.diag(m)))
    to_mean = w @ np.linalg.inv(m)  # x − b to the posterior mean
    encoder = Affine(
        np.hstack([to_mean, np.zeros((D, K))]),
        np.concatenate([-b @ to_mean, np.log(SIGMA2 / np.diag(m))]),
    )
    vae = VAE(encoder, Affine(w.T.copy(), b), K, "gaussian").astype("float64")
    vae.log_variance.data = np.float64(math.log(SIGMA2))
    marginal = multivariate_normal(b, w @ w.T + SIGMA2 * np.eye(D))
    x = marginal.rvs(40, random_state=rng)
    return vae, x, marginal.logpdf(x)


def draws(bound, n):
    """n estimates of a bound for the same examples, by different noise: (n, N)."""
    with tg.no_grad():
        return np.stack([bound(Generator(seed)).numpy() for seed in range(n)])


def mean_and_error(values):
    """Of the mean over examples: its average over the draws, and the standard error of that."""
    means = values.mean(axis=1)
    return means.mean(), means.std(ddof=1) / math.sqrt(len(means))


def test_at_the_exact_posterior_the_elbo_is_the_log_likelihood(ppca):
    vae, x, log_p = ppca
    mean, error = mean_and_error(draws(lambda rng: vae.elbo(x, rng), 2000))
    assert abs(mean - log_p.mean()) < 4 * error
    assert error < 0.02


def test_at_the_exact_posterior_every_importance_weight_is_the_likelihood(ppca):
    # p(x, z) / q(z|x) = p(x) for every z: no noise is left at all.
    vae, x, log_p = ppca
    for samples in (1, 7):
        bound = vae.importance_weighted_bound(x, samples, Generator(0)).numpy()
        assert np.allclose(bound, log_p, rtol=1e-10)


@pytest.mark.parametrize("change", ["mean", "variance"])
def test_with_another_encoder_the_elbo_stays_below_by_the_divergence(ppca, change):
    vae, x, log_p = ppca
    shift = np.zeros(2 * K)
    if change == "mean":
        shift[:K] = 0.4
        variance = np.exp(vae.encoder.bias.data[K:])
        divergence = 0.5 * np.sum(0.4**2 / variance)  # KL(q ‖ posterior), both Gaussian
    else:
        shift[K:] = 0.8
        divergence = K * 0.5 * (math.exp(0.8) - 1 - 0.8)
    vae.encoder.bias.data = vae.encoder.bias.data + shift
    mean, error = mean_and_error(draws(lambda rng: vae.elbo(x, rng), 4000))
    assert abs(mean - (log_p.mean() - divergence)) < 4 * error
    assert mean + 4 * error < log_p.mean()


def test_the_importance_weighted_bound_rises_towards_the_log_likelihood(ppca):
    vae, x, log_p = ppca
    vae.encoder.bias.data = vae.encoder.bias.data + np.array([0.3] * K + [0.5] * K)
    bounds = [
        mean_and_error(draws(lambda rng, k=k: vae.importance_weighted_bound(x, k, rng), 300))
        for k in (1, 5, 50)
    ]
    elbo = mean_and_error(draws(lambda rng: vae.elbo(x, rng), 300))
    assert abs(bounds[0][0] - elbo[0]) < 4 * (bounds[0][1] + elbo[1])
    for (low, low_error), (high, high_error) in zip(bounds, bounds[1:]):
        assert low + 4 * low_error < high - 4 * high_error
    assert bounds[-1][0] < log_p.mean() + 4 * bounds[-1][1]
    assert log_p.mean() - bounds[-1][0] < 0.1


def test_the_encoder_that_forgets_the_half_overshoots(ppca):
    # A known fault of teaching code: z = μ + σ² ε in place of σ ε. The bound then fails: it exceeds log p.
    vae, x, log_p = ppca
    q = vae.encode(x)

    def wrong_elbo(rng):
        z = q.mean + q.variance * rng.normal(q.mean.shape, "float64")
        log_likelihood = vae.decode(z).log_prob(x).sum(axis=1)
        return log_likelihood - tg.distributions.kl_divergence(q, vae.prior()).sum(axis=1)

    mean, error = mean_and_error(draws(wrong_elbo, 500))
    assert mean - 4 * error > log_p.mean()


def small_vae(likelihood, shape, hidden, latents):
    size = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latents))
    decoder = nn.Sequential(nn.Linear(latents, hidden), nn.Tanh(), nn.Linear(hidden, size), nn.Reshape(shape))
    return VAE(encoder, decoder, latents, likelihood)


@settings(max_examples=8)
@given(
    likelihood=st.sampled_from(["bernoulli", "gaussian"]),
    shape=st.sampled_from([(2, 2, 1), (3,), (2, 1, 2)]),
    hidden=st.integers(1, 3),
    latents=st.integers(1, 2),
    n=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_the_loss_and_the_bound_pass_the_check_to_second_order(
    likelihood, shape, hidden, latents, n, seed, device
):
    tg.seed(seed)
    vae = small_vae(likelihood, shape, hidden, latents).astype("float64")
    x = xp.asarray((np.random.default_rng(seed).random((n, *shape)) < 0.5).astype("float64"))
    check_gradients(lambda: vae.loss(x), params=vae, order=2)
    check_gradients(lambda: vae.importance_weighted_bound(x, 2), params=vae, order=1)


def test_a_convolutional_vae_passes_the_check(device):
    tg.seed(0)
    encoder = nn.Sequential(nn.Conv2d(1, 2, 4, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2))
    decoder = nn.Sequential(
        nn.Linear(1, 8), nn.Reshape((2, 2, 2)), nn.Tanh(), nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1)
    )
    vae = VAE(encoder, decoder, 1).astype("float64")
    x = xp.asarray((np.random.default_rng(0).random((2, 4, 4, 1)) < 0.5).astype("float64"))
    check_gradients(lambda: vae.loss(x), params=vae, order=2)


def test_shapes_and_dtypes():
    vae = small_vae("bernoulli", (2, 3, 1), hidden=4, latents=2)
    x = np.zeros((5, 2, 3, 1), "float32")
    for value, shape in [
        (vae.elbo(x), (5,)),
        (vae.importance_weighted_bound(x, 3), (5,)),
        (vae.loss(x), ()),
        (vae.decode(np.zeros((4, 2), "float32")).mean, (4, 2, 3, 1)),
        (vae.encode(x).mean, (5, 2)),
        (vae.sample(7), (7, 2, 3, 1)),
    ]:
        assert value.shape == shape and value.dtype == "float32"
    vae.loss(x).backward()
    assert all(p.grad.dtype == "float32" and p.grad.shape == p.shape for p in vae.parameters())
    assert vae.elbo(x[:0]).shape == (0,)
    assert isinstance(vae.sample(1), np.ndarray) and set(np.unique(vae.sample(20))) <= {0.0, 1.0}


def test_noise_is_a_function_of_the_generator():
    vae = small_vae("gaussian", (3,), hidden=2, latents=2)
    x = np.ones((4, 3), "float32")
    assert vae.loss(x, Generator(1)).item() == vae.loss(x, Generator(1)).item()
    assert vae.loss(x, Generator(1)).item() != vae.loss(x, Generator(2)).item()
    assert np.array_equal(vae.sample(3, Generator(1)), vae.sample(3, Generator(1)))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="likelihood: expected 'bernoulli' or 'gaussian', got 'poisson'"):
        small_vae("poisson", (3,), 2, 2)
    vae = small_vae("bernoulli", (3,), 2, 2)
    with pytest.raises(ValueError, match="samples: expected at least 1, got 0"):
        vae.importance_weighted_bound(np.zeros((1, 3), "float32"), 0)
    with pytest.raises(ValueError, match="expected zeros and ones"):
        vae.loss(np.full((1, 3), 0.5, "float32"))
    with pytest.raises(ValueError, match=r"Linear\(3, 2\)"):
        vae.loss(np.zeros((1, 4), "float32"))


def test_training_finds_the_optimum_of_the_linear_model():
    # The best linear VAE is probabilistic PCA: its mean log-likelihood is known from the eigenvalues.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2)) @ rng.standard_normal((2, 4)) + 0.5 * rng.standard_normal((400, 4))
    x = (x - x.mean(axis=0)).astype("float32")
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    sigma2 = eigenvalues[2:].mean()
    optimum = -0.5 * (4 * math.log(2 * math.pi) + np.log(eigenvalues[:2]).sum() + 2 * math.log(sigma2) + 4)

    tg.seed(0)
    vae = VAE(nn.Linear(4, 4), nn.Linear(2, 4), 2, "gaussian")
    optimizer = tg.optim.Adam(vae.parameters(), lr=1e-2)
    for step in range(1500):
        loss = vae.loss(x, Generator(0, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mean, error = mean_and_error(draws(lambda rng: vae.elbo(x, rng), 200))
    assert optimum - 0.03 < mean < optimum + 4 * error
