"""Kernels for the GPU: what takes several operations on arrays, and as many ways through memory, in one.

Each stands beside the formula in arrays, which is what the CPU computes, and what tests hold the kernel to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper

from . import backend
from .backend import xp


def kernel(inputs: str, outputs: str, code: str) -> Callable:
    """Before a function of arrays: on a GPU a kernel takes its place, which does the same for each element.

        @kernel("T x", "T y", "y = max(x, T(0)) + log1p(exp(-fabs(x)))")
        def softplus(x):
            return xp.maximum(x, 0) + xp.log1p(xp.exp(-abs(x)))

    inputs, outputs, code: as CuPy's ElementwiseKernel takes them, in C++, where T is the one dtype of all
        arrays; for arrays of several, or of integers, the formula stays. What the function writes into comes
        last among its arguments."""

    def beside(formula: Callable) -> Callable:
        made: dict[str, Callable] = {}  # by device

        def function(*arguments):
            if not backend.on_gpu() or not _of_one_kind(arguments):
                return formula(*arguments)
            device = backend.current_device().name
            if device not in made:
                name = f"tinygen_{formula.__name__.strip('_')}"
                made[device] = xp.ElementwiseKernel(inputs, outputs, code, name)
            return made[device](*arguments)

        return update_wrapper(function, formula)

    return beside


def _of_one_kind(arguments: tuple) -> bool:
    """Whether the arrays among them are of one dtype, a floating one."""
    dtypes = {x.dtype for x in arguments if isinstance(x, xp.ndarray)}
    return len(dtypes) == 1 and dtypes.pop().kind == "f"


_sums_of_products: dict[str, Callable] = {}  # by device


def scalar_products(a, b, axis: int):
    """The scalar products of the columns (axis 0) or rows (1) of two matrices; the axis is kept."""
    if not backend.on_gpu() or not _of_one_kind((a, b)):
        return xp.expand_dims(xp.einsum("ij,ij->j" if axis == 0 else "ij,ij->i", a, b), axis)
    device = backend.current_device().name
    if device not in _sums_of_products:
        # CuPy's einsum makes matrix products of size 1 of it.
        parts = ("T a, T b", "T y", "a * b", "a + b", "y = a", "0")
        _sums_of_products[device] = xp.ReductionKernel(*parts, "tinygen_scalar_products")
    return _sums_of_products[device](a, b, axis=axis, keepdims=True)
