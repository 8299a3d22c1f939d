"""PixelCNN++: what a block makes of its convolutions; and the probabilities of all 3x3 images."""

import numpy as np
import pytest
from autoregressive import every_image, shaken
from numpy.testing import assert_allclose
from scipy.special import expit

import tinygen as tg
from tinygen.models.autoregressive.pixelcnn_pp import GatedBlock, PixelCNNPlusPlus, concat_elu


def convolutions_of(block, h, beside):
    """What goes into each convolution of a block and what comes out; and what the block returns."""
    calls = []

    def convolve(layer, x):
        calls.append((x.numpy(), layer(x).numpy()))
        return tg.Tensor(calls[-1][1])

    return calls, block(tg.Tensor(h), [tg.Tensor(b) for b in beside], convolve).numpy()


@pytest.fixture
def maps():
    """h, and what is beside it."""
    return np.random.default_rng(0).standard_normal((2, 5, 4, 6, 3))


def test_a_block_adds_one_half_of_its_channels_gated_by_the_other(maps):
    h, beside = maps
    block = shaken(GatedBlock(3, right=0, beside=3, dropout=0.0)).astype("float64")
    (_, (_, found)), y = convolutions_of(block, h, [beside])
    a, b = np.split(found, 2, axis=-1)
    assert_allclose(y, h + a * expit(b), rtol=1e-12)


def test_dropout_comes_after_concat_elu(maps):
    """A feature may be dropped without its negative; what is kept is doubled."""
    h, _ = maps
    tg.seed(0)
    block = shaken(GatedBlock(3, right=0, beside=0, dropout=0.5)).astype("float64")
    ((_, features), (seen, _)), _ = convolutions_of(block, h, [])
    kept = seen != 0
    assert_allclose(seen[kept], 2 * concat_elu(features)[kept], rtol=1e-12)
    positive, negative = np.split(kept, 2, axis=-1)
    assert abs((positive & negative).mean() - 0.25) < 0.1


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_probabilities_of_all_binary_3x3_images_sum_to_1(blocks):
    made = PixelCNNPlusPlus((3, 3, 1), 2, components=2, filters=3, blocks=blocks, resolutions=1, dropout=0.0)
    log_p = shaken(made, 0.4).astype("float64").log_prob(every_image(2, made.shape))
    assert np.exp(log_p.numpy()).sum() == pytest.approx(1, abs=1e-10)
