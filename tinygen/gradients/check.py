"""check_gradients: the derivatives of a function against central differences; what is wrong is located."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from .. import backend
from ..autodiff import Tensor
from ..backend import xp
from ..nn.module import Module, frozen_state
from .derivatives import CHANGED, Function, GradientError, changed, check_derivatives
from .differences import Variable
from .locate import locate, same_values


def check_gradients(f: Callable, *inputs, params=None, order: int = 1) -> None:
    """Check the derivatives of f, up to an order, against central differences.

    f: a function of as many Tensors as there are inputs; returns a Tensor of any shape or a tuple of them. It
        gets float64 and must compute in it. It is called under the same seed each time, so that what it
        draws from the default generator is frozen, and inside `nn.frozen_state()`; the generator is left
        reseeded.
    inputs: where to check: Tensors or arrays of any floating dtype, which are copied. There f must be smooth
        over steps of 1e-5 (of 1e-5 |x| where |x| > 1): choose points away from kinks. Derivatives below
        about 1e-9 are not told from 0.
    params: a module, whose parameters, in float64 (`module.astype("float64")`), are inputs too. They are
        moved, and put back.
    order: 1 for gradients, 2 for gradients of gradients, and so on.

    An input that f does not depend on has gradient zero. Besides values it is checked that gradients have the
    shape and dtype of their inputs and memory of their own, that nothing is changed in place, and, below the
    highest order, that backward gives the same numbers with create_graph as without.

    Raises GradientError, which names the wrong rules of primitives, with the lines where they are defined and
    where the primitives are called, or else what else is wrong with f: a kink, random numbers, a state, an
    array changed in place. Finding that costs as much again as a few calls of f and some hundred of each
    primitive in it. Raises TypeError or ValueError for inputs and outputs with which no check can be made."""
    __tracebackhide__ = True  # from pytest's reports: the error says all that the way through here does
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"order: expected an int of 1 or more, got {order!r}")
    if not isinstance(params, (Module, type(None))):
        raise TypeError(f"params: expected a Module, got {type(params).__name__}")
    variables = [_variable(name, x) for name, x in zip(_names(f, len(inputs)), inputs)]
    tensors = [variable.tensor for variable in variables]
    if params is not None:
        variables += [_parameter(name, tensor) for name, tensor in params.named_parameters()]
    if not variables:
        raise ValueError("inputs: expected at least one, or params with parameters")

    def function() -> tuple[Tensor, ...]:
        backend.seed(0)
        with frozen_state():
            return _outputs(f(*tensors))

    try:
        values = [y.data.copy() for y in _finite(function())]
        try:
            _check_again(function, values, variables)
            kinks: list[GradientError] = []
            check_derivatives(function, variables, order, kinks)
            if kinks:
                raise kinks[0]
        except GradientError as error:
            locate(error, order, f, function, variables, values)
            raise error.with_traceback(None) from error.__cause__
    finally:
        for variable in variables:
            variable.move(0)


def _finite(outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    for k, y in enumerate(outputs):
        if not xp.isfinite(y.data).all():
            raise ValueError(f"f: expected finite outputs, output {k} is not")
    return outputs


def _check_again(function: Function, values: list, variables: list[Variable]) -> None:
    """A first call has changed no variable, and a second gives the same values."""
    for variable in variables:
        if not xp.array_equal(variable.tensor.data, variable.value):
            raise GradientError(changed(variable.name), variable.name, 1, None, CHANGED)
    if not same_values(function(), values):
        raise GradientError("f gives other values for the same inputs", variables[0].name, 1)


# Arguments ----------------------------------------------------------------------------------------------


def _names(f: Callable, count: int) -> list[str]:
    """Names of f's inputs as in its signature, or by their numbers."""
    names = [f"input {k}" for k in range(count)]
    try:
        parameters = inspect.signature(f.forward if isinstance(f, Module) else f).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have none
        return names
    for k, parameter in zip(range(count), parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return names[:k] + [f"{parameter.name}[{i}]" for i in range(count - k)]
        names[k] = parameter.name
    return names


def _variable(name: str, x) -> Variable:
    array = xp.asarray(x.data if type(x) is Tensor else x)
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected a floating dtype, got {array.dtype}")
    if not xp.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers only")
    return Variable(name, Tensor(array.astype("float64"), requires_grad=True))


def _parameter(name: str, tensor: Tensor) -> Variable:
    if tensor.dtype != "float64":
        raise TypeError(f"params: {name}: expected float64, got {tensor.dtype}; use params.astype('float64')")
    return Variable(name, tensor)


def _outputs(result) -> tuple[Tensor, ...]:
    outputs = result if isinstance(result, tuple) else (result,)
    if not outputs:
        raise TypeError("f: expected a Tensor or a tuple of them, got an empty tuple")
    for k, y in enumerate(outputs):
        if type(y) is not Tensor:
            raise TypeError(f"f: expected a Tensor or a tuple of them, output {k} is a {type(y).__name__}")
        if y.dtype != "float64":
            raise TypeError(f"f: expected float64 for float64 inputs, output {k} is {y.dtype}")
    return outputs
