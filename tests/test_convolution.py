"""Convolution and pooling against sums written as loops, against PyTorch, and against their own algebra."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Tensor, backend, grad
from tinygen.ops import convolution
from tinygen.ops.convolution import (
    average_pool2d,
    conv1d,
    conv2d,
    conv_transpose2d,
    max_pool2d,
    upsample_nearest2d,
)

RNG = np.random.default_rng(0)


def normal(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


def numbers(value, like):
    """The values of a Tensor or array, checked to have the dtype of `like`."""
    array = value.data if isinstance(value, Tensor) else value
    assert isinstance(array, np.ndarray) and array.dtype == like.dtype
    return array


def naive_conv2d(x, w, stride, padding, dilation):
    """The definition, term by term."""
    (sh, sw), ((top, bottom), (left, right)), (dh, dw) = stride, padding, dilation
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kh, kw, _, c_out = w.shape
    oh = (padded.shape[1] - dh * (kh - 1) - 1) // sh + 1
    ow = (padded.shape[2] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((len(x), oh, ow, c_out), x.dtype)
    for i, j, p, q in itertools.product(range(oh), range(ow), range(kh), range(kw)):
        y[:, i, j] += padded[:, i * sh + p * dh, j * sw + q * dw] @ w[p, q]
    return y


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))


@st.composite
def problems(draw):
    """(x, w, arguments) that fit, among them those that are computed line by line."""
    stride, dilation = draw(pairs), draw(pairs)
    if draw(st.booleans()):
        stride = (1, 1)
    padding = draw(st.tuples(sides, sides))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = [
        draw(st.integers(max(1, d * (k - 1) + 1 - sum(p)), 9))
        for k, d, p in zip(kernel, dilation, padding)
    ]
    n, c_in, c_out = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    x, w = normal(n, *size, c_in), normal(*kernel, c_in, c_out)
    return x, w, {"stride": stride, "padding": padding, "dilation": dilation}


@pytest.fixture(params=[1, 200, 1 << 18], autouse=True)
def workspace(request, monkeypatch):
    """Every test runs with chunks of one image, of a few, and of all."""
    monkeypatch.setattr(backend, "_current", backend.current_device()._replace(workspace=request.param))


# A fixture is the same for all examples of a property, as it should be here.
examples = settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(__import__("hypothesis").HealthCheck))


@examples
@given(problems())
def test_three_faces_of_one_sum(problem):
    x, w, arguments = problem
    y = numbers(conv2d(x, w, **arguments), x)
    np.testing.assert_allclose(y, naive_conv2d(x, w, **arguments), rtol=1e-12, atol=1e-12)
    # ⟨y, conv(x, w)⟩ is linear in each of the three: transposes give the same number.
    g = normal(*y.shape)
    x_bar = convolution._conv_transpose2d(g, w, size=x.shape[1:3], **arguments)
    w_bar = convolution._conv2d_kernel(x, g, kernel=w.shape[:2], **arguments)
    scale = np.linalg.norm(y) * np.linalg.norm(g) + 1
    assert x_bar.shape == x.shape and w_bar.shape == w.shape
    assert abs((g * y).sum() - (x_bar * x).sum()) < 1e-12 * scale
    assert abs((g * y).sum() - (w_bar * w).sum()) < 1e-12 * scale
    # A matrix is the transpose of another only if that holds for all arguments: here for other ones.
    x2, w2 = normal(*x.shape), normal(*w.shape)
    assert abs((g * conv2d(x2, w, **arguments)).sum() - (x_bar * x2).sum()) < 1e-11 * scale
    assert abs((g * conv2d(x, w2, **arguments)).sum() - (w_bar * w2).sum()) < 1e-11 * scale
