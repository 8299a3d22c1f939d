"""Streams, graphs and cuBLAS of the double of CuPy (strict_cupy.py), whose arrays hold NumPy's in `_host`."""

from __future__ import annotations

import ctypes
import weakref
from typing import ClassVar

import numpy as np

recorded: Graph | None = None  # the one that is being recorded


class Graph:
    """Operations on memory at fixed addresses, done at each launch. While they are recorded nothing happens
    to the device: what was changed for the sake of shapes is put back, and results are not there yet."""

    def __init__(self):
        self._operations, self._undo = [], []
        self.results = []  # what its operations write for the first time
        self._outside: list[weakref.ref] = []  # memory that it does not own

    def do(self, compute, sources, written, finish):
        """The result of an operation, which is noted."""
        for source in sources:
            if (
                _is_array(source)
                and (owner := source if source.base is None else source.base).graph is not self
            ):
                self._outside.append(weakref.ref(owner))
        self._undo += [(array, array.copy()) for array in written]
        hosts = [x._host for x in sources if _is_array(x)]
        with np.errstate(all="ignore"):  # what it computes with may be nothing yet
            result = finish(compute(), *sources)
        parts = result if isinstance(result, (tuple, list)) else (result,)
        targets = [
            part._host
            for part in parts
            if _is_array(part) and not any(np.may_share_memory(part._host, host) for host in hosts)
        ]
        if targets or written:
            self.results += targets

            def operation():
                again = compute()
                for target, value in zip(targets, again if isinstance(again, (tuple, list)) else (again,)):
                    target[...] = value

            self._operations.append(operation)
        return result

    def end(self) -> Graph:
        for array, before in reversed(self._undo):
            array[...] = before
        for result in self.results:
            result.fill(np.nan if result.dtype.kind == "f" else 77)
        return self

    def launch(self, stream=None) -> None:
        if any(owner() is None for owner in self._outside):
            raise RuntimeError("the graph uses memory that was freed since it was recorded")
        for operation in self._operations:
            operation()


def _is_array(x) -> bool:
    """Whether this is an array of the double."""
    return hasattr(x, "_host")


def do(compute, sources, written, finish):
    """finish(compute(), *sources), now or when the graph is launched; `written`: the host arrays that it
    changes."""
    if recorded is None:
        return finish(compute(), *sources)
    return recorded.do(compute, sources, written, finish)


def allocated(array):
    """Memory that nothing has written into."""
    if recorded is not None:
        recorded.results.append(array._host)
    return array


def refuse_transfer(direction: str) -> None:
    if recorded is not None:
        raise RuntimeError(f"the current stream is capturing, so {direction} transfers are disallowed")


def refuse_library(name: str) -> None:
    if recorded is not None:
        raise NotImplementedError(f"calling {name} API during stream capture is currently unsupported")


class Cublas:
    """The functions of libcublas, on addresses in the memory of the double."""

    def cublasCreate_v2(self, handle) -> int:
        return 0

    def cublasSetStream_v2(self, handle, stream) -> int:
        self._stream, self._workspace_is_set = Stream.all[stream.value], False
        return 0

    def cublasSetWorkspace_v2(self, handle, workspace, size) -> int:
        self._workspace_is_set = True
        return 0

    def cublasGemmStridedBatchedEx(self, handle, of_a, of_b, m, n, k, alpha, *rest) -> int:
        """C = α op(A) op(B) + β C, column by column: op(A) (m, k), op(B) (k, n), C (m, n)."""
        (a, kind_a, lda, next_a), (b, kind_b, ldb, next_b) = rest[:4], rest[4:8]
        beta, c, kind, ldc, next_c, count, compute, algorithm = rest[8:]
        assert kind == kind_a == kind_b and compute in ((68, 77), (70,))[kind] and algorithm == -1
        assert Stream.current is self._stream and self._workspace_is_set
        number = (ctypes.c_float, ctypes.c_double)[kind]

        def matrices(address, rows: int, columns: int, lead: int, step, transposed: bool):
            if transposed:
                return matrices(address, columns, rows, lead, step, False).transpose(0, 2, 1)
            assert lead >= rows, f"cuBLAS: leading dimension {lead} of {rows} rows"
            extent = (count - 1) * step.value + (columns - 1) * lead + rows
            flat = np.ctypeslib.as_array((number * extent).from_address(address.value))
            strides = [flat.itemsize * elements for elements in (step.value, 1, lead)]
            return np.lib.stride_tricks.as_strided(flat, (count, rows, columns), strides)

        alpha, beta = alpha._obj.value, beta._obj.value
        a, b = matrices(a, m, k, lda, next_a, of_a == 1), matrices(b, k, n, ldb, next_b, of_b == 1)
        c = matrices(c, m, n, ldc, next_c, False)

        def multiply():
            c[...] = alpha * (a @ b) + (beta * c if beta else 0)

        do(multiply, (), [c], lambda nothing: nothing)
        return 0


class Stream:
    """A queue of operations, which are done at once."""

    all: ClassVar[dict[int, Stream]] = {}
    current: ClassVar[Stream | None] = None

    def __init__(self, null=False, non_blocking=False):
        self.ptr = id(self)
        self.all[self.ptr] = self

    def __enter__(self):
        self._before, Stream.current = Stream.current, self
        return self

    def __exit__(self, *error):
        Stream.current = self._before

    def synchronize(self) -> None:
        if recorded is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    def begin_capture(self, mode=None) -> None:
        global recorded
        recorded = Graph()

    def end_capture(self) -> Graph:
        global recorded
        graph, recorded = recorded, None
        return graph.end()
