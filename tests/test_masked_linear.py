"""Masked linear layers: what is masked, and what is left out where blocks of a mask are zero."""

from functools import partial
from unittest import mock

import numpy as np
import pytest
from autoregressive import computes_in_float32
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.backend import Generator
from tinygen.gradients import check_gradients
from tinygen.models.autoregressive.made import MADE
from tinygen.nn import masked_linear
from tinygen.ops.blocks import staircase

RNG = np.random.default_rng(0)


def array(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


sizes = st.integers(0, 3), st.integers(1, 3), st.integers(1, 3)


@given(*sizes, st.booleans())
def test_masked_linear(n, inputs, outputs, all_dead):
    mask = RNG.random((inputs, outputs)) < (0 if all_dead else 0.5)
    layer = nn.MaskedLinear(mask).astype("float64")
    x = array(n, inputs, dtype="float64")
    np.testing.assert_allclose(layer(x).data, x @ (layer.weight.data * mask) + layer.bias.data, atol=1e-14)
    check_gradients(lambda x: layer(x) ** 2, x, params=layer, order=2)
    (w_bar,) = tg.grad((layer(x) ** 2).sum(), layer.weight)
    assert not w_bar.data[~mask].any()
    assert (layer.weight.data != 0).all()


def test_a_mask_is_state_that_can_be_replaced():
    layer = nn.MaskedLinear(np.eye(2))
    assert list(layer.state_dict()) == ["mask", "weight", "bias"]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    weight = layer.weight.numpy()
    layer.mask.data = 1 - np.eye(2)
    np.testing.assert_array_equal(layer(np.eye(2, dtype="float32")).data, weight * (1 - np.eye(2)))


def test_masks_of_a_chain_compose_as_matrices():
    """An output depends on an input if a path of ones leads there."""
    masks = [RNG.random(shape) < 0.4 for shape in [(5, 6), (6, 7), (7, 4)]]
    model = nn.Sequential(*map(nn.MaskedLinear, masks))
    for layer in model.layers:
        layer.weight.data = np.abs(layer.weight.numpy()) + 0.1
    jacobian = model(np.eye(5, dtype="float32")).data  # of a linear map
    np.testing.assert_array_equal(jacobian != 0, (masks[0] @ masks[1] @ masks[2]))


# In blocks ----------------------------------------------------------------------------------------------


def in_blocks(mask, side=2, **options):
    """The layer with blocks of few rows, as only large masks have them otherwise."""
    with mock.patch.object(masked_linear, "staircase", partial(staircase, side=side)):
        return nn.StaircaseLinear(mask, **options)


@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_leaving_out_blocks_changes_nothing(batch, inputs, outputs, bias, in_order, seed):
    degrees = (np.random.default_rng(seed).integers(0, 5, size) for size in (inputs, outputs))
    before, after = map(np.sort, degrees) if in_order else degrees
    mask = before[:, None] <= after
    layers = [make(mask, bias=bias) for make in (in_blocks, nn.MaskedLinear)]
    for layer in layers:
        layer.astype("float64")
    left_out, whole = layers
    whole.weight.data = left_out.matrix(left_out.weight.data)
    x = array(*batch, inputs, dtype="float64")
    np.testing.assert_allclose(left_out(x).data, whole(x).data, atol=1e-14)
    check_gradients(lambda x: left_out(x) ** 2, x, params=left_out, order=2)
    gradients = [tg.grad((layer(x) ** 2).sum(), layer.weight)[0].data for layer in layers]
    np.testing.assert_allclose(left_out.matrix(gradients[0]), gradients[1], atol=1e-12)
    assert not gradients[0][left_out.mask.data == 0].any()


def test_blocks_start_from_the_weights_of_the_whole_layer_and_take_less_memory():
    layers = []
    for make in (in_blocks, nn.MaskedLinear):
        tg.seed(0)
        layers.append(make(np.triu(np.ones((8, 8)))))
    left_out, whole = layers
    kept = left_out.matrix(left_out.mask.data) != 0
    np.testing.assert_array_equal(left_out.matrix(left_out.weight.data)[kept], whole.weight.data[kept])
    assert left_out.weight.shape == left_out.mask.shape == (2 * (8 + 6 + 4 + 2),)


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("make", [in_blocks, nn.MaskedLinear])
def test_float32_and_empty_batches(device, make, n):
    computes_in_float32(make(np.tri(5)), array(n, 5))


# In MADE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, nn.StaircaseLinear),
        ({"order": "reversed", "direct": True}, nn.StaircaseLinear),
        ({"order": "random"}, nn.StaircaseLinear),
        ({"degrees": "random"}, nn.MaskedLinear),
        ({"degrees": "random", "variants": 2}, nn.MaskedLinear),
    ],
)
def test_large_sorted_masks_are_in_blocks(options, kind):
    network = MADE(400, [330, 340], **options).network
    assert type(network.layers[0]) is kind and (network.direct is None or type(network.direct) is kind)
    small = MADE(400, [255], **options).network
    assert all(type(layer) is nn.MaskedLinear for layer in small.layers)


@pytest.mark.parametrize("order", ["natural", "reversed", "random"])
def test_made_in_blocks_is_made(order):
    """Loss, gradients, samples and completions, against a model whose layers are whole."""
    models = []
    for pays in (nn.StaircaseLinear.pays, lambda mask: False):
        tg.seed(0)
        with mock.patch.object(nn.StaircaseLinear, "pays", staticmethod(pays)):
            models.append(MADE(400, [400], order=order, direct=True))
    x = (RNG.random((7, 400)) < 0.5).astype("float32")
    losses = [made.loss(x) for made in models]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for loss in losses:
        loss.backward()
    for ours, whole in zip(*([*made.network.layers, made.network.direct] for made in models)):
        assert ours.weight.size < 0.8 * whole.weight.size
        gradient = ours.matrix(ours.weight.grad.data)
        np.testing.assert_allclose(gradient, whole.weight.grad.data, rtol=1e-3, atol=1e-6)
    samples = [made.sample(5, rng=Generator(1)) for made in models]
    np.testing.assert_array_equal(*samples)
    np.testing.assert_array_equal(models[0].sample_naively(5, rng=Generator(1)), samples[0])


def test_units_in_any_order_are_sorted_into_a_staircase():
    degrees = RNG.permutation(400)
    for before, after in [(degrees, degrees), (np.sort(degrees), degrees), (degrees[::-1], np.sort(degrees))]:
        layer = nn.StaircaseLinear(before[:, None] <= after)
        assert layer.weight.size < 0.8 * 400**2
        np.testing.assert_array_equal(layer.matrix(layer.mask.data), before[:, None] <= after)
    sorted_already = nn.StaircaseLinear(np.triu(np.ones((9, 9), "uint8")))
    assert not any(part.size for part in (*sorted_already.order_in, *sorted_already.order_out))
    assert layer.matrix(layer.weight.data).flags.f_contiguous  # as the sampler takes it


def test_a_saved_order_goes_with_its_weights():
    """The model that loads had another random order when it was made."""
    tg.seed(0)
    saved, other = (MADE(400, [400], order="random") for _ in range(2))
    assert saved.network.order() != other.network.order()
    assert all(type(layer) is nn.StaircaseLinear for layer in saved.network.layers)
    other.load_state_dict(saved.state_dict())
    x = (RNG.random((5, 400)) < 0.5).astype("float32")
    np.testing.assert_array_equal(other.log_prob(x).data, saved.log_prob(x).data)
    np.testing.assert_array_equal(other.sample(4, rng=Generator(0)), saved.sample(4, rng=Generator(0)))
    for strict in (True, False):  # one whose layers are sorted already has no place for the order
        with pytest.raises(ValueError, match="order_in"):
            MADE(400, [400]).load_state_dict(saved.state_dict(), strict=strict)


def test_repr():
    assert repr(nn.MaskedLinear(np.ones((2, 3)))) == "MaskedLinear(2, 3)"
    assert repr(nn.StaircaseLinear(np.ones((2, 3)), bias=False)) == "StaircaseLinear(2, 3, bias=False)"


@pytest.mark.parametrize("kind", [nn.MaskedLinear, nn.StaircaseLinear])
def test_refusals_name_layer_argument_expected_and_got(kind):
    for mask, words in [
        (np.ones(3), ["mask", "(inputs, outputs)", "[3]"]),
        (np.full((2, 2), 0.5), ["mask", "zeros and ones", "[2, 2]"]),
        (np.ones((0, 2)), ["mask", "[0, 2]"]),
    ]:
        with pytest.raises(ValueError) as caught:
            kind(mask)
        assert all(word in str(caught.value) for word in [kind.__name__, *words])
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(2, 3\): x: expected float32\[..., 2\], got"):
        kind(np.ones((2, 3)))(array(4, 3))
