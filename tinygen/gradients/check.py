"""Numerical checks of gradients, to any order.

The outputs y of a function of x are contracted with random cotangents c, L = Σₖ ⟨cₖ, yₖ⟩, whose gradient is
x̄ = Jᵀc. For a small step δ it must agree with the central difference

    ⟨x̄, δ⟩ ≈ (L(x + δ) − L(x − δ)) / 2.

That is asked in float64, one element at a time for small inputs and along random directions for large ones.
For the next order, the same is asked of the function (x, c) ↦ x̄ that backward computed under create_graph:
that it is differentiated with respect to c too reveals a rule that loses the history of its ȳ.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

from .. import backend
from ..autodiff import Tensor, grad
from ..backend import xp

STEP = 1e-5  # relative to an element of x, if that is above 1: truncation and rounding cost 1e-11 alike
TOLERANCE = 1e-8  # relative to the numbers compared: 1/6 of what rounding to float32 costs
EPSILON = 2.0**-52
ROUNDINGS = 16  # how many in a row may fall on one side in computing L
SMALL = 64  # inputs of up to so many elements are checked one by one,
DIRECTIONS = 4  # others along so many directions

Function = Callable[[], tuple[Tensor, ...]]  # of the values that its variables have when it is called


class GradientError(AssertionError):
    """A gradient is wrong, or something was changed or shared in computing it.

    input: name of the input in f's signature, or of the parameter; of several shared ones, the first.
    order: of the derivative, 1 for the gradient.
    index, expected, got: the worst element, its value by central differences and by backward; None where the
        fault is not one of values."""

    def __init__(self, message: str, input: str, order: int, index=None, expected=None, got=None):
        super().__init__(f"derivative of order {order} with respect to {input}: {message}")
        self.input, self.order = input, order
        self.index, self.expected, self.got = index, expected, got


class Variable:
    """A float64 Tensor to differentiate with respect to, with its name and the values it shall keep."""

    def __init__(self, name: str, tensor: Tensor):
        self.name, self.tensor, self.value = name, tensor, tensor.data.copy()

    def move(self, step) -> None:
        """Add a step to the values; 0 restores them."""
        self.tensor.data = self.value + step

    @property
    def changed(self) -> bool:
        return not xp.array_equal(self.tensor.data, self.value)


def check_gradients(f: Callable, *inputs, params=None, order: int = 1) -> None:
    """Check the derivatives of f, up to an order, against central differences.

    f: function of as many Tensors as there are inputs; returns a Tensor of any shape or a tuple of them. It
        gets float64 and must compute in it. It is called under the same seed each time, so that what it draws
        from the default generator is frozen; that is left reseeded.
    inputs: where to check: Tensors or arrays of any floating dtype. They are copied.
    params: a module: its parameters, in float64 (`module.astype("float64")`), are inputs too. They are moved
        and put back.
    order: 1 for gradients, 2 for gradients of gradients, and so on.

    Choose points away from kinks. Besides values it checks that gradients have their inputs' shapes and
    dtypes and memory of their own, that nothing is changed in place, and (below the highest order) that
    backward gives the same numbers with create_graph as without. An input that f does not depend on has
    gradient zero.

    Raises GradientError, which names the input and its worst element; TypeError or ValueError for inputs and
    outputs that cannot be checked."""
    if order < 1:
        raise ValueError(f"order: expected 1 or more, got {order}")
    variables = [_variable(name, x) for name, x in zip(_names(f, len(inputs)), inputs)]
    tensors = [variable.tensor for variable in variables]
    if params is not None:
        variables += [_parameter(name, tensor) for name, tensor in params.named_parameters()]

    def function() -> tuple[Tensor, ...]:
        backend.seed(0)
        return _outputs(f(*tensors))

    try:
        _check(function, variables, 1, order)
    finally:
        for variable in variables:
            variable.move(0)


def _check(function: Function, variables: list[Variable], order: int, highest: int) -> None:
    """Check the derivatives of one order, then those of the next."""
    draws = backend.Generator(order)
    outputs = function()
    cotangents = [
        Variable(f"the cotangent of output {k}", Tensor(draws.normal(y.shape, "float64"), requires_grad=True))
        for k, y in enumerate(outputs)
    ]
    gradients = [x_bar.data for x_bar in _gradients(outputs, variables, cotangents, order)]
    _check_arrays(gradients, variables, cotangents, order)
    noise = _noise(outputs, gradients, variables, cotangents)
    _check_repeats(function, outputs, cotangents, noise)
    for variable, x_bar in zip(variables, gradients):
        _Comparison(function, variable, x_bar, cotangents, noise, order).run(draws)
    if order == highest:
        return

    def gradient_function() -> tuple[Tensor, ...]:
        return _gradients(function(), variables, cotangents, order, create_graph=True)

    _check_readings(gradient_function(), gradients, variables, order)
    _check(gradient_function, variables + cotangents, order + 1, highest)


def _gradients(outputs, variables, cotangents, order: int, create_graph=False) -> tuple[Tensor, ...]:
    """The gradient of L with respect to each variable; zeros where L does not depend on it."""
    pairs = [(y, c.tensor) for y, c in zip(outputs, cotangents) if y.requires_grad]

    def with_respect_to(tensors: list[Tensor]):
        if not pairs:
            return [None] * len(tensors)
        return grad(*_unzip(pairs, tensors), create_graph=create_graph, retain_graph=True, allow_unused=True)

    try:
        found = with_respect_to([variable.tensor for variable in variables])
    except RuntimeError:
        for variable in variables:  # one by one, to tell which it is
            try:
                with_respect_to([variable.tensor])
            except RuntimeError as error:
                raise GradientError(str(error), variable.name, order) from error
        raise
    return tuple(
        Tensor(xp.zeros(variable.tensor.shape)) if x_bar is None else x_bar
        for variable, x_bar in zip(variables, found)
    )
