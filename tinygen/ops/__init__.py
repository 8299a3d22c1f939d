"""The operations, under NumPy's names, on Tensors or raw arrays; and Tensor's operators and methods."""

from ..autodiff import Tensor
from .convolution import conv1d, conv2d, conv_transpose2d
from .elementwise import (
    absolute,
    add,
    astype,
    bernoulli_log_likelihood,
    clip,
    cos,
    divide,
    elu,
    exp,
    expm1,
    leaky_relu,
    log,
    log1p,
    log_sigmoid,
    logaddexp,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    raw,
    reciprocal,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from .linalg import inverse, linear, matmul, slogdet
from .pooling import average_pool2d, max_pool2d, upsample_nearest2d
from .reduction import (
    categorical_cross_entropy,
    cumsum,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    norm,
    prod,
    softmax,
    std,
    sum,
    var,
)
from .shaping import (
    broadcast_to,
    concatenate,
    diagonal,
    expand_dims,
    flip,
    getitem,
    moveaxis,
    pad,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    take_along_axis,
    transpose,
    tril,
    triu,
    unstack,
)


def _from_either(sizes: tuple):
    """The one tuple of t.reshape((2, 3)), or that of t.reshape(2, 3)."""
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


# Every operator and method of Tensor that computes. Comparisons give plain boolean arrays: they have no
# gradient, and serve as masks and indices.
_METHODS = {
    "__add__": add,
    "__radd__": lambda self, other: add(other, self),
    "__sub__": subtract,
    "__rsub__": lambda self, other: subtract(other, self),
    "__mul__": multiply,
    "__rmul__": lambda self, other: multiply(other, self),
    "__truediv__": divide,
    "__rtruediv__": lambda self, other: divide(other, self),
    "__pow__": power,
    "__rpow__": lambda self, other: power(other, self),
    "__matmul__": matmul,
    "__rmatmul__": lambda self, other: matmul(other, self),
    "__neg__": negative,
    "__pos__": lambda self: self,
    "__abs__": absolute,
    "__getitem__": getitem,
    "__iter__": lambda self: iter(unstack(self)),
    "__eq__": lambda self, other: self.data == raw(other),
    "__ne__": lambda self, other: self.data != raw(other),
    "__lt__": lambda self, other: self.data < raw(other),
    "__le__": lambda self, other: self.data <= raw(other),
    "__gt__": lambda self, other: self.data > raw(other),
    "__ge__": lambda self, other: self.data >= raw(other),
    "T": property(transpose),
    "astype": astype,
    "sum": sum,
    "mean": mean,
    "var": var,
    "std": std,
    "max": max,
    "min": min,
    "prod": prod,
    "cumsum": cumsum,
    "clip": clip,
    "reshape": lambda self, *shape: reshape(self, _from_either(shape)),
    "transpose": lambda self, *axes: transpose(self, _from_either(axes) if axes else None),
    "swapaxes": swapaxes,
    "squeeze": squeeze,
    "repeat": repeat,
    "diagonal": diagonal,
}
for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
