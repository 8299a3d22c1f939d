"""GRU and LSTM: their equations, whole sequences against steps, second derivatives, and PyTorch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strict_cupy import forbid_transfers

import tinygen as tg
from tinygen import nn
from tinygen.gradients import check_gradients

RNG = np.random.default_rng(0)
LAYERS = {"GRU": (nn.GRU, nn.GRUCell), "LSTM": (nn.LSTM, nn.LSTMCell)}
kinds = pytest.mark.parametrize("kind", LAYERS)


def array(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


def scattered(module):
    """The module in float64, all its parameters away from where they start."""
    module.astype("float64")
    for p in module.parameters():
        p.data = array(*p.shape) / 2
    return module


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def states(kind, n, hidden):
    h, c = array(n, hidden), array(n, hidden)
    return h if kind == "GRU" else (h, c)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(cell, x, h):
    """The equations of GRUCell, a gate at a time."""
    (w_r, w_z, w_n), (u_r, u_z, u_n), b, b2 = (
        np.split(p.data, 3, axis=-1)
        for p in (cell.weight, cell.recurrent_weight, cell.bias, cell.recurrent_bias)
    )
    r = sigmoid(x @ w_r + b[0] + h @ u_r + b2[0])
    z = sigmoid(x @ w_z + b[1] + h @ u_z + b2[1])
    n = np.tanh(x @ w_n + b[2] + r * (h @ u_n + b2[2]))
    return (1 - z) * n + z * h


def lstm_step(cell, x, state):
    h, c = state
    gates = x @ cell.weight.data + h @ cell.recurrent_weight.data + cell.bias.data
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


STEPS = {"GRU": gru_step, "LSTM": lstm_step}
sizes = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3), st.integers(1, 3))


@kinds
@given(sizes)
def test_the_layer_is_its_equations_step_by_step(kind, size):
    n, t, inputs, hidden = size
    layer = scattered(LAYERS[kind][0](inputs, hidden))
    x, state = array(n, t, inputs), states(kind, n, hidden)
    y, last = layer(x, state)
    assert y.shape == (n, t, hidden)
    expected = state
    for k in range(t):
        expected = STEPS[kind](layer.cell, x[:, k], expected)
        np.testing.assert_allclose(y.data[:, k], parts(expected)[0], atol=1e-12)
    for part, right in zip(parts(last), parts(expected)):
        np.testing.assert_allclose(getattr(part, "data", part), right, atol=1e-12)


@kinds
@settings(max_examples=settings.default.max_examples // 5)  # each runs the layer thousands of times
@given(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 2), st.integers(1, 2)))
def test_gradients(kind, size):
    n, t, inputs, hidden = size
    layer, cell = (scattered(make(inputs, hidden)) for make in LAYERS[kind])
    state = parts(states(kind, n, hidden))

    def whole(x, *state):
        y, last = layer(x, state if kind == "LSTM" else state[0])
        return (y, *parts(last))

    def one_step(x, *state):
        return cell(x, state if kind == "LSTM" else state[0])

    check_gradients(whole, array(n, t, inputs), *state, params=layer, order=2)
    check_gradients(one_step, array(n, inputs), *state, params=cell, order=2)


@kinds
def test_without_a_state_it_starts_from_zeros(kind):
    layer, cell = LAYERS[kind][0](2, 3), LAYERS[kind][1](2, 3)
    x = array(4, 5, 2, dtype="float32")
    zeros = np.zeros((4, 3), "float32")
    zeros = (zeros, zeros) if kind == "LSTM" else zeros
    np.testing.assert_array_equal(layer(x)[0].data, layer(x, zeros)[0].data)
    for given_none, given_zeros in zip(parts(cell(x[:, 0])), parts(cell(x[:, 0], zeros))):
        np.testing.assert_array_equal(given_none.data, given_zeros.data)


@kinds
def test_a_sequence_in_two_halves_is_the_whole(kind):
    layer = LAYERS[kind][0](2, 3)
    x = array(4, 6, 2, dtype="float32")
    whole, last = layer(x)
    first, state = layer(x[:, :2])
    second, end = layer(x[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], 1), whole.data, atol=1e-6)
    for a, b in zip(parts(last), parts(end)):
        np.testing.assert_allclose(a.data, b.data, atol=1e-6)


@kinds
def test_no_output_depends_on_later_inputs(kind):
    layer = LAYERS[kind][0](2, 3)
    x = tg.Tensor(array(1, 5, 2, dtype="float32"), requires_grad=True)
    y, _ = layer(x)
    for t in range(5):
        (x_bar,) = tg.grad(y[:, t].sum(), x, retain_graph=True)
        moved = (x_bar.data[0] != 0).all(axis=1)
        np.testing.assert_array_equal(moved, np.arange(5) <= t)


def test_how_weights_start():
    gru, lstm = nn.GRUCell(5, 4), nn.LSTM(5, 4).cell
    for cell, gates in [(gru, 3), (lstm, 4)]:
        for u in np.split(cell.recurrent_weight.data, gates, axis=1):
            np.testing.assert_allclose(u @ u.T, np.eye(4), atol=1e-6)
        assert abs(cell.weight.data).max() <= np.sqrt(6 / (5 + 4))
    np.testing.assert_array_equal(lstm.bias.data, [0] * 4 + [1] * 4 + [0] * 8)
    assert not gru.bias.data.any() and not gru.recurrent_bias.data.any()


def test_names_and_repr():
    assert list(nn.GRU(2, 3).state_dict()) == [
        "cell.weight",
        "cell.recurrent_weight",
        "cell.bias",
        "cell.recurrent_bias",
    ]
    assert list(nn.LSTMCell(2, 3).state_dict()) == ["weight", "recurrent_weight", "bias"]
    assert repr(nn.GRU(2, 3)) == "GRU(2, 3)"
    assert repr(nn.LSTMCell(2, 3)) == "LSTMCell(2, 3)"


@kinds
@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("t", [0, 3])
def test_float32_and_empty_batches_and_sequences(device, kind, n, t):
    layer = LAYERS[kind][0](2, 3)
    host = array(n, t, 2, dtype="float32")
    x = tg.Tensor(host, requires_grad=True)
    with forbid_transfers():
        y, state = layer(x)
        if t:
            sum((part * part).sum() for part in (y, *parts(state))).backward()
    assert y.shape == (n, t, 3) and y.dtype == "float32"
    if t:
        for tensor in (x, *layer.parameters()):
            assert tensor.grad.dtype == "float32" and tensor.grad.shape == tensor.shape
    with tg.device("cpu"):
        right, _ = layer.to("cpu")(host)
    np.testing.assert_allclose(y.numpy(), right.data, rtol=1e-5, atol=1e-6)


X, H = np.zeros((4, 5, 2), "float32"), np.zeros((4, 3), "float32")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.GRU(0, 3), ["GRUCell: inputs", "at least 1", "0"]),
        (lambda: nn.LSTM(2, 1.5), ["LSTMCell: hidden", "1.5"]),
        (lambda: nn.GRU(2, 3)(X[0]), ["GRU(2, 3): x: expected float32[N, T, 2], got float32[5, 2]"]),
        (lambda: nn.GRU(2, 3)(X.astype("float64")), ["GRU(2, 3): x", "float32", "float64"]),
        (lambda: nn.GRUCell(2, 3)(X), ["GRUCell(2, 3): x: expected float32[N, 2]"]),
        (lambda: nn.GRU(2, 3)(X, H[:1]), ["h: expected float32[4, 3], got float32[1, 3]"]),
        (lambda: nn.GRU(2, 3)(X, (H, H)), ["h: expected float32[4, 3], got tuple"]),
        (lambda: nn.LSTM(2, 3)(X, H), ["state: expected a pair (h, c), got float32[4, 3]"]),
        (lambda: nn.LSTM(2, 3)(X, (H, H[:, :2])), ["c: expected float32[4, 3], got float32[4, 2]"]),
        (lambda: nn.LSTMCell(2, 3)(X[:, 0], (H.astype("float64"), H)), ["h: expected float32", "float64"]),
    ],
)
def test_refusals_name_layer_argument_expected_and_got(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@kinds
def test_against_torch(kind):
    torch = pytest.importorskip("torch")
    layer = scattered(LAYERS[kind][0](3, 4))
    theirs = getattr(torch.nn, kind)(3, 4, batch_first=True, dtype=torch.float64)
    cell = layer.cell
    second = cell.recurrent_bias.data if kind == "GRU" else np.zeros(16)
    ours = [cell.weight.data.T, cell.recurrent_weight.data.T, cell.bias.data, second]
    with torch.no_grad():
        for p, value in zip(theirs.parameters(), ours):
            p.copy_(torch.tensor(value.copy()))
    x, state = array(2, 5, 3), states(kind, 2, 4)
    y, last = layer(x, state)
    starts = tuple(torch.tensor(part)[None] for part in parts(state))
    y2, last2 = theirs(torch.tensor(x), starts if kind == "LSTM" else starts[0])
    np.testing.assert_allclose(y.data, y2.detach().numpy(), atol=1e-12)
    for part, part2 in zip(parts(last), parts(last2)):
        np.testing.assert_allclose(part.data, part2[0].detach().numpy(), atol=1e-12)
    (y * y).sum().backward()
    (y2 * y2).sum().backward()
    gradients = [p.grad.numpy() for p in theirs.parameters()]
    np.testing.assert_allclose(cell.weight.grad.data, gradients[0].T, atol=1e-10)
    np.testing.assert_allclose(cell.recurrent_weight.grad.data, gradients[1].T, atol=1e-10)
    np.testing.assert_allclose(cell.bias.grad.data, gradients[2], atol=1e-10)
    if kind == "GRU":
        np.testing.assert_allclose(cell.recurrent_bias.grad.data, gradients[3], atol=1e-10)
