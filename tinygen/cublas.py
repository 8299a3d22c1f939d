"""Matrix products by cuBLAS itself, for steps that are recorded: CuPy's own products refuse to be part of a
CUDA graph. cuBLAS does not, if it is given its memory beforehand.

cuBLAS has matrices column by column. What lies in memory row by row is to it the transposed matrix, and
row by row C = A B is Cᵀ = Bᵀ Aᵀ: so B comes first, and sizes change places.
"""

from __future__ import annotations

import ctypes
import math
import os
from typing import Any

import numpy  # shapes

from .backend import xp

WORKSPACE = 32 << 20  # bytes, what NVIDIA recommends for its largest GPUs

# cublasOperation_t, and by dtype: the C type of a factor, cudaDataType, cublasComputeType_t.
AS_IT_IS, TRANSPOSED = 0, 1
TYPES = {"float32": (ctypes.c_float, 0, 68), "float64": (ctypes.c_double, 1, 70)}
TF32 = 77  # the compute type that CuPy takes for float32 with CUPY_TF32=1
DEFAULT_ALGORITHM = -1


class Cublas:
    """Products of arrays of the current device. Keep it as long as graphs that it is in, of which no two may
    run at once."""

    def __init__(self, library: Any):
        self._library, self._handle = library, ctypes.c_void_p()
        self._workspace = xp.empty(WORKSPACE, "uint8")
        self._call("Create_v2", ctypes.byref(self._handle))

    def use(self, stream: Any) -> None:
        """Compute on this stream from now on."""
        # In this order: a new stream takes the workspace away.
        self._call("SetStream_v2", self._handle, ctypes.c_void_p(stream.ptr))
        memory, size = self._address(self._workspace), ctypes.c_size_t(WORKSPACE)
        self._call("SetWorkspace_v2", self._handle, memory, size)

    def _call(self, function: str, *arguments) -> None:
        status = getattr(self._library, f"cublas{function}")(*arguments)
        if status:
            raise RuntimeError(f"cublas{function} failed with status {status}")

    @staticmethod
    def _address(array) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.data.ptr)

    def matmul(self, a, b, out=None):
        """a @ b for arrays of two or more axes, batch axes broadcast; into `out`, if given.

        Raises TypeError for other dtypes than float32 or float64, or for two different ones."""
        if a.dtype != b.dtype or a.dtype.name not in TYPES:
            raise TypeError(f"matmul: expected float32 twice, or float64 twice; got {a.dtype} and {b.dtype}")
        (m, k), n = a.shape[-2:], b.shape[-1]
        batch = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = out if out is not None and out.flags.c_contiguous else xp.empty((*batch, m, n), a.dtype)
        if k == 0:
            y.fill(0)
        elif y.size:
            self._multiply(_batched(a, batch), _batched(b, batch), y, math.prod(batch))
        if out is None or out is y:
            return y
        out[...] = y
        return out

    def _multiply(self, a, b, y, count: int) -> None:
        """y = a b, for (count, m, k), (count, k, n) and y of count · m · n elements in a row."""
        (m, k), n = a.shape[1:], b.shape[2]
        number, kind, compute = TYPES[a.dtype.name]
        if a.dtype == "float32" and os.environ.get("CUPY_TF32") == "1":
            compute = TF32
        (a, of_a, row_a, next_a), (b, of_b, row_b, next_b) = _layout(a), _layout(b)
        one, zero = number(1), number(0)
        self._call(
            "GemmStridedBatchedEx",
            *(self._handle, of_b, of_a, n, m, k),
            *(ctypes.byref(one), self._address(b), kind, row_b, ctypes.c_longlong(next_b)),
            *(self._address(a), kind, row_a, ctypes.c_longlong(next_a)),
            *(ctypes.byref(zero), self._address(y), kind, n, ctypes.c_longlong(m * n)),
            *(count, compute, DEFAULT_ALGORITHM),
        )


def _batched(x, batch: tuple[int, ...]):
    """x with one batch axis; where x has none, of step 0."""
    whole = xp.broadcast_to(x, (*batch, *x.shape[-2:]))
    return whole[None] if not batch else xp.reshape(whole, (-1, *x.shape[-2:]))


def _layout(x):
    """(x, operation, elements from a row to the next, from a matrix to the next): how cuBLAS is told what it
    finds in memory; x is copied if neither its rows nor its columns lie side by side."""
    _, rows, columns = x.shape
    step, down, right = (stride // x.itemsize for stride in x.strides)
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return x, AS_IT_IS, max(down if rows > 1 else columns, columns), step
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return x, TRANSPOSED, max(right if columns > 1 else rows, rows), step
    return _layout(xp.ascontiguousarray(x))
