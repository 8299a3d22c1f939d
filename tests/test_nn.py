"""Modules and layers: what is found in them, what they compute, and what they refuse."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.gradients import check_gradients
from tinygen.nn import init

SEED = np.random.default_rng(0)


def array(*shape, dtype="float32"):
    return SEED.normal(size=shape).astype(dtype)


class Shelf(nn.Module):
    """Parameters and modules everywhere that they may be."""

    def __init__(self):
        self.last = nn.Linear(2, 1)
        self.scale = tg.Tensor(2.0, requires_grad=True)
        self.pairs = [nn.Linear(1, 1, bias=False), (nn.ReLU(), nn.Linear(1, 2))]
        self.by_name = {"mean": nn.Linear(2, 3, bias=False), 7: tg.Tensor([1.0], requires_grad=True)}
        self.shared = self.last
        self.tied = self.scale
        self.steps = tg.Tensor(np.array(3))
        self.frozen = tg.Tensor([1.0, 2.0])
        self.computed = self.scale * 2.0
        self.note, self.array = "no parameter", np.ones(3)
        self.me = self


NAMES = ["last.weight", "last.bias", "scale", "pairs.0.weight", "pairs.1.1.weight", "pairs.1.1.bias"]
NAMES += ["by_name.mean.weight", "by_name.7"]


# What is found in a module ------------------------------------------------------------------------


def test_parameters_are_found_everywhere_once_in_order_of_assignment():
    shelf = Shelf()
    assert [name for name, _ in shelf.named_parameters()] == NAMES
    assert [id(p) for p in shelf.parameters()] == [id(p) for _, p in shelf.named_parameters()]
    assert shelf.parameters()[0] is shelf.last.weight
    assert all(p.requires_grad for p in shelf.parameters())


def test_what_is_added_later_is_found():
    model = nn.Sequential(nn.Linear(2, 2))
    model.extra = [tg.Tensor([0.0], requires_grad=True)]
    assert [name for name, _ in model.named_parameters()] == ["layers.0.weight", "layers.0.bias", "extra.0"]
    model.extra[0].requires_grad = False
    assert len(model.parameters()) == 2


def test_zero_grad_drops_the_gradients():
    layer = nn.Linear(2, 2)
    layer(array(3, 2)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.zero_grad()
    assert all(p.grad is None for p in layer.parameters())


def test_repr_shows_the_architecture_and_the_number_of_parameters():
    class Model(nn.Module):
        def __init__(self):
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(1000, 3), nn.Tanh())
            self.heads = [nn.Linear(3, 2, bias=False), nn.Reshape((2, 1))]
            self.scale = tg.Tensor(1.0, requires_grad=True)

    assert repr(Model()) == (
        "Model: 3,010 parameters\n"
        "  encoder: Sequential: 3,003 parameters\n"
        "    layers.0: Flatten()\n"
        "    layers.1: Linear(1000, 3)\n"
        "    layers.2: Tanh()\n"
        "  heads.0: Linear(3, 2, bias=False)\n"
        "  heads.1: Reshape((2, 1))"
    )
    assert repr(nn.Conv2d(1, 2, 3)) == "Conv2d(1, 2, 3, stride=1, padding=0)"
    assert repr(nn.ConvTranspose2d(2, 1, 4, 2, 1)) == (
        "ConvTranspose2d(2, 1, 4, stride=2, padding=1, output_padding=0)"
    )
    assert repr(nn.ReLU()) == "ReLU()"


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Shelf has no method forward"):
        Shelf()(1)


# State --------------------------------------------------------------------------------------------


def test_state_holds_copies_of_parameters_and_untrained_state():
    shelf = Shelf()
    state = shelf.state_dict()
    assert list(state) == [*NAMES, "steps", "frozen"]
    state["last.weight"][...] = 5
    assert not (shelf.last.weight.data == 5).any()
    assert all(type(value) is np.ndarray for value in state.values())


def test_state_makes_another_module_the_same():
    source, target = Shelf(), Shelf()
    tensors = dict(target.named_parameters())
    target.astype("float64").load_state_dict(source.state_dict())
    for name, value in target.state_dict().items():
        np.testing.assert_array_equal(value, source.state_dict()[name])
    assert all(tensor is tensors[name] for name, tensor in target.named_parameters())
    assert target.last.weight.dtype == "float64"
    assert target.steps.dtype == "int64"


def test_a_state_that_does_not_fit_is_refused_in_one_error_and_nothing_changes():
    layers = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = layers.state_dict()
    state = {
        "layers.0.weight": np.zeros((3, 2)),
        "layers.0.bias": np.zeros(3),
        "layers.1.bias": np.zeros(1, bool),
        "layers.2.bias": np.zeros(1),
    }
    with pytest.raises(ValueError) as error:
        layers.load_state_dict(state)
    assert str(error.value) == (
        "load_state_dict: state: layers.1.weight is missing; layers.2.bias is unknown; "
        "layers.0.weight: expected float32[2, 3], got float64[3, 2]; "
        "layers.1.bias: expected float32[1], got bool[1]"
    )
    with pytest.raises(ValueError, match=r"layers.0.bias: expected float32\[3\], got list"):
        layers.load_state_dict({**before, "layers.0.bias": [0.0, 0.0, 0.0]})
    for name, value in layers.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_loading_a_state_is_a_change_that_backward_notices():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    loss = model(array(3, 2)).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_astype_changes_floating_state_in_place():
    shelf = Shelf()
    weight = shelf.last.weight
    values = weight.numpy()
    (shelf.last(array(1, 2)).sum()).backward()
    assert shelf.astype("float64") is shelf
    assert shelf.last.weight is weight
    assert all(p.dtype == "float64" for p in shelf.parameters())
    assert weight.grad is None
    assert shelf.frozen.dtype == "float64"
    assert not shelf.frozen.requires_grad
    assert shelf.steps.dtype == "int64"
    np.testing.assert_array_equal(weight.data, values)
    shelf.last(array(1, 2, dtype="float64")).sum().backward()
    assert weight.grad.dtype == "float64"
    with pytest.raises(TypeError, match="astype: dtype: expected a floating one, got int64"):
        shelf.astype("int64")


def test_to_refuses_an_unknown_device_and_leaves_alone_what_is_there():
    layer = nn.Linear(2, 2)
    weight = layer.weight.data
    with pytest.raises(ValueError, match=r"device: expected one of .*, got 'tpu'"):
        layer.to("tpu")
    assert layer.to("cpu") is layer
    assert layer.weight.data is weight


# Initial weights ----------------------------------------------------------------------------------


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


def test_layers_start_by_their_initializer_with_biases_at_zero():
    layers = [nn.Linear(40, 80, init=init.he_normal), nn.Conv2d(40, 80, 5, init=init.he_normal)]
    layers.append(nn.ConvTranspose2d(40, 80, 5, init=init.he_normal))
    for layer, fan_in in zip(layers, [40, 1000, 1000]):
        assert layer.weight.data.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)
        assert not layer.bias.data.any()
    assert abs(nn.Linear(40, 80).weight.data).max() <= np.sqrt(6 / 120)


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
    np.testing.assert_array_equal(nn.Tanh()(x), np.tanh(x))
    np.testing.assert_array_equal(nn.Flatten()(x), x.reshape(4, 6))
    np.testing.assert_array_equal(nn.Reshape((3, 1, 2))(x), x.reshape(4, 3, 1, 2))
    assert nn.Flatten()(array(4)).shape == (4, 1)


def test_sequential_calls_its_layers_in_order():
    model = nn.Sequential(nn.Linear(3, 2), tg.ops.tanh, nn.Flatten())
    x = array(5, 3)
    first = model.layers[0]
    np.testing.assert_array_equal(model(x).data, np.tanh(first(x).data))
    assert nn.Sequential()(x) is x


LAYERS = [
    (lambda: nn.Linear(3, 2), (3,)),
    (lambda: nn.Linear(3, 2, bias=False), (3,)),
    (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (5, 4, 2)),
    (lambda: nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), (2, 3, 2)),
    (nn.ReLU, (3, 2)),
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
            "Conv2d(1, 2, 4, stride=1, padding=1): x: expected height and width of at least 2, "
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
