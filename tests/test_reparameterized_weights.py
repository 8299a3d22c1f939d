"""Weight and spectral normalization: closed forms, the SVD, the papers' gradients, state, and PyTorch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import nn
from tinygen.gradients import check_gradients
from tinygen.nn import SpectralNorm, WeightNorm, frozen_state, power_iteration

RNG = np.random.default_rng(0)


def array(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


# name -> (maker of a layer, an input of a batch of n, the output axis of the weight)
LAYERS = {
    "Linear": (lambda: nn.Linear(3, 4), lambda n: array(n, 3, dtype="float32"), 1),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 2), lambda n: array(n, 4, 2, dtype="float32"), 2),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 2), lambda n: array(n, 3, 2, 2, dtype="float32"), 3),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(2, 3, 2, 2),
        lambda n: array(n, 2, 1, 2, dtype="float32"),
        2,
    ),
    "Embedding": (lambda: nn.Embedding(4, 3), lambda n: RNG.integers(0, 4, (n, 2)), 1),
}
layers = pytest.mark.parametrize("name", LAYERS)
wrappers = pytest.mark.parametrize("wrapper", [SpectralNorm, WeightNorm])


def matrix(weight, axis):
    """(outputs, all the rest)."""
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def in_double(x):
    return x.astype("float64") if x.dtype.kind == "f" else x


def inputs_checked(wrapped, x):
    """A function to check, and its inputs: none where x are indices."""
    if x.dtype.kind == "f":
        return lambda x: wrapped(x) ** 2, x
    return (lambda: wrapped(x) ** 2,)


# Power iteration ----------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(sizes)
def test_power_iteration_finds_the_largest_singular_value_and_its_vectors(size):
    left, _ = np.linalg.qr(array(size[0], size[0]))
    right, _ = np.linalg.qr(array(size[1], size[1]))
    values = 2.0 ** -np.arange(min(size))  # a gap after the first
    W = (left[:, : len(values)] * values) @ right[:, : len(values)].T
    sigma, u, v = power_iteration(W, array(size[0]) + 3 * left[:, 0], 60)
    np.testing.assert_allclose(sigma, np.linalg.svd(W, compute_uv=False)[0], rtol=1e-12)
    np.testing.assert_allclose(np.abs([u @ left[:, 0], v @ right[:, 0]]), 1, atol=1e-12)
    np.testing.assert_allclose(W @ v, sigma * u, atol=1e-12)


def test_power_iteration_step_by_step():
    W, u = array(3, 4), array(3)
    sigma, u2, v = power_iteration(W, u, 2)
    for _ in range(2):
        v_right = W.T @ u / np.linalg.norm(W.T @ u)
        u = W @ v_right / np.linalg.norm(W @ v_right)
    np.testing.assert_allclose(v, v_right, atol=1e-9)
    np.testing.assert_allclose(u2, u, atol=1e-9)
    np.testing.assert_allclose(sigma, u @ W @ v_right, rtol=1e-9)
    with pytest.raises(ValueError, match="power_iteration: iterations: expected at least 1, got 0"):
        power_iteration(W, u, 0)


def test_sigma_is_differentiable_and_the_vectors_are_constants():
    W = tg.Tensor(array(3, 4), requires_grad=True)
    sigma, u, v = power_iteration(W, array(3), 3)
    assert isinstance(sigma, tg.Tensor) and sigma.shape == ()
    assert type(u) is np.ndarray and type(v) is np.ndarray
    (W_bar,) = tg.grad(sigma, W)
    np.testing.assert_allclose(W_bar.data, np.outer(u, v), atol=1e-12)


# Spectral normalization ---------------------------------------------------------------------------------


@layers
def test_spectral_norm_of_each_layer_is_one(name):
    make, inputs, axis = LAYERS[name]
    wrapped = SpectralNorm(make(), iterations=50)
    x = inputs(2)
    wrapped(x)
    sigma = np.linalg.svd(matrix(wrapped.layer.weight.data, axis), compute_uv=False)[0]
    expected = make()
    expected.weight.data = wrapped.layer.weight.data / sigma
    np.testing.assert_allclose(wrapped(x).data, expected(x).data, atol=1e-5)
    computed = matrix(wrapped.computed_weight().data, axis)
    np.testing.assert_allclose(np.linalg.svd(computed, compute_uv=False)[0], 1, rtol=1e-5)


@layers
def test_gradients_of_spectral_normalization(name):
    make, inputs, _ = LAYERS[name]
    wrapped = SpectralNorm(make()).astype("float64")
    function, *x = inputs_checked(wrapped, in_double(inputs(2)))
    with frozen_state():
        check_gradients(function, *x, params=wrapped, order=2)


@wrappers
@settings(max_examples=settings.default.max_examples // 5)
@given(st.integers(0, 3), sizes)
def test_gradients_over_sizes(wrapper, n, size):
    wrapped = wrapper(nn.Linear(*size)).astype("float64")
    with frozen_state():
        check_gradients(lambda x: wrapped(x) ** 2, array(n, size[0]), params=wrapped, order=2)


def test_the_gradient_of_the_paper():
    """Eq. 12: ∂V/∂W = (1/σ) (E[δ hᵀ] − λ u₁ v₁ᵀ), λ = E[δᵀ (W̄ h)]; here W is transposed."""
    wrapped = SpectralNorm(nn.Linear(3, 4)).astype("float64").eval()
    h, delta = array(5, 3), array(5, 4)
    W, u, v = wrapped.layer.weight.data, wrapped.u.data, wrapped.v.data
    sigma = u @ W.T @ v
    y = wrapped(h)
    (gradient,) = tg.grad(y, wrapped.layer.weight, delta)
    lam = np.einsum("no,no->", delta, h @ (W / sigma))
    right = (np.einsum("no,ni->oi", delta, h) - lam * np.outer(u, v)) / sigma
    np.testing.assert_allclose(gradient.data, right.T, atol=1e-12)


def test_the_exact_gradient_of_the_singular_value():
    """At the singular vectors, taking them for constants changes nothing: central differences of the SVD."""
    wrapped = SpectralNorm(nn.Linear(3, 4), iterations=200).astype("float64")
    x, weight = array(2, 3), wrapped.layer.weight
    wrapped(x)
    wrapped.eval()
    start = weight.numpy()

    def value(w):
        return ((x @ (w / np.linalg.svd(w, compute_uv=False)[0])) ** 2).sum()

    (gradient,) = tg.grad((wrapped(x) ** 2).sum(), weight)
    for i, j in np.ndindex(start.shape):
        step = np.zeros_like(start)
        step[i, j] = 1e-6
        difference = (value(start + step) - value(start - step)) / 2e-6
        np.testing.assert_allclose(gradient.data[i, j], difference, atol=1e-7)


def test_state_moves_in_training_only():
    wrapped = SpectralNorm(nn.Linear(6, 5))
    wrapped.layer.weight.data = array(6, 5, dtype="float32")  # so that there is a way to go
    x = array(2, 6, dtype="float32")
    before = wrapped.state_dict()
    with frozen_state():
        wrapped(x)
    wrapped.eval()(x)
    assert all(np.array_equal(before[name], value) for name, value in wrapped.state_dict().items())
    wrapped.train()(x)
    after = wrapped.state_dict()
    _, u, v = power_iteration(wrapped.layer.weight.data.T, before["u"], 1)
    np.testing.assert_allclose(after["u"], u, atol=1e-6)
    np.testing.assert_allclose(after["v"], v, atol=1e-6)
    assert not np.allclose(after["u"], before["u"], atol=1e-6)


def test_several_calls_before_one_backward():
    """As in a game, where the critic sees real and made up images; in any mode."""
    wrapped = SpectralNorm(nn.Linear(3, 2))
    x = array(2, 3, dtype="float32")
    with frozen_state():
        first = wrapped(x)
    second = wrapped(x)
    third = wrapped(2 * x)
    (first + second + third).sum().backward()
    assert wrapped.layer.weight.grad is not None


def test_names_state_and_repr():
    spectral, weight = SpectralNorm(nn.Linear(3, 2)), WeightNorm(nn.Linear(3, 2))
    assert list(spectral.state_dict()) == ["layer.weight", "layer.bias", "u", "v"]
    assert [name for name, _ in spectral.named_parameters()] == ["layer.weight", "layer.bias"]
    assert list(weight.state_dict()) == ["layer.weight", "layer.bias", "g"]
    assert [name for name, _ in weight.named_parameters()] == ["layer.weight", "layer.bias", "g"]
    assert repr(spectral) == "SpectralNorm(Linear(3, 2))"
    assert repr(nn.Sequential(weight)).endswith("layers.0: WeightNorm(Linear(3, 2))")


@wrappers
def test_a_state_makes_another_the_same(wrapper):
    x = array(4, 3, dtype="float32")
    first, second = wrapper(nn.Linear(3, 2)), wrapper(nn.Linear(3, 2))
    first(x)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(second.eval()(x).data, first.eval()(x).data)


# Weight normalization -----------------------------------------------------------------------------------


@layers
def test_weight_norm_has_direction_and_length_apart(name):
    make, inputs, axis = LAYERS[name]
    layer, x = make(), inputs(2)
    before = layer(x).data
    wrapped = WeightNorm(layer)
    np.testing.assert_allclose(wrapped(x).data, before, atol=1e-5)  # the layer computes what it did
    v = matrix(layer.weight.data, axis)
    wrapped.g.data = array(len(v), dtype="float32")
    computed = matrix(wrapped.computed_weight().data, axis)
    right = wrapped.g.data[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(computed, right, atol=1e-6)
    layer.weight.data = 3 * layer.weight.data  # its length means nothing
    np.testing.assert_allclose(matrix(wrapped.computed_weight().data, axis), right, atol=1e-6)


@layers
def test_gradients_of_weight_normalization(name):
    make, inputs, _ = LAYERS[name]
    wrapped = WeightNorm(make()).astype("float64")
    wrapped.g.data = array(*wrapped.g.shape)
    function, *x = inputs_checked(wrapped, in_double(inputs(2)))
    check_gradients(function, *x, params=wrapped, order=2)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "Embedding"])
def test_initialize_gives_outputs_of_mean_0_and_variance_1(name):
    make, inputs, _ = LAYERS[name]
    wrapped, x = WeightNorm(make()), inputs(9)
    wrapped.layer.bias.data = array(*wrapped.layer.bias.shape)
    v = wrapped.layer.weight.numpy()
    y = wrapped.initialize(x)
    np.testing.assert_array_equal(wrapped.layer.weight.data, v)
    np.testing.assert_array_equal(y.data, wrapped(x).data)
    rest = tuple(range(y.ndim - 1))
    np.testing.assert_allclose(y.data.mean(axis=rest), 0, atol=1e-5)
    np.testing.assert_allclose(y.data.var(axis=rest), 1, atol=1e-4)
    assert not y.requires_grad


def test_initialize_refuses_what_tells_nothing_and_changes_nothing():
    wrapped = WeightNorm(nn.Linear(3, 2))
    before = wrapped.state_dict()
    for x in (np.ones((4, 3), "float32"), np.ones((0, 3), "float32")):
        with pytest.raises(
            ValueError, match=r"x: expected a batch over which each output varies, got float32"
        ):
            wrapped.initialize(x)
    assert all(np.array_equal(before[name], value) for name, value in wrapped.state_dict().items())
    with pytest.raises(ValueError, match="initialize: expected a layer with bias"):
        WeightNorm(nn.Linear(3, 2, bias=False)).initialize(array(4, 3, dtype="float32"))


# Both ---------------------------------------------------------------------------------------------------


def descend(wrapped, optimizer, x):
    (wrapped(x) ** 2).sum().backward()
    optimizer.step()


def test_the_weight_stays_in_the_optimizer_of_spectral_normalization():
    layer = nn.Linear(3, 2)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)
    wrapped, before = SpectralNorm(layer), layer.weight.numpy()
    assert [id(p) for p in wrapped.parameters()] == [id(p) for p in layer.parameters()]
    x = array(4, 3, dtype="float32")
    gradient = tg.grad((wrapped(x) ** 2).sum(), layer.weight)[0]
    wrapped.eval()
    descend(wrapped, optimizer, x)
    np.testing.assert_allclose(layer.weight.data, before - 0.1 * gradient.data, atol=1e-4)


def test_an_optimizer_from_before_weight_normalization_is_an_error():
    layer = nn.Linear(3, 2)
    optimizer = tg.optim.SGD(layer.parameters(), lr=0.1)
    wrapped, x = WeightNorm(layer), array(4, 3, dtype="float32")
    with pytest.raises(RuntimeError, match="was given another array"):
        descend(wrapped, optimizer, x)
    g = wrapped.g.numpy()
    wrapped.zero_grad()
    descend(wrapped, tg.optim.SGD(wrapped.parameters(), lr=0.1), x)
    assert (wrapped.g.data != g).all()


@wrappers
@layers
def test_the_layer_gets_its_own_weight_back_after_an_error_too(wrapper, name):
    layer = LAYERS[name][0]()
    weight, wrapped = layer.weight, wrapper(layer)
    with pytest.raises(ValueError, match="expected"):
        wrapped(np.zeros((1, 1, 7), bool))
    assert layer.weight is weight
    assert len(wrapped.parameters()) == len(wrapper(LAYERS[name][0]()).parameters())


@wrappers
@layers
@pytest.mark.parametrize("n", [0, 2])
def test_float32_and_empty_batches(device, wrapper, name, n):
    make, inputs, _ = LAYERS[name]
    wrapped, host = wrapper(make()), inputs(n)
    x = tg.Tensor(host)
    with forbid_transfers():
        y = wrapped(x)
        (y * y).sum().backward()
    assert y.dtype == "float32" and y.shape[0] == n
    for p in wrapped.parameters():
        assert p.grad.dtype == "float32" and p.grad.shape == p.shape
    wrapped.eval()
    y = wrapped(x)
    with tg.device("cpu"):
        right = wrapped.to("cpu")(host)
    np.testing.assert_allclose(y.numpy(), right.data, rtol=1e-4, atol=1e-6)


@wrappers
def test_refusals(wrapper):
    name = wrapper.__name__
    for wrong in (nn.ReLU(), nn.GRUCell(2, 2), nn.LayerNorm(3), wrapper(nn.Linear(2, 2)), None):
        got = type(wrong).__name__
        with pytest.raises(TypeError, match=f"{name}: layer: expected one of Linear, .*, got {got}"):
            wrapper(wrong)
    with pytest.raises(ValueError, match=f"{name}.* layer: expected a weight other than 0"):
        wrapper(nn.Linear(2, 2, init=np.zeros))
    with pytest.raises(ValueError, match="SpectralNorm: iterations: expected an int of at least 1, got 0"):
        SpectralNorm(nn.Linear(2, 2), iterations=0)


# PyTorch ------------------------------------------------------------------------------------------------


def theirs(torch, layer):
    """PyTorch's layer with the same weight, the place of the axes in ours that theirs has, and its input."""
    bias = torch.tensor(layer.bias.data) if getattr(layer, "bias", None) is not None else None
    if isinstance(layer, nn.Linear):
        other, order = torch.nn.Linear(3, 4), (1, 0)
    elif isinstance(layer, nn.Conv2d):
        other, order = torch.nn.Conv2d(2, 3, 2), (3, 2, 0, 1)
    elif isinstance(layer, nn.ConvTranspose2d):
        other, order = torch.nn.ConvTranspose2d(2, 3, 2, 2), (3, 2, 0, 1)
    elif isinstance(layer, nn.Conv1d):
        other, order = torch.nn.Conv1d(2, 3, 2), (2, 1, 0)
    else:
        other, order = torch.nn.Embedding(4, 3), (0, 1)
    with torch.no_grad():
        other.weight.copy_(torch.tensor(layer.weight.numpy().transpose(order).copy()))
        if bias is not None:
            other.bias.copy_(bias)
    return other, order


def same_results(torch, wrapped, other, weight, order, x):
    """The outputs, and the gradients of the sum of their squares for the weight."""
    first = torch.tensor(x if x.dtype.kind == "i" else np.moveaxis(x, -1, 1).copy())
    y, expected = wrapped(x), other(first)
    result = expected.detach().numpy()
    if x.dtype.kind == "f":
        result = np.moveaxis(result, 1, -1)
    np.testing.assert_allclose(y.data, result, atol=1e-5)
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    gradient = wrapped.layer.weight.grad.data.transpose(order)
    np.testing.assert_allclose(gradient, weight.grad.numpy(), atol=1e-4)


@layers
def test_spectral_norm_against_torch(name):
    torch = pytest.importorskip("torch")
    make, inputs, _ = LAYERS[name]
    wrapped = SpectralNorm(make()).eval()
    other, order = theirs(torch, wrapped.layer)
    dim = {"ConvTranspose2d": 1, "Embedding": 1}.get(name, 0)
    other = torch.nn.utils.parametrizations.spectral_norm(other, dim=dim).eval()
    state = other.parametrizations.weight[0]
    # In the order of axes that theirs has, the columns of the matrix come otherwise.
    v = wrapped.v.numpy()
    rest = [size for axis, size in enumerate(wrapped.layer.weight.shape) if axis != wrapped.output_axis]
    kept = [axis for axis in range(len(order)) if axis != wrapped.output_axis]
    v = v.reshape(rest).transpose([kept.index(axis) for axis in order if axis in kept]).ravel()
    state._u.copy_(torch.tensor(wrapped.u.numpy()))
    state._v.copy_(torch.tensor(v.copy()))
    weight = other.parametrizations.weight.original
    same_results(torch, wrapped, other, weight, order, inputs(3))


@layers
def test_weight_norm_against_torch(name):
    torch = pytest.importorskip("torch")
    make, inputs, _ = LAYERS[name]
    wrapped = WeightNorm(make())
    other, order = theirs(torch, wrapped.layer)
    dim = {"ConvTranspose2d": 1, "Embedding": 1}.get(name, 0)
    other = torch.nn.utils.parametrizations.weight_norm(other, dim=dim)
    wrapped.g.data = array(*wrapped.g.shape, dtype="float32")
    g, v = other.parametrizations.weight.original0, other.parametrizations.weight.original1
    with torch.no_grad():
        g.copy_(torch.tensor(wrapped.g.numpy()).reshape(g.shape))
    same_results(torch, wrapped, other, v, order, inputs(3))
    np.testing.assert_allclose(wrapped.g.grad.data, g.grad.numpy().ravel(), atol=1e-4)
