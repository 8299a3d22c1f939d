"""Layers: what they compute, their gradients, and what they refuse."""

import itertools

import numpy as np
import pytest
import strict_cupy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.gradients import check_gradients

SEED = np.random.default_rng(0)


def array(*shape, dtype="float32"):
    return SEED.normal(size=shape).astype(dtype)


# What layers compute ------------------------------------------------------------------------------


def convolved(x, weight, bias, stride, padding):
    """Conv2d, one number after another."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    n, height, width, _ = x.shape
    size, _, _, outputs = weight.shape
    rows, columns = ((length - size) // stride + 1 for length in (height, width))
    y = np.zeros((n, rows, columns, outputs))
    for k, i, j, o in itertools.product(range(n), range(rows), range(columns), range(outputs)):
        window = x[k, i * stride : i * stride + size, j * stride : j * stride + size]
        y[k, i, j, o] = (window * weight[..., o]).sum() + bias[o]
    return y


def painted(x, weight, bias, stride, padding, output_padding):
    """ConvTranspose2d: each pixel paints the kernel, scaled by it, into the image."""
    n, height, width, _ = x.shape
    size, _, outputs, _ = weight.shape
    rows, columns = ((length - 1) * stride + size + output_padding for length in (height, width))
    y = np.zeros((n, rows, columns, outputs))
    for k, i, j in itertools.product(range(n), range(height), range(width)):
        y[k, i * stride : i * stride + size, j * stride : j * stride + size] += weight @ x[k, i, j]
    return y[:, padding : rows - padding, padding : columns - padding] + bias


def test_linear_is_the_affine_map():
    layer = nn.Linear(3, 2)
    layer.bias.data = array(2)
    for shape in [(3,), (5, 3), (2, 4, 3)]:
        x = array(*shape)
        expected = x @ layer.weight.data + layer.bias.data
        np.testing.assert_allclose(layer(x).data, expected, rtol=1e-5, atol=1e-6)
        assert layer(tg.Tensor(x)).shape == (*shape[:-1], 2)
    bare = nn.Linear(3, 2, bias=False)
    assert bare.bias is None
    np.testing.assert_allclose(bare(x).data, x @ bare.weight.data, rtol=1e-5, atol=1e-6)


counts = st.integers(1, 3)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 2), counts, counts, st.tuples(*[st.integers(1, 6)] * 2), counts, counts, st.integers(0, 2)
)
def test_conv2d_is_the_sum_over_windows(n, inputs, outputs, image, size, stride, padding):
    assume(min(image) + 2 * padding >= size)
    layer = nn.Conv2d(inputs, outputs, size, stride, padding).astype("float64")
    layer.bias.data = array(outputs)
    x = array(n, *image, inputs, dtype="float64")
    expected = convolved(x, layer.weight.data, layer.bias.data, stride, padding)
    y = layer(x).data
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_conv_transpose2d_paints_and_conv2d_comes_back_to_its_size(data):
    n, inputs, outputs, size, stride = (data.draw(st.integers(least, 3)) for least in (0, 1, 1, 1, 1))
    image = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    output_padding, padding = data.draw(st.integers(0, stride - 1)), data.draw(st.integers(0, 2))
    assume((min(image) - 1) * stride + size + output_padding > 2 * padding)
    layer = nn.ConvTranspose2d(inputs, outputs, size, stride, padding, output_padding).astype("float64")
    layer.bias.data = array(outputs)
    x = array(n, *image, inputs, dtype="float64")
    expected = painted(x, layer.weight.data, layer.bias.data, stride, padding, output_padding)
    y = layer(x).data
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    if size > output_padding:  # else the pixels added are beyond the last window
        assert nn.Conv2d(outputs, 1, size, stride, padding).astype("float64")(y).shape[:3] == x.shape[:3]


@settings(max_examples=50)
@given(st.integers(0, 2), counts, counts, st.integers(1, 9), counts, st.integers(0, 2), counts, st.booleans())
def test_conv1d_is_the_sum_over_taps(n, inputs, outputs, length, size, padding, dilation, causal):
    span = dilation * (size - 1)
    padding = 0 if causal else padding
    before, after = (span, 0) if causal else (padding, padding)
    assume(length + before + after > span)
    layer = nn.Conv1d(inputs, outputs, size, padding=padding, dilation=dilation, causal=causal)
    layer.astype("float64").bias.data = array(outputs)
    x = array(n, length, inputs, dtype="float64")
    padded = np.pad(x, ((0, 0), (before, after), (0, 0)))
    steps = length + before + after - span
    taps = [padded[:, k * dilation : k * dilation + steps] @ layer.weight.data[k] for k in range(size)]
    y = layer(x).data
    assert y.shape == (n, steps, outputs)
    np.testing.assert_allclose(y, sum(taps) + layer.bias.data, rtol=1e-12, atol=1e-12)


@given(st.integers(1, 9), counts, st.integers(1, 4), st.integers(0, 8))
def test_causal_conv1d_sees_no_later_time(length, size, dilation, t):
    t %= length
    layer = nn.Conv1d(2, 3, size, dilation=dilation, causal=True)
    x = tg.Tensor(array(2, length, 2), requires_grad=True)
    (x_bar,) = tg.grad(layer(x)[:, t].sum(), x)
    seen = [t - k * dilation for k in range(size) if t - k * dilation >= 0]
    assert sorted(np.flatnonzero(x_bar.data.any(axis=(0, 2)))) == sorted(seen)


@pytest.mark.parametrize("padding, dilation", [(0, 1), (2, 1), (3, 2)])
def test_conv1d_equals_pytorch(padding, dilation):
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Conv1d(3, 4, 3, padding=padding, dilation=dilation), torch.nn.Conv1d
    theirs = theirs(3, 4, 3, padding=padding, dilation=dilation)
    theirs.weight.data = torch.tensor(ours.weight.data.transpose(2, 1, 0).copy())
    theirs.bias.data = torch.tensor(ours.bias.data)
    x, g = tg.Tensor(array(2, 9, 3), requires_grad=True), array(2, 9 + 2 * padding - 2 * dilation, 4)
    u = torch.tensor(x.numpy(), requires_grad=True)
    y, v = ours(x), theirs(u.transpose(1, 2)).transpose(1, 2)
    y.backward(g)
    v.backward(torch.tensor(g))
    pairs = [(y, v.detach()), (x.grad, u.grad), (ours.bias.grad, theirs.bias.grad)]
    pairs.append((ours.weight.grad, theirs.weight.grad.permute(2, 1, 0)))
    for computed, expected in pairs:
        np.testing.assert_allclose(computed.data, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_convolutions_without_bias_are_those_with_a_bias_of_zero():
    for make, x in [(nn.Conv2d, array(2, 5, 4, 3)), (nn.ConvTranspose2d, array(2, 5, 4, 3))]:
        bare, whole = make(3, 2, 3, 2, bias=False), make(3, 2, 3, 2)
        assert bare.bias is None
        assert list(bare.state_dict()) == ["weight"]
        whole.weight.data = bare.weight.data
        np.testing.assert_array_equal(bare(x).data, whole(x).data)


@pytest.mark.parametrize("stride, padding, output_padding", [(1, 0, 0), (2, 1, 0), (2, 1, 1), (3, 0, 2)])
def test_convolutions_equal_pytorch(stride, padding, output_padding):
    torch = pytest.importorskip("torch")
    x = array(2, 6, 5, 3)
    channels_first = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    ours = nn.Conv2d(3, 4, 3, stride, padding)
    theirs = torch.nn.Conv2d(3, 4, 3, stride, padding)
    theirs.weight.data = torch.tensor(ours.weight.data.transpose(3, 2, 0, 1).copy())
    theirs.bias.data[:] = 0
    expected = theirs(channels_first).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours(x).data, expected, rtol=1e-4, atol=1e-5)

    ours = nn.ConvTranspose2d(3, 4, 3, stride, padding, output_padding)
    theirs = torch.nn.ConvTranspose2d(3, 4, 3, stride, padding, output_padding)
    theirs.weight.data = torch.tensor(ours.weight.data.transpose(3, 2, 0, 1).copy())
    theirs.bias.data[:] = 0
    expected = theirs(channels_first).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours(x).data, expected, rtol=1e-4, atol=1e-5)


def test_activations_and_shapes():
    x = array(4, 2, 3)
    np.testing.assert_array_equal(nn.ReLU()(x), np.maximum(x, 0))
    np.testing.assert_array_equal(nn.LeakyReLU(0.2)(x), np.maximum(x, np.float32(0.2) * x))
    np.testing.assert_allclose(nn.ELU()(x), np.where(x > 0, x, np.expm1(x)), rtol=1e-6)
    np.testing.assert_allclose(nn.Softplus()(x), np.log(1 + np.exp(x)), rtol=1e-5)
    np.testing.assert_allclose(nn.Sigmoid()(x), 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_array_equal(nn.Tanh()(x), np.tanh(x))
    np.testing.assert_array_equal(nn.Flatten()(x), x.reshape(4, 6))
    np.testing.assert_array_equal(nn.Reshape((3, 1, 2))(x), x.reshape(4, 3, 1, 2))
    with pytest.raises(ValueError, match="Reshape: shape: expected a tuple of ints, got 6"):
        nn.Reshape(6)
    with pytest.raises(ValueError, match="Reshape: shape: expected an int of at least 1, got -1"):
        nn.Reshape((-1,))
    assert nn.Flatten()(array(4)).shape == (4, 1)


@given(st.integers(0, 2), counts, st.integers(1, 3), st.integers(3, 7), st.integers(3, 7))
def test_average_pooling_is_the_mean_over_squares(n, channels, size, height, width):
    x = array(n, height, width, channels, dtype="float64")
    rows, columns = height // size, width // size
    squares = x[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, channels)
    y = nn.AvgPool2d(size)(x)
    np.testing.assert_allclose(y, squares.mean(axis=(2, 4)), rtol=1e-12, atol=1e-12)


@given(st.integers(0, 2), counts, counts, counts, counts)
def test_upsampling_repeats_pixels_and_pooling_takes_it_back(n, channels, factor, height, width):
    x = array(n, height, width, channels, dtype="float64")
    y = nn.Upsample2d(factor)(x)
    np.testing.assert_array_equal(y, x.repeat(factor, axis=1).repeat(factor, axis=2))
    np.testing.assert_allclose(nn.AvgPool2d(factor)(y), x, rtol=1e-12)


@given(st.lists(st.integers(0, 3), max_size=3).map(tuple), st.integers(1, 5), st.integers(1, 3))
def test_embedding_takes_rows_and_adds_up_their_gradients(shape, count, features):
    layer = nn.Embedding(count, features)
    indices = SEED.integers(0, count, shape)
    g = array(*shape, features)
    y = layer(indices)
    np.testing.assert_array_equal(y.data, layer.weight.data[indices])
    y.backward(g)
    one_hot = np.eye(count, dtype="float32")[indices.ravel()]
    np.testing.assert_allclose(
        layer.weight.grad.data, one_hot.T @ g.reshape(-1, features), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(layer(tg.Tensor(indices.astype("uint8"))).data, y.data)


def test_dropout_zeroes_the_share_p_and_keeps_the_mean():
    layer, x = nn.Dropout(0.3), np.full((100, 1000), 2.0, "float32")
    with tg.backend.Generator(0, 1):
        y = layer(x)
    assert set(np.unique(y)) == {np.float32(0), np.float32(2 / 0.7)}
    error = np.sqrt(0.3 * 0.7 / x.size)
    assert abs((y == 0).mean() - 0.3) < 4 * error
    assert abs((y == 0).mean(axis=0) - 0.3).max() < 6 * np.sqrt(0.3 * 0.7 / 100)
    # What was kept is kept on the way back too.
    t = tg.Tensor(x, requires_grad=True)
    y = layer(t)
    y.sum().backward()
    np.testing.assert_array_equal(t.grad.data, y.data / 2)


def test_dropout_draws_from_the_default_generator_anew_each_time():
    layer, x = nn.Dropout(), np.ones((10, 10), "float32")

    def draw(*key):
        with tg.backend.Generator(*key):
            return layer(x), layer(x)

    first, again, other = draw(1, 2), draw(1, 2), draw(1, 3)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_dropout_leaves_alone_what_is_evaluated_and_p_0():
    x = array(3, 4)
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    np.testing.assert_array_equal(nn.Dropout(0.5)(array(0, 3)), array(0, 3))


def test_sequential_calls_its_layers_in_order():
    model = nn.Sequential(nn.Linear(3, 2), tg.ops.tanh, nn.Flatten())
    x = array(5, 3)
    first = model.layers[0]
    np.testing.assert_array_equal(model(x).data, np.tanh(first(x).data))
    assert nn.Sequential()(x) is x


def noisy():
    return nn.Dropout(0.5)


LAYERS = [
    (lambda: nn.Linear(3, 2), (3,)),
    (lambda: nn.Linear(3, 2, bias=False), (3,)),
    (lambda: nn.Conv1d(2, 3, 2, padding=1), (4, 2)),
    (lambda: nn.Conv1d(2, 3, 2, dilation=2, causal=True), (4, 2)),
    (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (5, 4, 2)),
    (lambda: nn.Conv2d(2, 3, 3, bias=False), (5, 4, 2)),
    (lambda: nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), (2, 3, 2)),
    (lambda: nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1, bias=False), (2, 3, 2)),
    (lambda: nn.AvgPool2d(2), (4, 5, 2)),
    (lambda: nn.Upsample2d(2), (2, 3, 2)),
    (lambda: nn.LayerNorm(4), (2, 4)),
    (lambda: nn.LayerNorm((2, 2, 3)), (2, 2, 3)),
    (lambda: nn.BatchNorm(3).eval(), (2, 3)),
    (noisy, (3, 2)),
    (nn.ReLU, (3, 2)),
    (lambda: nn.LeakyReLU(0.2), (3, 2)),
    (nn.ELU, (3, 2)),
    (nn.Softplus, (3, 2)),
    (nn.Sigmoid, (3, 2)),
    (nn.Tanh, (3, 2)),
    (nn.Flatten, (3, 2)),
    (lambda: nn.Reshape((2, 3)), (6,)),
    (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)), (2, 3)),
]


@pytest.mark.parametrize("make, shape", LAYERS)
def test_gradients_of_layers(make, shape):
    layer = make().astype("float64")
    for n in (0, 2):
        x = array(n, *shape, dtype="float64")
        check_gradients(layer, x, params=layer, order=2)


def computed_on(device, make, x):
    """What a layer of the same weights computes there from x, and the gradients, as arrays on the host."""
    with tg.device(device):
        tg.seed(0)
        layer, x = make(), tg.Tensor(x, requires_grad=True)
        with strict_cupy.forbid_transfers():
            y = layer(x)
            (y * y * y).sum().backward()  # of y², normalized, gradients would be nothing but rounding
        tensors = [y, x.grad, *(p.grad for p in layer.parameters())]
        assert all(tg.backend.device_of(tensor.data) == device for tensor in tensors)
        return [tensor.numpy() for tensor in tensors]


@pytest.mark.parametrize("make, shape", [layer for layer in LAYERS if layer[0] is not noisy])
def test_layers_compute_the_same_on_every_device(device, make, shape):
    for n in (0, 2):
        x = array(n, *shape)
        for computed, expected in zip(computed_on(device, make, x), computed_on("cpu", make, x), strict=True):
            np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-6)


def test_dropout_and_embedding_on_every_device(device):
    x = tg.Tensor(np.ones((50, 40)), requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    assert set(np.unique(y.numpy())) == {0, 2}
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())

    layer, indices = nn.Embedding(3, 2), np.array([[0, 2, 2]])
    y = layer(tg.Tensor(indices))
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[indices])
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[1, 1], [0, 0], [2, 2]])


def checked(layer, *shape):
    """check_gradients to second order at a random batch, the layer being taken to float64."""
    check_gradients(layer.astype("float64"), array(*shape, dtype="float64"), params=layer, order=2)


few = settings(max_examples=10)
batches, sizes = st.integers(0, 2), st.integers(1, 4)


@few
@given(batches, sizes, counts, counts, counts, st.integers(1, 2), st.booleans())
def test_gradients_of_conv1d_of_drawn_sizes(n, more, inputs, outputs, size, dilation, causal):
    layer = nn.Conv1d(inputs, outputs, size, dilation=dilation, causal=causal)
    checked(layer, n, dilation * (size - 1) + more, inputs)


@few
@given(batches, sizes, sizes, counts, counts, counts, st.integers(1, 2), st.integers(0, 1), st.booleans())
def test_gradients_of_conv2d_of_drawn_sizes(n, h, w, inputs, outputs, size, stride, padding, bias):
    layer = nn.Conv2d(inputs, outputs, size, stride, padding, bias)
    checked(layer, n, size - 1 + h, size - 1 + w, inputs)


sides = st.tuples(st.integers(-1, 2), st.integers(-1, 2))


@few
@given(batches, sizes, sizes, counts, counts, st.tuples(sides, sides))
def test_gradients_of_conv2d_with_pairs_of_drawn_sizes(n, h, w, height, width, padding):
    (vertical, horizontal), layer = padding, nn.Conv2d(2, 1, (height, width), padding=padding)
    x_shape = (n, max(height - sum(vertical), 2) + h, max(width - sum(horizontal), 2) + w, 2)
    checked(layer, *x_shape)
    assert layer(array(*x_shape).astype("float64")).shape[1:3] == (
        x_shape[1] + sum(vertical) - height + 1,
        x_shape[2] + sum(horizontal) - width + 1,
    )


@few
@given(batches, sizes, sizes, counts, counts, counts, st.integers(1, 2), st.booleans())
def test_gradients_of_conv_transpose2d_of_drawn_sizes(n, h, w, inputs, outputs, size, stride, bias):
    checked(nn.ConvTranspose2d(inputs, outputs, size, stride, 0, stride - 1, bias), n, h, w, inputs)


@few
@given(batches, sizes, sizes, counts, counts)
def test_gradients_of_pooling_and_upsampling_of_drawn_sizes(n, h, w, channels, size):
    checked(nn.AvgPool2d(size), n, size - 1 + h, size - 1 + w, channels)
    checked(nn.Upsample2d(size), n, h, w, channels)


@few
@given(st.lists(st.integers(0, 3), max_size=2).map(tuple), sizes, sizes)
def test_gradients_of_embedding_of_drawn_sizes(shape, count, features):
    layer = nn.Embedding(count, features).astype("float64")
    indices = SEED.integers(0, count, shape)
    check_gradients(lambda: layer(indices), params=layer, order=2)


@few
@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.floats(0, 0.9))
def test_gradients_of_dropout_of_drawn_sizes(shape, p):
    checked(nn.Dropout(p), *shape)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_gradients_of_a_network_of_drawn_sizes(n, inputs, hidden, outputs):
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs)).astype("float64")
    check_gradients(model, array(n, inputs, dtype="float64"), params=model, order=2)


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("make, shape", LAYERS)
def test_float32_stays_float32_and_empty_batches_work(make, shape, n):
    layer = make()
    x = tg.Tensor(array(n, *shape), requires_grad=True)
    y = layer(x)
    assert y.dtype == "float32"
    assert y.shape[0] == n
    y.sum().backward()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.dtype == "float32"
        assert tensor.grad.shape == tensor.shape


# What layers refuse -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, x, message",
    [
        (nn.Linear(3, 2), array(5, 4), "Linear(3, 2): x: expected float32[..., 3], got float32[5, 4]"),
        (nn.Linear(3, 2), array(), "Linear(3, 2): x: expected float32[..., 3], got float32[]"),
        (nn.Linear(3, 2), [1.0, 2.0, 3.0], "Linear(3, 2): x: expected float32[..., 3], got list"),
        (
            nn.Linear(3, 2, bias=False),
            np.zeros((5, 3), "uint8"),
            "Linear(3, 2, bias=False): x: expected float32[..., 3], got uint8[5, 3]",
        ),
        (
            nn.Linear(3, 2).astype("float64"),
            array(5, 3),
            "Linear(3, 2): x: expected float64[..., 3], got float32[5, 3]",
        ),
        (
            nn.Conv2d(1, 2, 3),
            array(5, 8, 8),
            "Conv2d(1, 2, 3, stride=1, padding=0): x: expected float32[N, H, W, 1], got float32[5, 8, 8]",
        ),
        (
            nn.Conv2d(1, 2, 3),
            array(5, 1, 8, 8),
            "Conv2d(1, 2, 3, stride=1, padding=0): x: expected float32[N, H, W, 1], got float32[5, 1, 8, 8]",
        ),
        (
            nn.Conv2d(1, 2, 4, padding=1),
            array(5, 1, 8, 1),
            "Conv2d(1, 2, 4, stride=1, padding=1): x: expected height and width of at least 2 and 2, "
            "got float32[5, 1, 8, 1]",
        ),
        (
            nn.ConvTranspose2d(2, 1, 4, 2, 1),
            array(5, 8, 8, 1),
            "ConvTranspose2d(2, 1, 4, stride=2, padding=1, output_padding=0): x: "
            "expected float32[N, H, W, 2], got float32[5, 8, 8, 1]",
        ),
        (
            nn.ConvTranspose2d(1, 1, 2, 2, 2),
            array(5, 8, 2, 1),
            "ConvTranspose2d(1, 1, 2, stride=2, padding=2, output_padding=0): x: "
            "expected height and width of at least 3, got float32[5, 8, 2, 1]",
        ),
        (
            nn.Conv1d(2, 1, 3, dilation=2),
            array(5, 4, 2),
            "Conv1d(2, 1, 3, padding=0, dilation=2): x: expected length of at least 5, got float32[5, 4, 2]",
        ),
        (
            nn.Conv1d(2, 1, 3, causal=True),
            array(5, 0, 2),
            "Conv1d(2, 1, 3, causal=True, dilation=1): x: expected length of at least 1, "
            "got float32[5, 0, 2]",
        ),
        (
            nn.Conv1d(2, 1, 3),
            array(5, 2, 7),
            "Conv1d(2, 1, 3, padding=0, dilation=1): x: expected float32[N, T, 2], got float32[5, 2, 7]",
        ),
        (
            nn.AvgPool2d(3),
            array(5, 2, 7, 1),
            "AvgPool2d(3): x: expected floating images [N, H, W, C] with H and W of at least 3, "
            "got float32[5, 2, 7, 1]",
        ),
        (
            nn.Upsample2d(2),
            array(5, 2, 7),
            "Upsample2d(2): x: expected floating images [N, H, W, C] with H and W of at least 1, "
            "got float32[5, 2, 7]",
        ),
        (
            nn.Upsample2d(2),
            np.zeros((1, 2, 2, 1), "uint8"),
            "Upsample2d(2): x: expected floating images [N, H, W, C] with H and W of at least 1, "
            "got uint8[1, 2, 2, 1]",
        ),
        (
            nn.Embedding(3, 2),
            array(4),
            "Embedding(3, 2): indices: expected an array of integers, got float32[4]",
        ),
        (nn.Embedding(3, 2), [1, 2], "Embedding(3, 2): indices: expected an array of integers, got list"),
        (
            nn.Embedding(3, 2),
            np.array([0, 2, 3, -7]),
            "Embedding(3, 2): indices: expected integers from 0 to 2, got 3",
        ),
        (
            nn.Embedding(3, 2),
            np.array([[0, -1]]),
            "Embedding(3, 2): indices: expected integers from 0 to 2, got -1",
        ),
        (nn.Dropout(0.5), np.zeros(3, "int64"), "Dropout(0.5): x: expected a floating array, got int64[3]"),
        (nn.Dropout(0.5), [1.0], "Dropout(0.5): x: expected a floating array, got list"),
        (nn.LayerNorm(4), array(4, 3), "LayerNorm(4): x: expected float32[..., 4], got float32[4, 3]"),
        (
            nn.LayerNorm((2, 4)),
            array(4),
            "LayerNorm((2, 4)): x: expected float32[..., 2, 4], got float32[4]",
        ),
        (
            nn.BatchNorm(3),
            array(4, 2),
            "BatchNorm(3, momentum=0.1): x: expected float32[..., 3], got float32[4, 2]",
        ),
        (nn.Flatten(), array(), "Flatten(): x: expected an array of shape (N, ...), got float32[]"),
        (
            nn.Reshape((2, 3)),
            array(6, 5),
            "Reshape((2, 3)): x: expected an array of shape (N, ...) with 6 elements for each of N, "
            "got float32[6, 5]",
        ),
    ],
)
def test_layers_refuse_what_does_not_fit_in_their_own_words(layer, x, message):
    inputs = [x] if isinstance(x, list) else [x, tg.Tensor(x)]
    for given_x in inputs:
        with pytest.raises(ValueError) as error:
            layer(given_x)
        assert str(error.value) == message


@pytest.mark.parametrize("size, stride, padding", list(itertools.product([1, 2, 3], [1, 2, 3], [0, 1, 2])))
def test_conv_transpose2d_takes_every_image_of_the_least_size_that_it_names(size, stride, padding):
    layer = nn.ConvTranspose2d(1, 1, size, stride, padding)
    sizes = [h for h in range(1, 8) if (h - 1) * stride + size - 2 * padding > 0]
    assert layer(array(1, sizes[0], sizes[0], 1)).shape[1] > 0
    if sizes[0] > 1:
        with pytest.raises(ValueError, match=f"at least {sizes[0]}, got"):
            layer(array(1, sizes[0] - 1, 7, 1))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Linear(0, 2), "Linear: inputs: expected an int of at least 1, got 0"),
        (lambda: nn.Linear(3, 2.0), "Linear: outputs: expected an int of at least 1, got 2.0"),
        (lambda: nn.Conv2d(1, 1, 3, stride=0), "Conv2d: stride: expected an int of at least 1, got 0"),
        (lambda: nn.Conv2d(1, 1, 3, padding=-1), "Conv2d: padding: expected an int of at least 0, got -1"),
        (lambda: nn.Conv2d(1, 1, (3, 0)), "Conv2d: size: expected an int of at least 1, got 0"),
        (
            lambda: nn.Conv2d(1, 1, 3, padding=(1, 1)),
            "Conv2d: padding: expected an int or ((top, bottom), (left, right)), got (1, 1)",
        ),
        (
            lambda: nn.Conv2d(1, 1, 3, padding=((1, 1), (1, 0.5))),
            "Conv2d: padding: expected ints, got ((1, 1), (1, 0.5))",
        ),
        (lambda: nn.Conv1d(1, 1, 3, dilation=0), "Conv1d: dilation: expected an int of at least 1, got 0"),
        (
            lambda: nn.Conv1d(1, 1, 3, padding=1, causal=True),
            "Conv1d: padding: expected 0 in a causal convolution, got 1",
        ),
        (lambda: nn.AvgPool2d(0), "AvgPool2d: size: expected an int of at least 1, got 0"),
        (lambda: nn.Upsample2d(1.5), "Upsample2d: factor: expected an int of at least 1, got 1.5"),
        (lambda: nn.Embedding(0, 1), "Embedding: count: expected an int of at least 1, got 0"),
        (lambda: nn.BatchNorm(0), "BatchNorm: features: expected an int of at least 1, got 0"),
        (
            lambda: nn.BatchNorm(2, momentum=1.1),
            "BatchNorm: momentum: expected a number from 0 to 1, got 1.1",
        ),
        (lambda: nn.LayerNorm((2, 0)), "LayerNorm: shape: expected an int of at least 1, got 0"),
        (lambda: nn.LayerNorm(()), "LayerNorm: shape: expected an int or a tuple of ints, got ()"),
        (
            lambda: nn.Dropout(1.0),
            "Dropout: p: expected a probability of at least 0 and less than 1, got 1.0",
        ),
        (
            lambda: nn.Dropout(-0.1),
            "Dropout: p: expected a probability of at least 0 and less than 1, got -0.1",
        ),
        (lambda: nn.LeakyReLU(1.0), "LeakyReLU: slope: expected 0 <= slope < 1, got 1.0"),
        (
            lambda: nn.ConvTranspose2d(1, 1, 3, 2, output_padding=2),
            "ConvTranspose2d: output_padding: expected less than stride 2, got 2",
        ),
    ],
)
def test_sizes_that_make_no_layer_are_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


def test_sequential_refuses_what_is_no_layer():
    with pytest.raises(TypeError, match="Sequential: layer 1: expected a Module or a function, got int"):
        nn.Sequential(nn.ReLU(), 3)
