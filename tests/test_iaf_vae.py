"""The VAE with a flow for its posterior: the density of its draws, bounds that hold, derivatives."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

import tinygen as tg
from tinygen import nn
from tinygen.backend import Generator, xp
from tinygen.gradients import check_gradients
from tinygen.models.flows import IAF, MAF
from tinygen.models.latent.iaf_vae import IAFVAE


def small_vae(size=3, latents=2, hidden=4, context=2, layers=2, scale=0.3):
    """In float64, with a flow that is not near to the identity."""
    encoder = nn.Sequential(nn.Linear(size, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latents + context))
    decoder = nn.Sequential(nn.Linear(latents, hidden), nn.Tanh(), nn.Linear(hidden, size))
    vae = IAFVAE(encoder, decoder, IAF(latents, [hidden], layers, context=context)).astype("float64")
    rng = np.random.default_rng(0)
    for tensor in vae.flow.parameters():
        tensor.data = tensor.numpy() + scale * rng.standard_normal(tensor.shape)
    return vae


def bits(n, size, seed=0):
    return (np.random.default_rng(seed).random((n, size)) < 0.5).astype("float64")


def test_draws_have_the_density_that_the_flow_inverted_gives():
    tg.seed(0)
    vae, x = small_vae(), bits(4, 3)
    z, log_q = vae.draw_posterior(x, 3, Generator(0))
    assert z.shape == (12, 2) and log_q.shape == (12,)
    q, h = vae._start(np.concatenate([x] * 3))
    z0, log_det = vae.flow(z.data, h)
    assert_allclose(log_q.data, (q.log_prob(z0.data).sum(axis=1) + log_det).data, rtol=1e-9)


def test_each_bound_is_below_the_log_likelihood_which_a_grid_gives():
    tg.seed(1)
    vae, x = small_vae(scale=0.1), bits(5, 3)
    last = vae.encoder.layers[-1]  # let q(z|x) be broad, so that weights do not vary much
    last.weight.data, last.bias.data = 0.2 * last.weight.data, np.array([0.0, 0.0, 0.3, 0.3, 0.0, 0.0])
    line = -8 + (np.arange(300) + 0.5) * 16 / 300
    z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    with tg.no_grad():
        log_prior = vae.prior().log_prob(z).sum(axis=1)
        decoded = vae.decode(z).mean.numpy()
        log_joint = [np.log(np.where(row == 1, decoded, 1 - decoded)).sum(axis=1) + log_prior for row in x]
        log_p = logsumexp(log_joint, axis=1) + 2 * math.log(16 / 300)
        elbo = vae.elbo(np.repeat(x, 4000, axis=0), Generator(0)).numpy().reshape(5, 4000)
        tight = vae.importance_weighted_bound(x, 20_000, Generator(1)).numpy()
    error = elbo.std(axis=1) / math.sqrt(4000)
    assert (elbo.mean(axis=1) + 4 * error < log_p).all()
    assert_allclose(tight, log_p, atol=0.05)


def test_a_flow_of_the_identity_leaves_the_plain_posterior():
    vae, x = small_vae(), bits(4, 3)
    for part in vae.flow.flows:
        network = part.flow.network
        network.layers[-1].weight.data = np.zeros(network.layers[-1].weight.shape)
        network.layers[-1].bias.data = np.zeros(network.layers[-1].bias.shape)
        of_h = network.of_context["parameters"].weight
        of_h.data = np.zeros(of_h.shape)
    z, log_q = vae.draw_posterior(x, 1, Generator(2))
    q = vae.encode(x)
    assert_array_equal(z.data, q.rsample(Generator(2)).data)
    assert_allclose(log_q.data, q.log_prob(z.data).sum(axis=1).data, rtol=1e-12)


@settings(max_examples=6)
@given(
    size=st.integers(1, 3),
    latents=st.integers(1, 2),
    context=st.integers(1, 2),
    layers=st.integers(1, 2),
    n=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_the_loss_passes_the_check_to_second_order(size, latents, context, layers, n, seed, device):
    tg.seed(seed)
    vae, x = small_vae(size, latents, 3, context, layers), xp.asarray(bits(n, size, seed))
    for part in vae.flow.flows:  # ReLU units far from their kinks
        for layer in part.flow.network.layers[:-1]:
            layer.weight.data, layer.bias.data = 0.1 * layer.weight.data, xp.asarray([4.0, -4.0, 4.0])
    check_gradients(lambda: vae.loss(x), params=vae, order=2)


def test_float32_and_a_batch_of_nothing():
    vae, x = small_vae().astype("float32"), bits(5, 3).astype("float32")
    assert vae.loss(x).dtype == vae.importance_weighted_bound(x, 2).dtype == "float32"
    vae.loss(x).backward()
    assert {p.grad.dtype for p in vae.parameters()} == {np.dtype("float32")}
    assert vae.elbo(x[:0]).shape == (0,) and vae.sample(4).shape == (4, 3)


def test_an_encoder_whose_output_does_not_fit_is_refused():
    vae = small_vae()
    vae.encoder = nn.Linear(3, 5).astype("float64")
    with pytest.raises(ValueError, match=r"encoder: expected float64\[N, 6\], got float64\[2, 5\]"):
        vae.loss(bits(2, 3))


def test_a_flow_without_context_is_a_posterior_too():
    tg.seed(0)
    vae, x = small_vae(context=0), bits(4, 3)
    assert vae.loss(x, Generator(0)).shape == () and vae.sample(2, Generator(0)).shape == (2, 3)


def test_values_outside_are_refused_before_the_encoder_sees_them():
    vae = small_vae()
    vae.encoder = None
    for call in (vae.loss, lambda x: vae.importance_weighted_bound(x, 2)):
        with pytest.raises(ValueError, match="IAFVAE: x: expected"):
            call(np.full((4, 3), 0.5))


def test_a_flow_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="IAFVAE: flow: expected an IAF, got MAF"):
        IAFVAE(nn.Linear(3, 4), nn.Linear(2, 3), MAF(2, [4]))
