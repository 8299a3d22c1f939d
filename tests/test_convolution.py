"""Convolution and pooling: against sums written as loops, against PyTorch, and by their own algebra."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strict_cupy import forbid_transfers

from tinygen import Tensor, backend, grad
from tinygen.gradients import check_gradients
from tinygen.ops import convolution
from tinygen.ops.convolution import conv1d, conv2d, conv_transpose2d
from tinygen.ops.pooling import average_pool2d, max_pool2d, upsample_nearest2d

RNG = np.random.default_rng(0)


def normal(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


def naive_conv2d(x, w, stride, padding, dilation):
    """The definition, a tap at a time."""
    (sh, sw), (dh, dw), (kh, kw, _, c_out) = stride, dilation, w.shape
    padded = np.pad(x, ((0, 0), *(tuple(max(0, side) for side in sides) for sides in padding), (0, 0)))
    (top, bottom), (left, right) = [[max(0, -side) for side in sides] for sides in padding]
    padded = padded[:, top : padded.shape[1] - bottom, left : padded.shape[2] - right]
    oh = (padded.shape[1] - dh * (kh - 1) - 1) // sh + 1
    ow = (padded.shape[2] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((len(x), oh, ow, c_out))
    for i, j, p, q in itertools.product(range(oh), range(ow), range(kh), range(kw)):
        y[:, i, j] += padded[:, i * sh + p * dh, j * sw + q * dw] @ w[p, q]
    return y


def pairs(least, most):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def problems(draw, least_padding=-2):
    """(x, w, arguments in normal form) that fit; half of them at stride 1, which has ways of its own."""
    stride = draw(st.one_of(st.just((1, 1)), pairs(1, 3)))
    kernel, dilation = draw(pairs(1, 4)), draw(pairs(1, 3))
    padding = draw(st.tuples(pairs(least_padding, 4), pairs(least_padding, 4)))
    least = [max(1, d * (k - 1) + 1 - sum(p), -min(p)) for k, d, p in zip(kernel, dilation, padding)]
    size = [draw(st.integers(n, n + 6)) for n in least]
    n, c_in, c_out = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    arguments = {"stride": stride, "padding": padding, "dilation": dilation}
    return normal(n, *size, c_in), normal(*kernel, c_in, c_out), arguments


# What a fixture sets up is the same for all examples of a property: as it should be.
examples = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@examples
@given(problems())
def test_the_three_primitives_are_one_sum(workspace, problem):
    x, w, arguments = problem
    y = conv2d(x, w, **arguments)
    np.testing.assert_allclose(y, naive_conv2d(x, w, **arguments), rtol=1e-12, atol=1e-12)
    # S = ⟨g, conv(x, w)⟩ is linear in each of the three, and each face is its derivative with respect to one.
    g = normal(*y.shape)
    x_bar = convolution._conv_transpose2d(g, w, size=x.shape[1:3], **arguments)
    w_bar = convolution._conv2d_kernel(x, g, kernel=w.shape[:2], **arguments)
    assert x_bar.shape == x.shape and w_bar.shape == w.shape
    x2, w2 = normal(*x.shape), normal(*w.shape)
    for transposed, direct in [
        ((x_bar * x2).sum(), (g * naive_conv2d(x2, w, **arguments)).sum()),
        ((w_bar * w2).sum(), (g * naive_conv2d(x, w2, **arguments)).sum()),
    ]:
        assert abs(transposed - direct) < 1e-12 * max(1, np.abs(g).sum() * np.abs(x).max() * np.abs(w).sum())


@examples
@given(problems(least_padding=0), st.data())
def test_conv_transpose2d_is_the_adjoint_of_conv2d(problem, data):
    y, w, arguments = problem
    conv = conv2d(y, w, **arguments)
    x = normal(*conv.shape)
    more = tuple(
        (n + sum(p) - d * (k - 1) - 1) % s for n, k, s, p, d in zip(y.shape[1:], w.shape, *arguments.values())
    )
    result = conv_transpose2d(x, w, output_padding=more, **arguments)
    assert result.shape == y.shape
    # ⟨conv(y), x⟩ = ⟨y, convᵀ(x)⟩
    scale = np.linalg.norm(conv) * np.linalg.norm(x) + 1
    assert abs((conv * x).sum() - (y * result).sum()) < 1e-12 * scale


def test_convolution_is_its_toeplitz_matrix():
    w, arguments = normal(3, 2, 2, 3), {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}
    basis = np.eye(5 * 4 * 2).reshape(-1, 5, 4, 2)
    matrix = conv2d(basis, w, **arguments).reshape(len(basis), -1)
    x, y = normal(1, 5, 4, 2), normal(matrix.shape[1])
    np.testing.assert_allclose(conv2d(x, w, **arguments).ravel(), x.ravel() @ matrix, atol=1e-12)
    shape = conv2d(x, w, **arguments).shape
    result = conv_transpose2d(y.reshape(shape), w, output_padding=(1, 0), **arguments)
    np.testing.assert_allclose(result.ravel(), matrix @ y, atol=1e-12)


def test_negative_padding_cuts_pixels_off():
    x, w = normal(2, 6, 7, 2), normal(3, 2, 2, 3)
    cut = conv2d(x, w, padding=((2, -1), (-3, 0)))
    np.testing.assert_array_equal(cut, conv2d(x[:, :-1, 3:], w, padding=((2, 0), 0)))
    # All is cut off: what is left are the zeros around it.
    np.testing.assert_array_equal(conv2d(x, w, padding=((-6, 3), 0)), np.zeros((2, 1, 6, 3)))


@pytest.mark.parametrize("size", [1, 4, 5, 9])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_same(size, kernel, stride, dilation):
    x, w = normal(1, size, size, 1), normal(kernel, kernel, 1, 1)
    y = conv2d(x, w, stride, "same", dilation)
    assert y.shape[1:3] == (-(-size // stride),) * 2
    zeros = max(0, (y.shape[1] - 1) * stride + dilation * (kernel - 1) + 1 - size)
    before_and_after = (zeros // 2, zeros - zeros // 2)
    np.testing.assert_array_equal(y, conv2d(x, w, stride, (before_and_after,) * 2, dilation))


def test_forms_of_arguments():
    x, w = normal(2, 6, 7, 2), normal(3, 2, 2, 3)
    full = conv2d(x, w, (2, 2), ((1, 1), (1, 1)), (1, 1))
    np.testing.assert_array_equal(conv2d(x, w, 2, 1), full)
    np.testing.assert_array_equal(conv2d(x, w, np.int64(2), [1, (1, 1)]), full)
    np.testing.assert_array_equal(conv2d(x, w, padding="valid"), conv2d(x, w))
    np.testing.assert_array_equal(conv_transpose2d(full, w, padding="valid"), conv_transpose2d(full, w))


@examples
@given(problems())
def test_conv1d_is_conv2d_of_height_one(problem):
    x, w, arguments = problem
    x, w = x[:, 0], w[0]
    stride, padding, dilation = (value[1] for value in arguments.values())
    y = conv1d(x, w, stride, padding, dilation)
    expected = naive_conv2d(x[:, None], w[None], (1, stride), ((0, 0), padding), (1, dilation))
    np.testing.assert_allclose(y, expected[:, 0], atol=1e-12)
    assert conv1d(x, w, 2, "same").shape[1] == -(-x.shape[1] // 2)


# Gradients ----------------------------------------------------------------------------------------

GEOMETRIES = {
    "windows": (
        (2, 5, 4, 1),
        (2, 2, 1, 3),
        {"stride": (1, 1), "padding": ((1, 1), (0, 2)), "dilation": (1, 1)},
    ),
    "lines": (
        (2, 4, 3, 3),
        (3, 2, 3, 1),
        {"stride": (1, 1), "padding": ((2, 1), (0, 1)), "dilation": (1, 2)},
    ),
    "strided": (
        (2, 5, 4, 2),
        (3, 2, 2, 1),
        {"stride": (2, 3), "padding": ((1, 1), (1, 0)), "dilation": (1, 1)},
    ),
    "dilated": (
        (1, 6, 4, 1),
        (2, 3, 1, 2),
        {"stride": (2, 1), "padding": ((0, 1), (1, 1)), "dilation": (3, 1)},
    ),
    "cropped": (
        (2, 4, 5, 2),
        (2, 3, 2, 1),
        {"stride": (1, 1), "padding": ((2, -1), (-2, 1)), "dilation": (1, 1)},
    ),
    "cropped, strided": (
        (2, 6, 4, 1),
        (2, 1, 1, 2),
        {"stride": (2, 3), "padding": ((-3, 1), (0, -1)), "dilation": (1, 1)},
    ),
    "1x1": ((2, 3, 2, 2), (1, 1, 2, 3), {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_each_of_the_three_has_the_others_for_gradients(geometry):
    x_shape, w_shape, arguments = GEOMETRIES[geometry]
    x, w = normal(*x_shape), normal(*w_shape)
    y = normal(*conv2d(x, w, **arguments).shape)
    size, kernel = x_shape[1:3], w_shape[:2]
    order = 3 if geometry in ("lines", "strided") else 2
    check_gradients(lambda x, w: convolution._conv2d(x, w, **arguments), x, w, order=order)
    check_gradients(
        lambda y, w: convolution._conv_transpose2d(y, w, size=size, **arguments), y, w, order=order
    )
    check_gradients(
        lambda x, y: convolution._conv2d_kernel(x, y, kernel=kernel, **arguments), x, y, order=order
    )


@pytest.mark.parametrize("of_images", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_with_what_is_added(geometry, of_images):
    x_shape, w_shape, arguments = GEOMETRIES[geometry]
    x, w = normal(*x_shape), normal(*w_shape)
    b = normal(*(conv2d(x, w, **arguments).shape if of_images else w_shape[3:]))
    order = 3 if geometry in ("lines", "strided") else 2
    check_gradients(lambda x, w, b: conv2d(x, w, **arguments, plus=b) ** 2, x, w, b, order=order)


@examples
@given(problems(), st.booleans())
def test_what_is_added_is_added(workspace, problem, of_images):
    x, w, arguments = problem
    b = normal(*(conv2d(x, w, **arguments).shape if of_images else w.shape[3:]))
    inputs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    y, expected = (
        conv2d(*inputs[:2], **arguments, plus=inputs[2]),
        conv2d(*inputs[:2], **arguments) + inputs[2],
    )
    np.testing.assert_allclose(y.data, expected.data, rtol=1e-12, atol=1e-12)
    g = normal(*y.shape)
    for ours, right in zip(grad(y, inputs, g), grad(expected, inputs, g)):
        assert ours.shape == right.shape
        np.testing.assert_allclose(ours.data, right.data, rtol=1e-12, atol=1e-12)


def test_what_is_added_may_have_the_shape_of_a_bias_and_of_the_result():
    """(1, 1, 1, o) is added as images of the result's shape."""
    x, w, b = normal(1, 3, 3, 2), normal(3, 3, 2, 4), normal(1, 1, 1, 4)
    np.testing.assert_allclose(conv2d(x, w, plus=b), conv2d(x, w) + b)
    check_gradients(lambda x, w, b: conv2d(x, w, plus=b), x, w, b, order=2)


def test_gradient_penalty():
    """The gradient of a norm of a gradient, as in WGAN-GP, through two layers."""
    x, w, v = normal(2, 6, 6, 1), normal(4, 4, 1, 2), normal(3, 3, 2, 1)

    def penalty(x, w, v):
        score = conv2d(conv2d(x, w, 2, 1) ** 2, v, padding=1).sum()
        (x_bar,) = grad(score, x, create_graph=True)
        return ((x_bar * x_bar).sum(axis=(1, 2, 3)) ** 0.5 - 1.0) ** 2

    check_gradients(penalty, x, w, v)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: average_pool2d(x, 2),
        lambda x: average_pool2d(x, (3, 2), (1, 2)),
        lambda x: max_pool2d(x, 2),
        lambda x: max_pool2d(x, 3, 1),
        lambda x: max_pool2d(x, (2, 3), (1, 2)) ** 3,
        lambda x: upsample_nearest2d(x, 2) ** 2,
        lambda x: upsample_nearest2d(x, (1, 3)),
        lambda x: conv_transpose2d(x, np.ones((4, 4, 3, 2)), 2, 1, 1) ** 2,
    ],
)
def test_gradients_of_pooling_and_upsampling(function):
    # Distinct values: no ties near them.
    x = RNG.permutation(2 * 5 * 4 * 2).reshape(2, 5, 4, 2) / 10
    check_gradients(function, x, order=2)


def test_ties_of_max_pooling_share_the_gradient_equally():
    image = np.array([[1.0, 1, 0], [0, 1, 2], [1, 0, 0]]).reshape(1, 3, 3, 1)
    x = Tensor(image, requires_grad=True)
    (x_bar,) = grad(max_pool2d(x, 2, 1), x, np.ones((1, 2, 2, 1)))
    # Window by window: thirds among three ones; the 2; halves among two ones; the 2.
    expected = [[1 / 3, 1 / 3, 0], [0, 1 / 3 + 1 / 2, 2], [1 / 2, 0, 0]]
    np.testing.assert_allclose(x_bar.data[0, :, :, 0], expected, atol=1e-15)


# Values, dtypes, sizes and errors -------------------------------------------------------------------


def test_pooling_and_upsampling_values():
    x = normal(2, 5, 7, 3)
    windows = x[:, :4, :6].reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_allclose(average_pool2d(x, 2), windows.mean(axis=(2, 4)))
    np.testing.assert_array_equal(max_pool2d(x, 2), windows.max(axis=(2, 4)))
    overlapping = np.stack([x[:, i : i + 3, 2:6].max(axis=(1, 2)) for i in (0, 1, 2)], axis=1)
    np.testing.assert_array_equal(max_pool2d(x, (3, 4), (1, 2))[:, :, 1], overlapping)
    np.testing.assert_array_equal(upsample_nearest2d(x, (2, 3)), x.repeat(2, axis=1).repeat(3, axis=2))


def plus(x, w, b, **arguments):
    return conv2d(x, w, **arguments, plus=b)


FUNCTIONS = [
    (conv2d, [(5, 6, 2), (3, 3, 2, 4)], {"padding": 1}),
    (conv2d, [(5, 6, 2), (4, 4, 2, 4)], {"stride": 2}),
    (conv2d, [(5, 6, 4), (3, 3, 4, 1)], {"dilation": 2}),
    (conv2d, [(5, 6, 2), (1, 1, 2, 4)], {}),
    (plus, [(5, 6, 2), (3, 3, 2, 4), (4,)], {"padding": 1}),
    (plus, [(5, 6, 4), (3, 3, 4, 1), (1,)], {"padding": 1}),
    (plus, [(5, 6, 2), (4, 4, 2, 4), (4,)], {"stride": 2}),
    (conv_transpose2d, [(5, 6, 2), (4, 4, 3, 2)], {"stride": 2, "padding": 1}),
    (conv_transpose2d, [(5, 6, 2), (3, 3, 3, 2)], {"padding": 1}),
    (conv1d, [(5, 2), (3, 2, 4)], {"padding": "same"}),
    (average_pool2d, [(5, 6, 2)], {"size": 2}),
    (max_pool2d, [(5, 6, 2)], {"size": 3, "stride": 1}),
    (upsample_nearest2d, [(5, 6, 2)], {"factor": 2}),
]


@pytest.mark.parametrize(("function", "shapes", "arguments"), FUNCTIONS)
@pytest.mark.parametrize("n", [0, 3])
def test_float32_and_empty_batches(device, function, shapes, arguments, n):
    hosts = [normal(*shape, dtype="float32") for shape in [(n, *shapes[0]), *shapes[1:]]]
    inputs = [Tensor(a, requires_grad=True) for a in hosts]
    with forbid_transfers():
        y = function(*inputs, **arguments)
        raw = function(*(x.data for x in inputs), **arguments)
        firsts = grad((y * y).sum(), inputs, create_graph=True)
        seconds = grad(sum((g * g).sum() for g in firsts), inputs)
    assert isinstance(raw, backend.xp.ndarray) and raw.dtype == y.dtype == np.float32
    assert len(y.data) == n
    np.testing.assert_array_equal(backend.to_host(raw), y.numpy())
    with backend.device("cpu"):
        np.testing.assert_allclose(y.numpy(), function(*hosts, **arguments), rtol=1e-5, atol=1e-5)
    for a, first, second in zip(inputs, firsts, seconds):
        assert first.shape == second.shape == a.shape
        assert first.dtype == second.dtype == np.float32
        assert n or not first.numpy().any()


def test_inputs_are_left_alone_and_may_be_views():
    x, w = normal(3, 8, 8, 4)[::2, ::-1, 1:], normal(3, 4, 3, 3).transpose(2, 3, 1, 0)
    before = x.copy(), w.copy()
    for arguments in ({"padding": 1}, {"stride": 2}):
        y = conv2d(x, w, **arguments)
        np.testing.assert_allclose(y, conv2d(*before, **arguments), atol=1e-12)
        back = conv_transpose2d(y.swapaxes(0, 1), w, **arguments)
        np.testing.assert_allclose(
            back, conv_transpose2d(y.swapaxes(0, 1).copy(), w, **arguments), atol=1e-12
        )
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(w, before[1])


IMAGES, KERNELS = np.zeros((2, 5, 5, 3)), np.zeros((3, 3, 3, 4))
TRANSPOSED = np.zeros((3, 3, 4, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: conv2d(IMAGES[0], KERNELS), ["conv2d", "x", "(N, H, W, C_in)", "(5, 5, 3)"]),
        (lambda: conv2d([1.0], KERNELS), ["conv2d", "x", "list"]),
        (lambda: conv2d(IMAGES, KERNELS[0]), ["conv2d", "w", "(KH, KW, C_in, C_out)", "(3, 3, 4)"]),
        (lambda: conv2d(IMAGES[..., :2], KERNELS), ["conv2d", "x", "3 channels", "2"]),
        (lambda: conv2d(IMAGES, KERNELS, 0), ["conv2d", "stride", "at least 1", "0"]),
        (lambda: conv2d(IMAGES, KERNELS, (1, 2, 3)), ["conv2d", "stride", "(1, 2, 3)"]),
        (lambda: conv2d(IMAGES, KERNELS, 1.5), ["conv2d", "stride", "1.5"]),
        (lambda: conv2d(IMAGES, KERNELS, dilation="2"), ["conv2d", "dilation", "'2'"]),
        (lambda: conv2d(IMAGES, KERNELS, padding="full"), ["conv2d", "padding", "valid", "'full'"]),
        (lambda: conv2d(IMAGES, KERNELS, padding=-2), ["conv2d", "x", "(3, 3)", "(1, 1)"]),
        (
            lambda: conv2d(IMAGES, KERNELS, padding=((-6, 9), 0)),
            ["conv2d", "padding", "at most (5, 5)", "((-6, 9), (0, 0))"],
        ),
        (lambda: conv2d(IMAGES, KERNELS, padding=(1, 1, 1, 1)), ["conv2d", "padding", "(1, 1, 1, 1)"]),
        (lambda: conv2d(IMAGES, KERNELS, padding=np.ones(2)), ["conv2d", "padding"]),
        (lambda: conv2d(IMAGES, KERNELS, dilation=3), ["conv2d", "x", "(7, 7)", "(5, 5)"]),
        (
            lambda: conv2d(IMAGES, KERNELS, plus=np.zeros(3)),
            ["conv2d", "plus", "(4,) or (2, 3, 3, 4)", "(3,)"],
        ),
        (lambda: conv2d(IMAGES, KERNELS, plus=np.zeros((3, 3, 4))), ["conv2d", "plus", "(3, 3, 4)"]),
        (lambda: conv2d(IMAGES, KERNELS, plus=np.zeros((1, 3, 3, 4))), ["conv2d", "plus", "(1, 3, 3, 4)"]),
        (
            lambda: conv2d(IMAGES, KERNELS, padding=1, plus=np.zeros((2, 3, 3, 4))),
            ["conv2d", "plus", "(2, 5, 5, 4)", "(2, 3, 3, 4)"],
        ),
        (lambda: conv2d(IMAGES, KERNELS, plus=0.5), ["conv2d", "plus", "0.5"]),
        (lambda: conv2d(IMAGES, KERNELS[:0]), ["conv2d", "x", "(5, 5)"]),
        (lambda: conv1d(IMAGES, KERNELS), ["conv1d", "x", "(N, L, C_in)"]),
        (lambda: conv1d(IMAGES[0], KERNELS[0, :, :2]), ["conv1d", "x", "2 channels", "3"]),
        (lambda: conv_transpose2d(IMAGES, KERNELS), ["conv_transpose2d", "x", "4 channels", "3"]),
        (
            lambda: conv_transpose2d(IMAGES, TRANSPOSED, padding="same"),
            ["conv_transpose2d", "padding", "same"],
        ),
        (
            lambda: conv_transpose2d(IMAGES, TRANSPOSED, 2, 0, 2),
            ["conv_transpose2d", "output_padding", "(2, 2)"],
        ),
        (
            lambda: conv_transpose2d(IMAGES, TRANSPOSED, padding=-1),
            ["conv_transpose2d", "padding", "at least 0", "-1"],
        ),
        (lambda: conv_transpose2d(IMAGES, TRANSPOSED, 1, 4), ["conv_transpose2d", "padding", "(-1, -1)"]),
        (lambda: average_pool2d(IMAGES, 6), ["average_pool2d", "(6, 6)", "(5, 5)"]),
        (lambda: max_pool2d(IMAGES, 2, 0), ["max_pool2d", "stride", "0"]),
        (lambda: max_pool2d(IMAGES[0], 2), ["max_pool2d", "x", "(N, H, W, C)", "(5, 5, 3)"]),
        (lambda: upsample_nearest2d(IMAGES, 0), ["upsample_nearest2d", "factor", "0"]),
    ],
)
def test_errors_name_function_argument_expected_and_got(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{words[0]}: ")
    for word in words:
        assert word in message


# PyTorch ------------------------------------------------------------------------------------------


def channels_first(a):
    return np.ascontiguousarray(np.moveaxis(a, -1, 1))


@examples
@given(problems(least_padding=0))
def test_against_torch(problem):
    torch = pytest.importorskip("torch")
    x, w, arguments = problem
    symmetric = tuple(before for before, _ in arguments["padding"])
    spans = [d * (k - 1) + 1 for d, k in zip(arguments["dilation"], w.shape)]
    if any(n + 2 * p < span for n, p, span in zip(x.shape[1:], symmetric, spans)):
        symmetric = (8, 8)
    inputs = [Tensor(a, requires_grad=True) for a in (x, w)]
    theirs = [
        torch.tensor(a, requires_grad=True) for a in (channels_first(x), w.transpose(3, 2, 0, 1).copy())
    ]
    y = conv2d(*inputs, **{**arguments, "padding": symmetric})
    expected = torch.nn.functional.conv2d(*theirs, **{**arguments, "padding": symmetric})
    np.testing.assert_allclose(channels_first(y.data), expected.detach().numpy(), rtol=1e-10, atol=1e-10)
    g = normal(*y.shape)
    x_bar, w_bar = grad(y, inputs, g)
    x_exp, w_exp = torch.autograd.grad(expected, theirs, torch.tensor(channels_first(g)))
    np.testing.assert_allclose(channels_first(x_bar.data), x_exp.numpy(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(w_bar.data.transpose(3, 2, 0, 1), w_exp.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("padding", [0, 1])
def test_transposed_against_torch(stride, kernel, padding):
    torch = pytest.importorskip("torch")
    x, w = normal(2, 3, 4, 2), normal(kernel, kernel, 3, 2)
    more = stride - 1
    y = conv_transpose2d(x, w, stride, padding, more)
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(channels_first(x)),
        torch.tensor(w.transpose(3, 2, 0, 1).copy()),
        None,
        stride,
        padding,
        more,
    )
    np.testing.assert_allclose(channels_first(y), expected.numpy(), atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_and_pooling_against_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, w = normal(2, 6, 7, 3), normal(4, 3, 3, 2)
    images, kernels = torch.tensor(channels_first(x)), torch.tensor(w.transpose(3, 2, 0, 1).copy())
    for ours, theirs in [
        (conv2d(x, w, padding="same"), functional.conv2d(images, kernels, padding="same")),
        (average_pool2d(x, 3, 2), functional.avg_pool2d(images, 3, 2)),
        (max_pool2d(x, 3, 2), functional.max_pool2d(images, 3, 2)),
        (upsample_nearest2d(x, 2), functional.interpolate(images, scale_factor=2)),
    ]:
        np.testing.assert_allclose(channels_first(ours), theirs.numpy(), atol=1e-12)
