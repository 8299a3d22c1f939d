"""Work shared out to threads: the same results, in their order, with the same errors."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen import Tensor, backend, grad, nn, ops, threads

RNG = np.random.default_rng(0)


def array(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


@given(st.integers(0, 20))
def test_pieces_are_the_whole_in_order(three_threads, n):
    pieces = threads.share(lambda piece: (piece.start, piece.stop), n, n)
    assert [i for piece in pieces for i in range(*piece)] == list(range(n))
    assert len(pieces) == max(1, min(n, 3))


def test_pieces_are_computed_at_the_same_time(three_threads):
    all_there = threading.Barrier(3, timeout=20)
    assert sorted(threads.share(lambda piece: all_there.wait(), 3, 3)) == [0, 1, 2]


def test_work_within_work_is_not_shared_again(three_threads):
    inside = threads.share(lambda piece: threads.share(lambda part: part, 9, 9), 3, 3)
    assert inside == [[slice(0, 9)]] * 3
    assert len(threads.share(lambda part: part, 9, 9)) == 3


def test_little_work_is_not_shared(three_threads, monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 10)
    assert len(threads.share(lambda piece: piece, 5, 9)) == 1
    assert len(threads.share(lambda piece: piece, 5, 10)) == 2
    assert len(threads.share(lambda piece: piece, 5, 15)) == 3


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_error_is_raised_when_all_are_done(three_threads, at):
    done = []

    def work(piece):
        if piece.start == at:
            raise ArithmeticError("one of three")
        threading.Event().wait(0.05)
        done.append(piece.start)

    with pytest.raises(ArithmeticError, match="one of three"):
        threads.share(work, 3, 3)
    assert sorted(done) == sorted({0, 1, 2} - {at})
    assert len(threads.share(lambda piece: piece, 3, 3)) == 3  # and work is shared out as before


def test_errors_of_arithmetic_are_treated_as_by_the_caller(three_threads):
    huge = np.full(3, 1e300)
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        threads.share(lambda piece: huge[piece] * (1e300 if piece.start == 2 else 1), 3, 3)
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("error")
        threads.share(lambda piece: huge[piece] * 1e300, 3, 3)


# What is computed so ------------------------------------------------------------------------------------


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 7), st.booleans(), st.booleans())
def test_products(three_threads, rows, inner, columns, turned, into):
    a, b = array(rows, inner), array(columns, inner).T if turned else array(inner, columns)
    out = np.empty((rows, columns)) if into else None
    product = backend.matmul(a, b, out)
    assert out is None or product is out
    np.testing.assert_allclose(product, np.dot(a, b), rtol=1e-13, atol=1e-14)


@given(st.lists(st.integers(0, 4), max_size=3), st.sampled_from([0.0, 0.2]), st.booleans())
def test_rectifiers(three_threads, shape, slope, turned):
    x, g = array(*shape), array(*shape)
    x = x.T if turned else x
    g = g.reshape(x.shape)
    x_in = Tensor(x, requires_grad=True)
    y = ops.leaky_relu(x_in, slope) if slope else ops.relu(x_in)
    np.testing.assert_array_equal(y.data, np.where(x > 0, x, slope * x))
    np.testing.assert_array_equal(grad(y, x_in, g)[0].data, np.where(x > 0, g, slope * g))


def test_batches_of_images_are_normalized(three_threads):
    layer, x = nn.BatchNorm(4).astype("float64"), array(5, 3, 3, 4)
    y = layer(x).data
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 1, 2)), 1, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
def test_rectifiers_of_other_dtypes_are_those_of_numpy(three_threads, dtype):
    x = (array(9, 2) > 0).astype(dtype)
    for ours, right in [(ops.relu(x), np.maximum(x, 0)), (ops.leaky_relu(x, 0.5), np.maximum(x, 0.5 * x))]:
        assert ours.dtype == right.dtype
        np.testing.assert_array_equal(ours, right)
    assert ops.relu(-1.0) == 0 and ops.leaky_relu(-1.0, 0.5) == -0.5


# Where threads come from ----------------------------------------------------------------------------------

PROGRAM = """
import numpy as np
import threadpoolctl
from tinygen import nn, threads

def of_blas():
    return max(library["num_threads"] for library in threadpoolctl.threadpool_info())

before = of_blas()
nn.Linear(2, 2)
assert not threads.sharing and of_blas() == before
layer = nn.Conv2d(2, 1, 3, padding=1)
images = np.ones((4, 3, 3, 2), "float32")
many = layer(np.tile(images, (9000, 1, 1, 1))).data
print(before, threads.sharing, of_blas(), np.allclose(many.reshape(9000, 4, 3, 3, 1), layer(images).data))
"""
FORK = """
threads.start()
if not os.fork():
    assert not threads.sharing and threads.share(lambda piece: piece, 9, 1 << 30) == [slice(0, 9)]
    os._exit(0)
assert os.wait()[1] == 0
"""
TOGETHER = """
import threading
both = threading.Barrier(2)
def begin():
    both.wait()
    threads.start()
callers = [threading.Thread(target=begin) for _ in range(2)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
print(len(threads.share(lambda piece: piece, 9, 1 << 30)))
"""
AFTER_THE_END = """
import threading
def work():
    threading.main_thread().join()
    for _ in range(2):
        print(sum(threads.share(lambda piece: piece.stop - piece.start, 9, 1 << 30)))
threads.start()
threading.Thread(target=work).start()
"""


def run(program, blas_threads):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(blas_threads), "TINYGEN_DEVICE": "cpu"}
    command = [sys.executable, "-c", "import os\n" + program]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout.split()


def test_threads_start_with_a_layer_of_convolutions_and_blas_keeps_one():
    pytest.importorskip("threadpoolctl")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("BLAS has one thread on one core")
    assert run(PROGRAM, 2) == ["2", "True", "1", "True"]
    assert run(PROGRAM, 1) == ["1", "False", "1", "True"]


def test_without_threadpoolctl_nothing_is_shared():
    program = "import sys; sys.modules['threadpoolctl'] = None\nfrom tinygen import threads\n"
    assert run(program + "threads.start(); print(threads.sharing)", 2) == ["False"]


def test_a_model_on_a_gpu_leaves_the_threads_of_the_host():
    program = "from tinygen import backend, threads, nn\nbackend.on_gpu = lambda: True\n"
    assert run(program + "nn.Conv2d(1, 1, 3); print(threads.sharing)", 2) == ["False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.parametrize("program", [FORK, TOGETHER, AFTER_THE_END])
def test_forks_several_callers_and_the_end_of_a_program(program):
    pytest.importorskip("threadpoolctl")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("BLAS has one thread on one core")
    right = {FORK: [], TOGETHER: ["2"], AFTER_THE_END: ["9", "9"]}
    assert run("from tinygen import threads\n" + program, 2) == right[program]
