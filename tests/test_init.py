"""How weights start: their spread, and that the seed decides them."""

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.nn import init


def test_the_seed_decides_the_weights():
    tg.seed(3)
    first = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3)).state_dict()
    tg.seed(3)
    tg.backend.default_generator().normal((5,))  # other draws do not matter
    second = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3)).state_dict()
    tg.seed(4)
    other = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3)).state_dict()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        assert name.endswith("bias") or not np.array_equal(first[name], other[name])
    assert not np.array_equal(nn.Linear(3, 4).weight.data, nn.Linear(3, 4).weight.data)


def test_weights_are_not_the_noise_of_the_same_seed():
    tg.seed(5)
    weights = init.he_normal((1, 1000)).ravel()
    for key in [(5,), (5, 0), (5, 1)]:
        noise = tg.backend.Generator(*key).normal((1000,))
        assert abs(np.corrcoef(weights, noise)[0, 1]) < 0.15


def test_initializers_have_the_published_spread():
    # Kernels 5×5 from 40 channels to 80: 1,000 inputs to an output, 2,000 outputs to an input.
    weights = init.glorot_uniform((5, 5, 40, 80))
    bound = np.sqrt(6 / (1000 + 2000))
    assert weights.dtype == "float32"
    assert 0.999 * bound < weights.max() <= bound
    assert -bound <= weights.min() < -0.999 * bound
    assert weights.var() == pytest.approx(2 / (1000 + 2000), rel=0.02)
    weights = init.he_normal((5, 5, 40, 80))
    assert weights.dtype == "float32"
    assert weights.std() == pytest.approx(np.sqrt(2 / 1000), rel=0.02)
    assert weights.mean() == pytest.approx(0, abs=4 * weights.std() / np.sqrt(weights.size))


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (2, 3, 4, 5), (1, 1, 2, 6), (1, 1)])
def test_orthogonal_matrices_are_orthogonal(shape):
    weights = init.orthogonal(shape)
    assert weights.shape == shape
    assert weights.dtype == "float32"
    matrix = weights.reshape(-1, shape[-1]).astype("float64")
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-6)


def test_orthogonal_matrices_are_spread_evenly():
    # Of uniform 2×2 orthogonal matrices the first column is a uniform direction, and half are rotations.
    tg.seed(0)
    draws = np.stack([init.orthogonal((2, 2)) for _ in range(2000)])
    angles = np.arctan2(draws[:, 1, 0], draws[:, 0, 0])
    counts, _ = np.histogram(angles, bins=8, range=(-np.pi, np.pi))
    assert ((counts - 250) ** 2 / 250).sum() < 24.3  # chi-squared with 7 degrees of freedom, p = 0.001
    assert abs((np.linalg.det(draws) > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_normal_has_the_deviation_asked_for():
    weights = init.normal(0.02)((100, 200))
    assert weights.dtype == "float32"
    assert weights.std() == pytest.approx(0.02, rel=0.02)
    assert weights.mean() == pytest.approx(0, abs=4 * 0.02 / np.sqrt(weights.size))
    assert nn.Embedding(200, 100).weight.data.std() == pytest.approx(1, rel=0.02)
    assert nn.Embedding(200, 100, init=init.normal(0.1)).weight.data.std() == pytest.approx(0.1, rel=0.02)


def test_layers_start_by_their_initializer_with_biases_at_zero():
    layers = [nn.Linear(40, 80, init=init.he_normal), nn.Conv2d(40, 80, 5, init=init.he_normal)]
    layers.append(nn.ConvTranspose2d(40, 80, 5, init=init.he_normal))
    layers.append(nn.Conv1d(40, 80, 5, init=init.he_normal))
    for layer, fan_in in zip(layers, [40, 1000, 1000, 200]):
        assert layer.weight.data.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)
        assert not layer.bias.data.any()
    assert abs(nn.Linear(40, 80).weight.data).max() <= np.sqrt(6 / 120)
