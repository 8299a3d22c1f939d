"""Kernels give what the formulas beside them give; on the strict double, which computes a kernel's C++ as if
it were Python, and on a GPU where there is one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygen as tg
from tinygen import backend, ops, optim
from tinygen.backend import to_host, xp
from tinygen.kernels import kernel, scalar_products

ACTIVATIONS = [ops.sigmoid, ops.softplus, ops.log_sigmoid]
EDGES = [0.0, -0.0, 1e-30, -1e-30, 88.0, -88.0, 1e4, -1e4, np.inf, -np.inf, np.nan]


def on(device: str, function, *arrays):
    """What a function makes of arrays of the host on a device, on the host."""
    with backend.device(device):
        return to_host(function(*map(xp.asarray, arrays)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", ACTIVATIONS, ids=lambda f: f.__name__)
@given(data=st.data())
def test_kernels_of_activations(function, dtype, data, far):
    floats = st.one_of(st.sampled_from(EDGES), st.floats(-50, 50, width=32))
    x = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0), elements=floats))
    y = on(far, function, x)
    assert y.dtype == dtype and y.shape == x.shape
    expected = on("cpu", function, x)
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@given(x=hnp.arrays("float32", 7, elements=st.sampled_from([0.0, 1.0])), data=st.data())
def test_kernel_of_the_bernoulli_likelihood(x, data, far):
    logits = data.draw(hnp.arrays("float32", 7, elements=st.floats(-200, 200, width=32)))
    y, expected = (on(device, ops.bernoulli_log_likelihood, logits, x) for device in (far, "cpu"))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_arrays_of_integers_or_of_several_dtypes_go_by_the_formula(far):
    whole, x = np.arange(-2, 3), np.linspace(-2, 2, 5).astype("float32")
    np.testing.assert_allclose(on(far, ops.sigmoid, whole), on("cpu", ops.sigmoid, whole), rtol=1e-6)
    mixed = (x, (x > 0).astype("float64"))
    expected = on("cpu", ops.bernoulli_log_likelihood, *mixed)
    np.testing.assert_allclose(on(far, ops.bernoulli_log_likelihood, *mixed), expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
@given(st.integers(0, 4), st.integers(0, 4))
def test_scalar_products(axis, far, n, d):
    a, b = (np.random.default_rng(k).standard_normal((n, d)).astype("float32") for k in range(2))
    y = on(far, lambda a, b: scalar_products(a, b, axis), a, b)
    np.testing.assert_allclose(y, (a * b).sum(axis=axis, keepdims=True), rtol=1e-5, atol=1e-6)


def test_adam_by_its_kernel(far):
    """The same steps by the kernel and by the formula, from gradients of every size, and from none."""
    found = []
    for device in (far, "cpu"):
        rng = np.random.default_rng(0)
        with backend.device(device):
            p, q = (tg.Tensor(rng.standard_normal((3, 4)).astype("float32"), True) for _ in range(2))
            optimizer = optim.Adam([p, q], lr=1e-2)
            for _ in range(20):
                p.grad = tg.Tensor(
                    (rng.standard_normal((3, 4)) * 10.0 ** rng.integers(-9, 9)).astype("float32")
                )
                optimizer.step()
            found.append([p.numpy(), q.numpy(), *(optimizer.state_dict()[name] for name in "mv")])
    for ours, expected in zip(*found):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-12)


def test_a_kernel_of_ones_own(device):
    @kernel("T x, T a", "T y", "T z = a * x; y = z * z")
    def scaled_square(x, a):
        """(a x)²"""
        return (a * x) ** 2

    x = np.array([1.0, 2.0, 3.0], "float32")
    np.testing.assert_array_equal(to_host(scaled_square(xp.asarray(x), 2.0)), [4, 16, 36])
    assert scaled_square.__name__ == "scaled_square" and scaled_square.__doc__ == "(a x)²"
