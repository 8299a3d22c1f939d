"""Batch and layer normalization: closed forms, PyTorch, derivatives, running statistics, refusals."""

import itertools

import numpy as np
import pytest
import strict_cupy
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.gradients import check_gradients
from tinygen.ops.normalization import standardize

SEED = np.random.default_rng(0)
SHAPES = [(7, 3), (2, 5, 3), (2, 4, 5, 3)]
few = settings(max_examples=15)
some = st.integers(1, 3)


def array(*shape, dtype="float32"):
    return SEED.normal(size=shape).astype(dtype)


def spread(*shape):
    """A float64 array whose rows and columns, of three elements or more, have a variance away from 0."""
    n, count = shape[-1], int(np.prod(shape[:-1]))
    grid = np.linspace(-1, 1, count)[:, None] + np.linspace(-1, 1, n)
    return (SEED.permuted(SEED.permuted(grid, axis=0), axis=1) + SEED.uniform(-0.1, 0.1, grid.shape)).reshape(
        shape
    )


def standardized(x, axis):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


def moved(layer):
    """The layer in float64, with other weights and biases than it starts with."""
    layer.astype("float64")
    layer.weight.data, layer.bias.data = 1 + 0.3 * array(*layer.weight.shape), array(*layer.bias.shape)
    return layer


# What they compute --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_standardizes_features(workspace, shape):
    layer, x = moved(nn.BatchNorm(3)), 3 + 2 * array(*shape, dtype="float64")
    expected = standardized(x, tuple(range(len(shape) - 1))) * layer.weight.data + layer.bias.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-12, atol=1e-12)


@given(st.lists(some, max_size=3), st.lists(some, min_size=1, max_size=3).map(tuple))
def test_layer_norm_standardizes_each_example(batch, shape):
    layer, x = moved(nn.LayerNorm(shape)), 3 + 2 * array(*batch, *shape, dtype="float64")
    axis = tuple(range(-len(shape), 0))
    expected = standardized(x, axis) * layer.weight.data + layer.bias.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-9, atol=1e-9)


def test_layer_norm_of_a_size_is_that_of_the_last_axis():
    x = array(4, 2, 3)
    np.testing.assert_array_equal(nn.LayerNorm(3)(x).data, nn.LayerNorm((3,))(x).data)
    assert repr(nn.LayerNorm((3,))) == "LayerNorm(3)"
    assert repr(nn.LayerNorm((2, 3))) == "LayerNorm((2, 3))"


def test_features_far_from_zero_keep_their_precision():
    x = 1000 + SEED.normal(size=(10_000, 4))
    layer = nn.BatchNorm(4, momentum=1)
    np.testing.assert_allclose(layer(x.astype("float32")).data, standardized(x, 0), atol=5e-3)
    np.testing.assert_allclose(layer.eval()(x.astype("float32")).data, standardized(x, 0), atol=5e-3)


def test_features_that_never_change_have_gradients_in_half_precision():
    x = tg.Tensor(np.array([[3, 1], [3, 2], [3, 0]], "float16"), requires_grad=True)
    nn.BatchNorm(2).astype("float16")(x).backward(np.array([[1, 1], [2, 2], [0, 0]], "float16"))
    np.testing.assert_allclose(x.grad.data, [[0, 0], [316, 0], [-316, 0]], atol=0.5)


# PyTorch ------------------------------------------------------------------------------------------------


def channels_first(torch, x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy(), requires_grad=True)


def channels_last(u):
    return np.moveaxis(u.detach().numpy(), 1, -1)


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_equals_pytorch_in_training_and_evaluation(shape, momentum):
    torch = pytest.importorskip("torch")
    ours = moved(nn.BatchNorm(3, momentum))
    theirs = (torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d)(
        3, momentum=momentum
    ).double()
    theirs.weight.data, theirs.bias.data = torch.tensor(ours.weight.numpy()), torch.tensor(ours.bias.numpy())
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x, g, h = (array(*shape, dtype="float64") for _ in range(3))
        t, u = tg.Tensor(2 + x, requires_grad=True), channels_first(torch, 2 + x)
        y, v = ours(t), theirs(u)
        np.testing.assert_allclose(y.data, channels_last(v), rtol=1e-9, atol=1e-11)

        first = tg.grad(y, [t, ours.weight, ours.bias], g, create_graph=True)
        expected = torch.autograd.grad(
            v, [u, theirs.weight, theirs.bias], channels_first(torch, g), create_graph=True
        )
        np.testing.assert_allclose(first[0].data, channels_last(expected[0]), rtol=1e-9, atol=1e-11)
        for computed, exact in zip(first[1:], expected[1:]):
            np.testing.assert_allclose(computed.data, exact.detach().numpy(), rtol=1e-9, atol=1e-11)

        second = tg.grad(first[0], [t, ours.weight], h, allow_unused=True)
        expected = torch.autograd.grad(
            expected[0], [u, theirs.weight], channels_first(torch, h), allow_unused=True
        )
        np.testing.assert_allclose(second[1].data, expected[1].numpy(), rtol=1e-9, atol=1e-11)
        if training:  # in evaluation the layer is linear
            np.testing.assert_allclose(second[0].data, channels_last(expected[0]), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(ours.running_mean.data, theirs.running_mean.numpy(), rtol=1e-12)
        np.testing.assert_allclose(ours.running_variance.data, theirs.running_var.numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 2, 4)])
def test_layer_norm_equals_pytorch(shape):
    torch = pytest.importorskip("torch")
    ours, theirs = moved(nn.LayerNorm(shape)), torch.nn.LayerNorm(shape).double()
    theirs.weight.data, theirs.bias.data = torch.tensor(ours.weight.numpy()), torch.tensor(ours.bias.numpy())
    x, g = array(5, *shape, dtype="float64"), array(5, *shape, dtype="float64")
    t, u = tg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, v = ours(t), theirs(u)
    y.backward(g)
    v.backward(torch.tensor(g))
    pairs = [(y, v.detach()), (t.grad, u.grad)]
    pairs += [(ours.weight.grad, theirs.weight.grad), (ours.bias.grad, theirs.bias.grad)]
    for computed, expected in pairs:
        np.testing.assert_allclose(computed.data, expected.numpy(), rtol=1e-9, atol=1e-11)


# Derivatives --------------------------------------------------------------------------------------------


@few
@given(st.integers(3, 6), st.lists(some, max_size=2), some, st.booleans())
def test_gradients_of_batch_norm_of_drawn_sizes(n, between, features, training):
    layer = moved(nn.BatchNorm(features)).train(training)
    check_gradients(layer, spread(n, *between, features), params=layer, order=2)


@few
@given(st.integers(0, 3), st.lists(some, max_size=2), st.integers(3, 5))
def test_gradients_of_layer_norm_of_drawn_sizes(n, between, features):
    layer = moved(nn.LayerNorm((*between, features)))
    x = np.stack(
        [spread(*between, 1, features).reshape(*between, features) for _ in range(n)] or [np.zeros(0)]
    )
    check_gradients(layer, x.reshape(n, *between, features), params=layer, order=2)


def test_gradients_of_a_network_with_batch_norm():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3), nn.Tanh(), nn.Linear(3, 1)).astype("float64")
    check_gradients(model, spread(6, 2), params=model, order=2)
    # A constant that is added before it changes nothing.
    (bias,) = tg.grad((model(array(6, 2, dtype="float64")) ** 2).sum(), model.layers[0].bias)
    np.testing.assert_allclose(bias.data, 0, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_standardize_gives_mean_and_variance_with_gradients(axis):
    x, g = spread(4, 3), array(4, 3, dtype="float64")
    y, mean, variance = standardize(x, axis, 0.1)
    np.testing.assert_allclose(mean, x.mean(axis, keepdims=True), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(variance, x.var(axis, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 0.1), rtol=1e-12, atol=1e-14)
    check_gradients(lambda x: standardize(x, axis, 0.1)[0], x, order=2)
    check_gradients(lambda x: standardize(x, axis, 0.1)[1], x, order=2)
    check_gradients(lambda x: standardize(x, axis, 0.1)[2], x, order=2)

    t = tg.Tensor(x, requires_grad=True)
    composed = (t - t.mean(axis, keepdims=True)) * (t.var(axis, keepdims=True) + 0.1) ** -0.5
    (expected,) = tg.grad(composed, t, g)
    (computed,) = tg.grad(standardize(t, axis, 0.1)[0], t, g)
    np.testing.assert_allclose(computed.data, expected.data, rtol=1e-10, atol=1e-12)


WIDE_AND_NARROW = [(48, 64), (30, 100), (37, 64), (3, 2000), (2048, 1), (1, 3)]


@pytest.mark.parametrize(
    "shape, axis",
    [*itertools.product(WIDE_AND_NARROW, (0, 1)), ((0, 5), 1), ((5, 0), 0)],
)
def test_standardize_of_wide_and_narrow_matrices(workspace, shape, axis):
    x, g = array(*shape, dtype="float64"), array(*shape, dtype="float64")
    for order in "CF":
        t = tg.Tensor(np.array(x, order=order), requires_grad=True)
        computed = standardize(t, axis, 0.1)[0]
        composed = (t - t.mean(axis, keepdims=True)) * (t.var(axis, keepdims=True) + 0.1) ** -0.5
        np.testing.assert_allclose(computed.data, composed.data, rtol=1e-10, atol=1e-12)
        (found,), (expected,) = tg.grad(computed, t, g), tg.grad(composed, t, g)
        np.testing.assert_allclose(found.data, expected.data, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("x, axis", [(array(3), 0), (array(2, 2, 2), 0), (array(0, 2), 0), (array(2, 0), 1)])
def test_standardize_refuses_what_has_no_moments(x, axis):
    with pytest.raises(
        ValueError, match=rf"standardize: x: expected a matrix .* along axis {axis}, got shape"
    ):
        standardize(x, axis, 0.1)


@pytest.mark.parametrize(
    "layer, shape",
    [(nn.BatchNorm(3), (4, 3)), (nn.BatchNorm(3).eval(), (4, 3)), (nn.LayerNorm((4, 3)), (2, 4, 3))],
)
def test_float32_stays_float32(layer, shape):
    x = tg.Tensor(array(*shape), requires_grad=True)
    y = layer(x)
    (gradient,) = tg.grad((y * y).sum(), x, create_graph=True)
    (gradient * gradient).sum().backward()
    assert y.dtype == gradient.dtype == x.grad.dtype == layer.weight.grad.dtype == "float32"
    assert all(value.dtype == "float32" for value in layer.state_dict().values())


# Running statistics -------------------------------------------------------------------------------------


def test_running_statistics_move_in_training_only():
    layer = nn.BatchNorm(2)
    start = layer.state_dict()
    np.testing.assert_array_equal(start["running_mean"], [0, 0])
    np.testing.assert_array_equal(start["running_variance"], [1, 1])

    def unchanged():
        return all(np.array_equal(value, start[name]) for name, value in layer.state_dict().items())

    x = array(5, 2)
    layer.eval()(x)
    assert unchanged()
    layer.train()
    with nn.frozen_state():
        y = layer(x)
    assert unchanged()
    with tg.no_grad():
        np.testing.assert_array_equal(layer(x).data, y.data)
    np.testing.assert_allclose(layer.running_mean.data, 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_variance.data, 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert not layer.running_mean.requires_grad


def test_running_statistics_reach_those_of_the_data_and_evaluation_standardizes_by_them():
    layer = nn.BatchNorm(1)
    for step in range(300):
        layer(5 + 3 * np.random.default_rng(step).normal(size=(64, 1)).astype("float32"))
    assert layer.running_mean.data[0] == pytest.approx(5, abs=0.5)
    assert layer.running_variance.data[0] == pytest.approx(9, rel=0.2)
    mean, variance = layer.running_mean.numpy(), layer.running_variance.numpy()
    x = array(4, 1)
    np.testing.assert_allclose(layer.eval()(x).data, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-5)


def test_two_forward_passes_before_one_backward_pass():
    layer = nn.BatchNorm(3)
    x, z = (tg.Tensor(array(4, 3), requires_grad=True) for _ in range(2))
    (layer(x) * layer(z)).sum().backward()
    in_training = x.grad.numpy()
    x.grad = None
    with nn.frozen_state():
        (layer(x) * layer(z)).sum().backward()
    np.testing.assert_array_equal(x.grad.data, in_training)

    evaluated = layer.eval()(x)
    layer.train()(z)
    evaluated.sum().backward()  # the state that it computed with has moved on meanwhile


def test_the_checker_changes_no_state():
    layer = nn.BatchNorm(2).astype("float64")
    before = layer.state_dict()
    check_gradients(layer, spread(4, 2), params=layer)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_batch_norm_on_every_device(device):
    x, z = array(4, 2, 3), array(4, 2, 3)

    def run(where):
        with tg.device(where):
            layer, weights = nn.BatchNorm(3), tg.Tensor(z)
            t = tg.Tensor(x, requires_grad=True)
            with strict_cupy.forbid_transfers():
                (layer(t) * weights).sum().backward()
            values = [t.grad, layer.weight.grad, layer.bias.grad, layer.eval()(tg.Tensor(z))]
            return [value.numpy() for value in values] + list(layer.state_dict().values())

    for computed, expected in zip(run(device), run("cpu"), strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-6)


# Small batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (1, 1, 1, 3), (3,), (2, 0, 4, 3)])
def test_batch_norm_refuses_a_batch_without_a_variance_in_training_only(shape):
    layer, x = nn.BatchNorm(3), array(*shape)
    before = layer.state_dict()
    with pytest.raises(ValueError) as error:
        layer(x)
    assert str(error.value) == (
        "BatchNorm(3, momentum=0.1): x: expected two or more values of each feature in training, "
        f"got float32{list(shape)}"
    )
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    t = tg.Tensor(x, requires_grad=True)
    y = layer.eval()(t)
    np.testing.assert_allclose(y.data, x, rtol=1e-4)
    y.sum().backward()
    assert t.grad.shape == layer.eval()(x).shape == shape


def test_one_image_is_batch_enough():
    assert nn.BatchNorm(3)(array(1, 2, 1, 3)).shape == (1, 2, 1, 3)
