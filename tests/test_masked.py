"""Masked convolutions: what they see and what not, against masked weights in plain ones, and PyTorch."""

import numpy as np
import pytest
from autoregressive import computes_in_float32
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn, ops
from tinygen.gradients import check_gradients

RNG = np.random.default_rng(0)


def array(*shape, dtype="float32"):
    return RNG.standard_normal(shape).astype(dtype)


def dependence(layer, *size):
    """Whether each output (i, j, o) of a layer of images moves with each input (k, l, c), by gradients."""
    x = tg.Tensor(array(1, *size, layer.inputs), requires_grad=True)
    y = layer(x)
    seen = np.zeros((y.size, x.size), bool)
    for k in range(y.size):
        one = np.zeros(y.size, "float32")
        one[k] = 1
        (x_bar,) = tg.grad(y, x, one.reshape(y.shape), retain_graph=True)
        seen[k] = x_bar.data.ravel() != 0
    return seen.reshape(*y.shape[1:], *x.shape[1:])


def full_mask(layer):
    """The mask of a MaskedConv2d over the whole kernel, tap by tap from the paper's words."""
    mask = np.zeros(layer.weight.shape)
    middle = mask.shape[0] // 2, mask.shape[1] // 2
    for p, q, c, o in np.ndindex(mask.shape):
        before = (p, q) < middle
        color_in, color_out = c // (layer.inputs // layer.colors), o // (layer.outputs // layer.colors)
        same_pixel = (p, q) == middle
        earlier = color_in < color_out or (color_in == color_out and layer.mask == "B")
        mask[p, q, c, o] = before or (same_pixel and earlier)
    return mask


@st.composite
def convolutions(draw):
    colors, side = draw(st.integers(1, 3)), st.sampled_from([1, 3, 5])
    size = draw(side | st.tuples(side, side))
    mask = draw(st.sampled_from("B" if colors == 1 and size in (1, (1, 1)) else "AB"))
    inputs, outputs = colors * draw(st.integers(1, 2)), colors * draw(st.integers(1, 2))
    return nn.MaskedConv2d(mask, inputs, outputs, size, colors)


images = st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5))


# MaskedConv2d -------------------------------------------------------------------------------------------


@given(convolutions(), images)
def test_masked_convolution_is_convolution_with_masked_weights(layer, size):
    layer.astype("float64").bias.data = array(layer.outputs, dtype="float64")
    x = tg.Tensor(array(*size, layer.inputs, dtype="float64"), requires_grad=True)
    y = layer(x)
    masked = layer.weight.data * full_mask(layer)
    w = tg.Tensor(masked, requires_grad=True)
    expected = ops.conv2d(x, w, padding=(w.shape[0] // 2, w.shape[1] // 2)) + layer.bias
    np.testing.assert_allclose(y.data, expected.data, atol=1e-12)
    g = array(*y.shape, dtype="float64")
    x_bar, w_bar = tg.grad(y, [x, layer.weight], g)
    x_right, w_right = tg.grad(expected, [x, w], g)
    np.testing.assert_allclose(x_bar.data, x_right.data, atol=1e-12)
    np.testing.assert_allclose(w_bar.data, w_right.data * full_mask(layer), atol=1e-12)
    assert not w_bar.data[full_mask(layer) == 0].any()  # exactly


@given(convolutions())
def test_halves_are_the_live_taps(layer):
    above, left = layer.halves()
    rows, reach = layer.weight.shape[0] // 2, layer.weight.shape[1] // 2
    kernel = np.zeros(layer.weight.shape)
    if above:
        kernel[:rows] = above.kernel.data
        assert above.around == (reach, reach)
    if left:
        kernel[rows, : left.kernel.shape[1]] = left.kernel.data[0]
        assert left.around == (reach, left.kernel.shape[1] - reach - 1)
    assert (above is None) == (rows == 0)
    np.testing.assert_array_equal(kernel, layer.weight.data * full_mask(layer))


@given(convolutions(), images)
def test_gradients_of_masked_convolution(layer, size):
    layer.astype("float64")
    check_gradients(lambda x: layer(x) ** 2, array(*size, layer.inputs), params=layer, order=2)


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("colors", [1, 3])
def test_no_output_depends_on_what_comes_after_it(mask, colors):
    layer = nn.MaskedConv2d(mask, colors, 2 * colors, 3, colors)
    seen = dependence(layer, 4, 5)
    for i, j, o, k, m, c in np.ndindex(seen.shape):
        color = o // 2
        earlier = (k, m) < (i, j) or ((k, m) == (i, j) and (c < color or (c == color and mask == "B")))
        within = abs(k - i) <= 1 and abs(m - j) <= 1
        assert seen[i, j, o, k, m, c] == (earlier and within)


def test_a_stack_is_causal_and_has_the_blind_spot():
    """The field of view of 'A' and two of 'B' leaves out a cone at the right (van den Oord et al. 2016,
    Conditional image generation with PixelCNN decoders, section 2.2)."""
    stack = nn.Sequential(*(nn.MaskedConv2d(mask, 1, 1, 3) for mask in "ABB"))
    for layer in stack.layers:
        layer.weight.data = np.abs(layer.weight.numpy())  # nothing cancels
    stack.inputs = 1
    seen = dependence(stack, 7, 7)[4, 3, 0, :, :, 0]
    assert not seen[4, 3:].any() and not seen[5:].any()
    np.testing.assert_array_equal(seen[3], [1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(seen[2], [1, 1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(seen[1], [1, 1, 1, 1, 1, 1, 1])


def test_the_two_stacks_of_gated_pixelcnn():
    """The vertical stack sees all rows above, the horizontal one the left part of its row: rectangles, and
    padding that cuts off what would look ahead. Together they have no blind spot."""
    rows, left, inner = np.ones((2, 3, 1, 1)), np.ones((1, 1, 1, 1)), np.ones((1, 2, 1, 1))

    def outputs(x):
        vertical = ops.conv2d(x, rows, padding=((2, -1), 1))  # the two rows above
        horizontal = ops.conv2d(x, left, padding=(0, (1, -1))) + vertical  # the pixel on the left
        for _ in range(2):
            # Its own row is one above what the pixel of this place may see, already.
            vertical = ops.conv2d(vertical, rows, padding=((1, 0), 1))
            horizontal = ops.conv2d(horizontal, inner, padding=(0, (1, 0))) + vertical
        return horizontal

    x = tg.Tensor(array(1, 7, 7, 1, dtype="float64"), requires_grad=True)
    (x_bar,) = tg.grad(outputs(x)[0, 4, 3, 0], x)
    seen = x_bar.data[0, :, :, 0] != 0
    assert not seen[4, 3:].any() and not seen[5:].any()
    assert seen[1:4].all() and seen[4, :3].all()


def test_an_optimizer_leaves_masked_weights_and_their_values():
    layer = nn.MaskedConv2d("B", 2, 2, 3)
    before = layer.weight.numpy()
    optimizer = tg.optim.SGD(layer.parameters(), lr=1.0)
    (layer(array(2, 4, 4, 2)) ** 2).sum().backward()
    optimizer.step()
    dead = full_mask(layer) == 0
    np.testing.assert_array_equal(layer.weight.data[dead], before[dead])
    assert (before[dead] != 0).all() and (layer.weight.data[~dead] != before[~dead]).all()


@pytest.mark.parametrize(("mask", "size", "colors"), [("A", 7, 1), ("B", 3, 1), ("B", 1, 3), ("A", 5, 3)])
def test_masked_convolution_against_torch(mask, size, colors):
    torch = pytest.importorskip("torch")
    layer = nn.MaskedConv2d(mask, 3, 6, size, colors)
    images = array(2, 5, 6, 3)
    x, theirs = tg.Tensor(images, requires_grad=True), torch.tensor(images, requires_grad=True)
    weight = torch.tensor((layer.weight.data * full_mask(layer)).astype("float32")).permute(3, 2, 0, 1)
    expected = torch.nn.functional.conv2d(theirs.permute(0, 3, 1, 2), weight, padding=size // 2)
    y = layer(x)
    np.testing.assert_allclose(y.data, expected.permute(0, 2, 3, 1).detach().numpy(), atol=1e-5)
    (y * y).sum().backward()
    (expected * expected).sum().backward()
    np.testing.assert_allclose(x.grad.data, theirs.grad.numpy(), atol=1e-4)


# ShiftedConv2d ------------------------------------------------------------------------------------------


@st.composite
def shifted_convolutions(draw):
    size = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    right = draw(st.integers(0, size[1] - 1))
    return nn.ShiftedConv2d(draw(st.integers(1, 2)), draw(st.integers(1, 2)), size, right)


@given(shifted_convolutions(), images)
def test_shifted_convolution_is_the_sum_over_its_taps(layer, size):
    layer.astype("float64").bias.data = array(layer.outputs, dtype="float64")
    x, (height, width) = array(*size, layer.inputs, dtype="float64"), layer.size
    left = width - 1 - layer.right
    padded = np.pad(x, ((0, 0), (height - 1, 0), (left, layer.right), (0, 0)))
    expected = np.zeros((*size, layer.outputs)) + layer.bias.data
    for p, q in np.ndindex(height, width):
        expected += padded[:, p : p + size[1], q : q + size[2]] @ layer.weight.data[p, q]
    np.testing.assert_allclose(layer(x).data, expected, atol=1e-12)


@given(shifted_convolutions(), st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_shifted_convolution_sees_no_pixel_below_nor_beyond_right(layer, size):
    seen, (height, width) = dependence(layer, *size), layer.size
    for i, j, _, k, m, _ in np.ndindex(seen.shape):
        within = 0 <= i - k < height and -layer.right <= j - m < width - layer.right
        assert (seen[i, j, :, k, m] == within).all()


@given(shifted_convolutions())
def test_halves_of_a_shifted_convolution_are_its_rows_above_and_its_own(layer):
    above, left = layer.halves()
    assert (above is None) == (layer.size[0] == 1)
    rows = [half.kernel.data for half in (above, left) if half]
    np.testing.assert_array_equal(np.concatenate(rows), layer.weight.data)
    for half in (above, left):
        assert half is None or half.around == (layer.size[1] - 1 - layer.right, layer.right)


@given(shifted_convolutions(), images)
def test_gradients_of_shifted_convolution(layer, size):
    layer.astype("float64")
    check_gradients(lambda x: layer(x) ** 2, array(*size, layer.inputs), params=layer, order=2)


# All of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.MaskedConv2d("A", 3, 6, 3), (4, 1, 3)),
        (lambda: nn.MaskedConv2d("B", 3, 6, 5, colors=3), (1, 4, 3)),
        (lambda: nn.MaskedConv2d("A", 3, 6, (1, 5)), (2, 4, 3)),
        (lambda: nn.ShiftedConv2d(3, 2, (2, 3), right=1), (4, 5, 3)),
    ],
)
def test_float32_and_empty_batches(device, make, shape, n):
    computes_in_float32(make(), array(n, *shape))


def test_repr():
    assert repr(nn.MaskedConv2d("A", 1, 2, 7)) == "MaskedConv2d('A', 1, 2, 7, colors=1)"
    assert repr(nn.MaskedConv2d("B", 1, 2, (1, 3))) == "MaskedConv2d('B', 1, 2, (1, 3), colors=1)"
    assert repr(nn.ShiftedConv2d(1, 2, (2, 3), 1)) == "ShiftedConv2d(1, 2, (2, 3), right=1)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nn.MaskedConv2d("C", 1, 1, 3), ["MaskedConv2d: mask", "'A' or 'B'", "'C'"]),
        (lambda: nn.MaskedConv2d("A", 1, 1, 4), ["MaskedConv2d: size", "odd", "4"]),
        (lambda: nn.MaskedConv2d("A", 1, 1, 1), ["MaskedConv2d: size", "3 or more", "1"]),
        (lambda: nn.MaskedConv2d("A", 3, 4, 3, 3), ["MaskedConv2d: colors", "divisor", "3", "4"]),
        (lambda: nn.MaskedConv2d("A", 0, 4, 3), ["MaskedConv2d: inputs", "0"]),
        (lambda: nn.MaskedConv2d("A", 1, 4, (3, 2)), ["MaskedConv2d: size", "odd", "(3, 2)"]),
        (lambda: nn.MaskedConv2d("A", 1, 4, (1, 1)), ["MaskedConv2d: size", "3 or more"]),
        (lambda: nn.MaskedConv2d("A", 1, 4, (0, 3)), ["MaskedConv2d: size", "at least 1", "0"]),
        (lambda: nn.MaskedConv2d("A", 1, 4, (3, 3, 3)), ["MaskedConv2d: size", "(3, 3, 3)"]),
        (lambda: nn.ShiftedConv2d(1, 4, 3), ["ShiftedConv2d: size", "(height, width)", "3"]),
        (lambda: nn.ShiftedConv2d(1, 4, (2, 0)), ["ShiftedConv2d: size", "at least 1", "0"]),
        (lambda: nn.ShiftedConv2d(0, 4, (2, 3)), ["ShiftedConv2d: inputs", "0"]),
        (lambda: nn.ShiftedConv2d(1, 4, (2, 3), 3), ["ShiftedConv2d: right", "less than the width 3", "3"]),
        (lambda: nn.ShiftedConv2d(1, 4, (2, 3), -1), ["ShiftedConv2d: right", "-1"]),
        (
            lambda: nn.ShiftedConv2d(1, 4, (2, 3))(array(2, 4, 4, 2)),
            ["ShiftedConv2d(1, 4, (2, 3)", "x: expected float32[N, H, W, 1]", "[2, 4, 4, 2]"],
        ),
        (
            lambda: nn.MaskedConv2d("A", 1, 4, 3)(array(2, 4, 4, 2)),
            ["MaskedConv2d('A', 1, 4, 3", "x: expected float32[N, H, W, 1]", "[2, 4, 4, 2]"],
        ),
        (
            lambda: nn.MaskedConv2d("A", 1, 4, 3)(array(2, 0, 4, 1)),
            ["x: expected height and width of at least 1", "[2, 0, 4, 1]"],
        ),
    ],
)
def test_refusals_name_layer_argument_expected_and_got(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
