"""Work on large arrays, shared out to threads.

NumPy copies arrays and computes element by element on one core; only matrix products, which its BLAS library
makes, use all. That serves convolutions badly. What a product is made of was copied by one core, and half of
the product is made by another, whose cache has none of it; and BLAS's threads wait for the next product
busily, on the cores that others would use. So images are shared out as a whole: each thread goes with some of
them from the first copy to the last sum, and BLAS keeps one thread for the rest of the program.

Models without convolutions are better off with BLAS's threads, which take a product over in a microsecond: to
wake a thread of Python takes fifty to a hundred. So nothing is shared until `start`, which layers of
convolutions call where they are made.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

LEAST = 1 << 19  # elements from which on it pays to hand work over

sharing = False  # whether work is shared out
_started, _starting = False, threading.Lock()
_others: ThreadPoolExecutor  # the threads beside the caller's
_threads = 1  # with the caller's
_idle = threading.Lock()  # held while work is shared: what comes up within that is not shared again


def start() -> None:
    """From now on share work out to as many threads as NumPy's BLAS library has, and leave one to each BLAS
    library of the process. Nothing changes where there is one already, or where threadpoolctl, which tells
    and sets that, is not installed. Only the first call counts."""
    global sharing, _threads, _others, _started
    with _starting:
        if _started:
            return
        _started = True
        try:
            import threadpoolctl
        except ImportError:
            return
        blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
        found = max((library["num_threads"] for library in blas.info()), default=1)
        if found > 1:
            blas.limit(limits=1)
            _threads, _others = found, ThreadPoolExecutor(found - 1, "tinygen")
            sharing = True


def share(function: Callable[[slice], object], n: int, elements: int) -> list:
    """What function(piece) returns for slices that together are range(n), in their order: on all threads at
    once where there is work on so many elements that it pays. Errors are raised when all threads are done."""
    if not sharing or elements < LEAST or n < 2 or not _idle.acquire(blocking=False):
        return [function(slice(0, n))]
    given: list[Future] = []
    try:
        parts = min(n, _threads, 2 * elements // LEAST)
        first, *rest = (slice(n * k // parts, n * (k + 1) // parts) for k in range(parts))
        for piece in rest:
            given.append(_given(function, piece))
        return [function(first), *(result.result() for result in given)]
    finally:
        try:
            wait(given)
        finally:
            _idle.release()


def _given(function: Callable[[slice], object], piece: slice) -> Future:
    """The future result of function(piece), which another thread computes in a copy of the caller's context,
    where NumPy keeps what to do about overflow and so on."""
    try:
        return _others.submit(contextvars.copy_context().run, function, piece)
    except RuntimeError:  # the program has ended, but for this thread
        alone: Future = Future()
        alone.set_result(function(piece))
        return alone


def _alone() -> None:
    """In a process that was forked there are no other threads."""
    global sharing, _idle
    sharing, _idle = False, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
