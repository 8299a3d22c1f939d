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
    assert len(threads.share(lambda piece: piece, 5, 10)) == 3


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


# Where threads come from ----------------------------------------------------------------------------------

PROGRAM = """
import numpy as np
import threadpoolctl
from tinygen import ops, threads

def of_blas():
    return max(library["num_threads"] for library in threadpoolctl.threadpool_info())

before = of_blas()
images, kernel = np.ones((4, 3, 3, 2), "float32"), np.ones((3, 3, 2, 1), "float32")
small = ops.conv2d(images, kernel, padding=1)
assert not threads.sharing and of_blas() == before  # it takes a large convolution
{after}
many = ops.conv2d(np.tile(images, (9000, 1, 1, 1)), kernel, padding=1)
print(before, threads.sharing, of_blas(), (many.reshape(9000, *small.shape) == small).all())
"""
FORK = """
threads.start()
if not os.fork():
    assert not threads.sharing and threads.share(lambda piece: piece, 9, 1 << 30) == [slice(0, 9)]
    os._exit(0)
assert os.wait()[1] == 0
"""


def run(program, blas_threads):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(blas_threads), "TINYGEN_DEVICE": "cpu"}
    command = [sys.executable, "-c", "import os\n" + program]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=True).stdout.split()


def test_threads_start_with_the_first_large_convolution_and_blas_keeps_one():
    pytest.importorskip("threadpoolctl")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("BLAS has one thread on one core")
    assert run(PROGRAM.format(after=""), 2) == ["2", "True", "1", "True"]
    assert run(PROGRAM.format(after=""), 1) == ["1", "False", "1", "True"]


def test_without_threadpoolctl_nothing_is_shared():
    program = "import sys; sys.modules['threadpoolctl'] = None\nfrom tinygen import threads\n"
    assert run(program + "threads.start(); print(threads.sharing)", 2) == ["False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_computes_alone():
    pytest.importorskip("threadpoolctl")
    run("from tinygen import threads\n" + FORK, 2)
