"""Work on large arrays, shared out to threads.

NumPy copies arrays and computes element by element on one core; only matrix products, which its BLAS library
makes, use all. But of what two cores have multiplied each finds half in the other's cache, and BLAS's threads
wait for the next product busily, on the cores that others would use. So images that are convolved are shared
out as a whole: each thread goes with some of them from the first copy to the last sum, and BLAS has one
thread from then on, for the rest of the program.

Models without convolutions are better off with BLAS's threads, which take a product over in a microsecond: to
hand something to a thread of Python takes fifty. So nothing is shared until `start`.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

LEAST = 1 << 19  # elements from which on it pays to hand work over

sharing = False  # whether work is shared out
_others: ThreadPoolExecutor  # the threads beside the caller's
_threads = 1  # with the caller's
_idle = threading.Lock()  # held while work is shared: what comes up within that is not shared again


@functools.cache  # once
def start() -> None:
    """From now on share work out to as many threads as NumPy's BLAS library has, and leave it one. Nothing
    changes where that has one already, or where threadpoolctl, which tells and sets it, is not installed."""
    global sharing, _others, _threads
    try:
        import threadpoolctl
    except ImportError:
        return
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    _threads = max((library["num_threads"] for library in blas.info()), default=1)
    if _threads > 1:
        blas.limit(limits=1)
        _others = ThreadPoolExecutor(_threads - 1, "tinygen")
        sharing = True


def share(function: Callable[[slice], object], n: int, elements: int) -> list:
    """What function(piece) returns for slices that together are range(n), in their order: on all threads at
    once where there is work on so many elements that it pays. Errors are raised when all threads are done."""
    if not sharing or elements < LEAST or n < 2 or not _idle.acquire(blocking=False):
        return [function(slice(0, n))]
    parts = min(n, _threads)
    edges = [n * k // parts for k in range(parts + 1)]
    first, *rest = (slice(*edge) for edge in pairwise(edges))
    # Each thread has a copy of the caller's context, where NumPy keeps what to do about overflow and so on.
    given = [_others.submit(contextvars.copy_context().run, function, piece) for piece in rest]
    try:
        return [function(first), *(result.result() for result in given)]
    finally:
        wait(given)
        _idle.release()


def _alone() -> None:
    """In a process that was forked there are no other threads."""
    global sharing, _idle
    sharing, _idle = False, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
