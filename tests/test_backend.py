"""Devices and random numbers. `far` is a second device: the double of CuPy, and CuPy where there is a GPU."""

import gc
import os
import subprocess
import sys
import types
import weakref

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import tinygen as tg
from tinygen import autodiff, backend, ops
from tinygen.backend import Generator, xp


def array_type(device):
    return backend.get_device(device).module.ndarray


def far_leaf(far, values=(1.0, 2.0, 3.0)):
    with tg.device(far):
        return tg.Tensor(np.array(values), requires_grad=True)


# Choosing a device ---------------------------------------------------------------------------------


def test_xp_is_one_namespace_refilled_in_place(far):
    before = backend.xp
    assert backend.xp is xp and xp.ndarray is np.ndarray and xp.exp is np.exp
    tg.set_device(far)
    assert backend.xp is before is autodiff.xp
    assert xp.ndarray is array_type(far) and xp.asnumpy
    assert not hasattr(xp, "block")  # NumPy's names are gone, not hidden
    tg.set_device("cpu")
    assert backend.xp is before
    assert xp.ndarray is np.ndarray and xp.block is np.block
    assert not hasattr(xp, "asnumpy")


def test_device_as_a_block(far):
    with tg.device(far):
        assert backend.current_device().name == far
        with tg.device("cpu"):
            assert backend.current_device().name == "cpu"
        assert backend.current_device().name == far
    assert backend.current_device().name == "cpu"
    with pytest.raises(KeyError):
        with tg.device(far):
            raise KeyError
    assert backend.current_device().name == "cpu" and xp.ndarray is np.ndarray


def test_one_device_block_inside_itself(far):
    block = tg.device(far)
    with block, block:
        pass
    assert backend.current_device().name == "cpu"


def test_a_device_is_made_once_when_it_is_first_asked_for(far, monkeypatch):
    made, before = [], backend.get_device(far)
    monkeypatch.setitem(backend.device_makers, far, lambda: made.append(1) or before)
    monkeypatch.delitem(backend._devices, far)
    assert not made
    for _ in range(3):
        with tg.device(far):
            pass
    assert len(made) == 1


@pytest.mark.parametrize("name", ["gpu", "CPU", "", None, 0])
def test_an_unknown_device_is_refused_and_nothing_changes(name):
    for use in (tg.set_device, lambda name: tg.device(name).__enter__(), tg.Tensor([1.0]).to):
        with pytest.raises(ValueError, match=r"device: expected one of \['cpu', 'cuda', 'strict'\], got"):
            use(name)
    assert backend.current_device().name == "cpu" and xp.ndarray is np.ndarray


BROKEN_CUPYS = {
    "not installed": None,
    "no driver": RuntimeError("cudaErrorInsufficientDriver: driver is too old\nand more lines"),
    "silent": Exception(),
}


@pytest.mark.parametrize("fault", BROKEN_CUPYS)
def test_cuda_where_there_is_none_is_one_clear_sentence(fault, monkeypatch):
    error = BROKEN_CUPYS[fault]
    cupy = None
    if error is not None:

        def ones(shape):
            raise error

        cupy = types.ModuleType("cupy")
        cupy.ones = ones
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(backend._devices, "cuda", raising=False)
    for use in (tg.set_device, lambda name: tg.device(name).__enter__(), tg.Tensor([1.0]).to):
        with pytest.raises(
            RuntimeError, match=r"device 'cuda' needs a GPU with CuPy \(pip install"
        ) as caught:
            use("cuda")
        assert "\n" not in str(caught.value) and caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    assert backend.current_device().name == "cpu"


def python(code, **environment):
    """(status, output) of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout + done.stderr


def test_the_environment_chooses_the_device():
    show = "import tinygen.backend as b; print(b.current_device().name)"
    assert python(show, TINYGEN_DEVICE="cpu") == (0, "cpu\n")
    status, output = python(show, TINYGEN_DEVICE="gpu")
    assert status != 0 and "expected one of ['cpu', 'cuda'], got 'gpu'" in output
    hide = "import sys; sys.modules['cupy'] = None; "
    status, output = python(hide + show, TINYGEN_DEVICE="cuda")
    assert status != 0 and output.splitlines()[-1].startswith("RuntimeError: device 'cuda' needs a GPU")


def test_importing_tinygen_imports_no_gpu_and_no_plots():
    names = ("cupy", "matplotlib", "tqdm", "hypothesis", "torch", "scipy")
    code = f"import sys, tinygen; print([name for name in {names!r} if name in sys.modules])"
    assert python(code) == (0, "[]\n")


# Computing on a device -----------------------------------------------------------------------------


def test_tensors_live_on_the_current_device_and_compute_there(far):
    with tg.device(far):
        x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
        assert type(x.data) is array_type(far) and x.dtype == np.float32
        y = (ops.tanh(x) * x + 2.0).sum()
        assert type(y.data) is array_type(far)
        y.backward()
        assert type(x.grad.data) is array_type(far)
        (first,) = tg.grad((x * x * x).sum(), x, create_graph=True)
        (second,) = tg.grad(first.sum(), x)
    np.testing.assert_allclose(second.numpy(), [6, 12, 18])
    at = np.array([1, 2, 3], "float32")
    np.testing.assert_allclose(
        x.grad.numpy(), np.tanh(at) + at * (1 - np.tanh(at) ** 2), rtol=1e-5, atol=1e-6
    )


def test_moving_between_devices(far):
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name="weight")
    there = x.to(far)
    assert type(there.data) is array_type(far) and there.requires_grad and there.name == "weight"
    back = there.to("cpu")
    assert type(back.data) is np.ndarray and back.requires_grad
    np.testing.assert_array_equal(back.data, x.data)
    assert backend.current_device().name == "cpu"
    for t in (x, there):
        assert type(t.numpy()) is np.ndarray
        assert repr(t).startswith("Tensor(array([1., 2.], dtype=float32), name='weight'")
    with pytest.raises(ValueError, match="detach"):
        (x * 2).to(far)


def test_device_of_and_to_host(far):
    with tg.device(far):
        array = tg.Tensor([1.0]).data
    assert backend.device_of(array) == far
    assert backend.device_of(np.ones(1)) == "cpu"
    assert backend.device_of([1.0]) == backend.device_of(1.0) == backend.device_of(None) == ""
    assert type(backend.to_host(array)) is np.ndarray
    near = np.ones(2)
    assert backend.to_host(near) is near


OPERATIONS = {
    "negative": lambda x: -x,
    "exp": lambda x: ops.exp(x),
    "reshape": lambda x: x.reshape(3, 1),
    "getitem": lambda x: x[0],
    "sum": lambda x: x.sum(),
    "stack": lambda x: ops.stack([x, x]),
    "unstack": lambda x: ops.unstack(x),
}


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_primitive_refuses_an_array_of_another_device_by_name(far, operation, tracked):
    x = far_leaf(far)
    x.requires_grad = tracked
    for argument in (x, x.data) if operation in ("exp", "stack") else (x,):
        with pytest.raises(TypeError, match=rf"{operation}.*device 'cpu'.*'{far}'"):
            OPERATIONS[operation](argument)
    near = tg.Tensor([1.0, 2.0, 3.0], requires_grad=tracked)
    with tg.device(far):
        with pytest.raises(TypeError, match=rf"{operation}.*device '{far}'.*'cpu'"):
            OPERATIONS[operation](near)


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "int32"])
@pytest.mark.parametrize("size", [1, 3])
def test_operands_on_two_devices_are_refused_by_name(far, dtype, size):
    near, values = tg.Tensor(np.ones(size), requires_grad=True), np.ones(size, dtype)
    with tg.device(far):
        distant = tg.Tensor(values)
        for other in (values, tg.Tensor(values).to("cpu")):
            with pytest.raises(TypeError, match=rf"multiply.*device '{far}'.*'cpu'"):
                far_leaf(far, np.ones(size)) * other
    for other in (distant, distant.data):
        with pytest.raises(TypeError, match=rf"multiply: b.*device 'cpu'.*'{far}'"):
            near * other
        with pytest.raises(TypeError, match=rf"multiply: a.*device 'cpu'.*'{far}'"):
            ops.multiply(other, near)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("operation", ["add", "multiply", "tanh"])
def test_backward_refuses_a_graph_of_another_device_by_name(far, operation, create_graph):
    x = tg.Tensor([1.0], requires_grad=True)
    y = ops.tanh(x) if operation == "tanh" else getattr(ops, operation)(x, x)
    with tg.device(far):
        with pytest.raises((TypeError, RuntimeError, ValueError), match=rf"cpu.*{far}|{far}.*cpu"):
            y.backward(create_graph=create_graph)
        with pytest.raises((TypeError, RuntimeError, ValueError), match=rf"cpu.*{far}|{far}.*cpu"):
            tg.grad(y, x, create_graph=create_graph)
    assert x.grad is None
    y.backward()
    assert type(x.grad.data) is np.ndarray


def test_a_gradient_of_another_device_is_refused_by_name(far):
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    y = x + x
    with tg.device(far):
        g = tg.Tensor([1.0, 1.0])
    for distant in (g, g.data):
        with pytest.raises(TypeError, match=rf"gradient.*(cpu.*{far}|{far}.*cpu)"):
            y.backward(distant)
    assert x.grad is None
    y.backward(np.ones(2))


def test_a_tensor_made_of_another_devices_values(far):
    """`to` moves; a Tensor of another device's array is refused by name."""
    x = far_leaf(far)
    for distant in (x, x.data):
        with pytest.raises(TypeError, match=rf"data.*(cpu.*{far}|{far}.*cpu)"):
            tg.Tensor(distant)
    near = tg.Tensor([4.0, 5.0, 6.0])
    for t, values in ((near, x), (near, x.data), (x, near), (x, [4.0, 5.0, 6.0])):
        before = t.numpy()
        with pytest.raises(TypeError, match=rf"data.*(cpu.*{far}|{far}.*cpu)"):
            t.data = values
        np.testing.assert_array_equal(t.numpy(), before)


def test_changes_are_noticed_on_every_device(far):
    with tg.device(far):
        x = tg.Tensor([1.0, 2.0], requires_grad=True)
        y = (x * x).sum()
        x.data = [3.0, 4.0]
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


# Matrix products and addresses -----------------------------------------------------------------------


def test_matmul():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    out = np.empty((2, 4))
    assert backend.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, a @ b)
    np.testing.assert_array_equal(backend.matmul(a, b), a @ b)


@pytest.fixture
def large_products(monkeypatch):
    monkeypatch.setattr(backend, "LARGE_PRODUCT", 0)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans(), st.booleans())
def test_large_products(large_products, rows, inner, columns, a_turned, b_turned, into):
    a = np.arange(rows * inner).reshape((inner, rows) if a_turned else (rows, inner)) % 7.0
    b = np.arange(inner * columns).reshape((columns, inner) if b_turned else (inner, columns)) % 5.0
    a, b = a.T if a_turned else a, b.T if b_turned else b
    out = np.full((rows, columns), np.nan) if into else None
    product = backend.matmul(a, b, out)
    assert out is None or product is out
    np.testing.assert_array_equal(product, np.einsum("ij,jk->ik", a, b))


def test_halves_of_a_product_are_of_its_dtype(large_products):
    a, b = np.ones((4, 2), "float32"), np.ones((2, 5), "float64")
    assert backend.matmul(a, a[:2].T).dtype == "float32"
    assert backend.matmul(a, b).dtype == backend.matmul(b.T, a.T).dtype == "float64"


@given(st.integers(1, 99), st.sampled_from(["float16", "float32", "float64"]))
def test_aligned_arrays(n, dtype):
    array = backend.aligned_empty(n, dtype)
    assert array.shape == (n,) and array.dtype == dtype and array.flags.writeable
    assert array.__array_interface__["data"][0] % 64 == 0


def test_aligned_arrays_are_of_the_device(far):
    with tg.device(far):
        array = backend.aligned_empty(5, "float32")
        array.fill(1)
        assert isinstance(array, array_type(far)) and float(array.sum()) == 5


def test_byte_bounds():
    buffer = np.zeros(10)
    low, high = backend.byte_bounds(buffer)
    assert high - low == 80
    assert backend.byte_bounds(buffer[2:5]) == (low + 16, low + 40)
    assert backend.byte_bounds(buffer[::-1]) == (low, high)


def test_owned_memory():
    buffer = np.zeros(10)
    assert backend.owns_memory(buffer)
    for view in (buffer[1:], np.frombuffer(buffer), np.lib.stride_tricks.as_strided(buffer, (2,), (8,))):
        assert not backend.owns_memory(view)


# Random numbers --------------------------------------------------------------------------------------

KEYS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4).map(tuple)


def draws(*key):
    generator = Generator(*key)
    return [
        generator.normal((3, 2)),
        generator.uniform(4, "float64"),
        generator.integers(0, 1000, 5),
        generator.permutation(6),
        generator.bernoulli(np.full(20, 0.5, "float32")),
    ]


@given(KEYS)
def test_a_generator_is_a_function_of_its_key(key):
    for a, b in zip(draws(*key), draws(*key)):
        np.testing.assert_array_equal(a, b)


@given(KEYS, KEYS)
def test_different_keys_give_different_numbers(key, other):
    a, b = Generator(*key).uniform(4, "float64"), Generator(*other).uniform(4, "float64")
    assert (a == b).all() == (key == other)


def test_different_keys_of_small_numbers():
    """Also those that end in zeros: (seed,) draws weights, (seed, 0) the noise of step 0."""
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (1, 0, 0), (2**32,), (2**32 + 1,)]
    first = [Generator(*key).uniform((), "float64").item() for key in keys]
    assert len(set(first)) == len(keys)


def test_steps_are_independent():
    n, steps = 1000, 30
    noise = np.array([Generator(7, step).normal(n, "float64") for step in range(steps)])
    correlations = np.corrcoef(noise)[~np.eye(steps, dtype=bool)]
    assert np.abs(correlations).max() < 5 / np.sqrt(n)
    assert abs(noise.mean()) < 5 / np.sqrt(n * steps)
    assert abs(noise.var() - 1) < 5 * np.sqrt(2 / (n * steps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_shapes(dtype):
    generator = Generator(0)
    for draw in (generator.normal, generator.uniform):
        assert draw((2, 3)).dtype == np.float32
        assert draw((2, 3), dtype).dtype == dtype and draw((2, 3), dtype).shape == (2, 3)
        assert draw(4, dtype).shape == (4,) and draw((0, 2), dtype).shape == (0, 2)
    assert generator.bernoulli(np.zeros((2, 3), dtype)).dtype == dtype
    assert generator.integers(0, 5, (2, 3)).dtype == np.int64
    assert generator.permutation(5).dtype == np.int64


def test_normal_and_uniform_are_what_they_say():
    n = 100_000
    normal, uniform = Generator(1).normal(n), Generator(2).uniform(n)
    assert abs(normal.mean()) < 5 / np.sqrt(n) and abs(normal.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((np.abs(normal) < 1).mean() - 0.6827) < 5 * np.sqrt(0.6827 * 0.3173 / n)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 5 / np.sqrt(12 * n)


def test_integers_are_all_below_high():
    draw = Generator(0).integers(-2, 3, 10_000)
    assert sorted(set(draw.tolist())) == [-2, -1, 0, 1, 2]
    assert np.bincount(draw + 2).min() > 1700


@given(st.integers(0, 40), st.integers(0, 1000))
def test_permutations(n, seed):
    assert sorted(Generator(seed).permutation(n).tolist()) == list(range(n))


def test_every_permutation_comes_equally_often():
    generator = Generator(0)
    counts = {}
    for _ in range(6000):
        order = tuple(generator.permutation(3).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6 and all(850 < count < 1150 for count in counts.values())


def test_bernoulli():
    p = np.repeat(np.array([0.0, 0.2, 0.9, 1.0], "float32"), 10_000).reshape(4, -1)
    draw = Generator(3).bernoulli(p)
    assert draw.shape == p.shape and set(np.unique(draw)) == {0.0, 1.0}
    means = draw.mean(axis=1)
    assert means[0] == 0 and means[3] == 1
    assert abs(means[1] - 0.2) < 0.02 and abs(means[2] - 0.9) < 0.015


def test_seed_restarts_the_default_generator():
    tg.seed(5)
    first = backend.default_generator().normal(3)
    second = backend.default_generator().normal(3)
    assert not np.array_equal(first, second)
    tg.seed(5)
    np.testing.assert_array_equal(backend.default_generator().normal(3), first)
    np.testing.assert_array_equal(backend.default_generator().normal(3), second)
    tg.seed(6)
    assert not np.array_equal(backend.default_generator().normal(3), first)


def test_looking_at_another_device_does_not_repeat_random_numbers(far):
    tg.seed(5)
    first = backend.default_generator().normal(3)
    with tg.device(far):
        pass
    tg.Tensor([1.0]).to("cpu")
    tg.set_device("cpu")
    second = backend.default_generator().normal(3)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("wrong", [-1, 1.5, "one", None])
def test_a_wrong_seed_is_refused_at_once(wrong):
    tg.seed(0)
    with pytest.raises((TypeError, ValueError), match="seed"):
        tg.seed(wrong)
    backend.default_generator()
    with pytest.raises((TypeError, ValueError)):
        Generator(wrong)


def test_the_engine_keeps_no_array_of_a_change(far):
    gc.collect()
    x = tg.Tensor([1.0, 2.0])
    x.data = [2.0, 3.0]
    array = weakref.ref(x.data)
    del x
    assert array() is None


# Generators -------------------------------------------------------------------------------------------


def test_a_generator_is_the_default_one_inside_its_block(device):
    tg.seed(3)
    outside = backend.default_generator()
    with backend.Generator(1, 2) as rng:
        assert backend.default_generator() is rng
        with backend.Generator(5) as inner:
            assert backend.default_generator() is inner
        assert backend.default_generator() is rng
    assert backend.default_generator() is outside
    tg.seed(3)
    with backend.Generator(1, 2):  # before anything was drawn
        pass
    expected, got = backend.Generator(3).normal((4,)), backend.default_generator().normal((4,))
    np.testing.assert_array_equal(backend.to_host(got), backend.to_host(expected))
