"""Numerical checks of gradients, to any order.

The outputs y of a function of x are contracted with random cotangents c, L = Σₖ ⟨cₖ, yₖ⟩, whose gradient is
x̄ = Jᵀc. For a small step δ it must agree with the central difference

    ⟨x̄, δ⟩ ≈ (L(x + δ) − L(x − δ)) / 2.

That is asked in float64, of one element at a time for small inputs and along random directions for large
ones. For the next order, the same is asked of the function (x, c) ↦ x̄ that backward gives under
create_graph; that c is moved too reveals a rule that loses the history of its ȳ.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

from .. import backend
from ..autodiff import Tensor, grad
from ..backend import xp
from ..nn.module import frozen_state

STEP = 1e-5  # relative to what is above 1: truncation and rounding cost about 1e-11 each
TOLERANCE = 1e-9  # relative to the numbers compared; what was rounded to float32 is off by up to 6e-8
EPSILON = 2.0**-52
ROUNDINGS = 16  # so many may fall on one side in computing L
SMALL = 64  # inputs of up to so many elements are checked element by element,
DIRECTIONS = 4  # others along so many directions

Function = Callable[[], tuple[Tensor, ...]]  # of the values that its variables hold when it is called


class GradientError(AssertionError):
    """A gradient is wrong, or something was changed or shared in computing it.

    input: the name of the input in f's signature, or of the parameter.
    order: of the derivative; 1 for the gradient.
    index, expected, got: the worst element, its right value, and what backward gave; None where the fault is
        not one of values."""

    def __init__(self, fault: str, input: str, order: int, index=None, expected=None, got=None):
        where = "" if index is None else f" at {list(index)}: expected {expected:.10g}, got {got:.10g}"
        super().__init__(f"derivative of order {order} with respect to {input}: {fault}{where}")
        self.input, self.order = input, order
        self.index, self.expected, self.got = index, expected, got


class Variable:
    """A float64 Tensor to differentiate with respect to, its name, and the values it starts from."""

    def __init__(self, name: str, tensor: Tensor):
        self.name, self.tensor, self.value = name, tensor, tensor.data.copy()
        self.steps = STEP * xp.maximum(1, abs(self.value))  # how far to move each element

    def move(self, step) -> None:
        """Take the values to the start plus a step."""
        self.tensor.data = self.value + step


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

    Raises GradientError, which names the input and its worst element; TypeError or ValueError for inputs and
    outputs with which no check can be made."""
    if order < 1:
        raise ValueError(f"order: expected 1 or more, got {order}")
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

    def loss() -> float:
        return sum(float((c.value * y.data).sum()) for c, y in zip(cotangents, function()))

    gradients = [x_bar.data for x_bar in _gradients(outputs, variables, cotangents, order)]
    _check_arrays(gradients, variables, cotangents, order)
    noise = _noise(outputs, gradients, variables, cotangents)
    _check_outputs(outputs, loss, cotangents, noise)
    for variable, x_bar in zip(variables, gradients):
        _Comparison(loss, variable, x_bar, noise).run(draws, order)
    if order == highest:
        return

    def gradient_function() -> tuple[Tensor, ...]:
        return _gradients(function(), variables, cotangents, order, create_graph=True)

    _check_readings(gradient_function(), gradients, variables, noise, order)
    _check(gradient_function, variables + cotangents, order + 1, highest)


def _gradients(outputs, variables, cotangents, order: int, create_graph=False) -> tuple[Tensor, ...]:
    """The gradient of L with respect to each variable; zeros where L does not depend on it."""
    recorded = [(y, c.tensor) for y, c in zip(outputs, cotangents) if y.requires_grad]

    def with_respect_to(*these: Variable) -> tuple[Tensor | None, ...]:
        if not recorded:
            return (None,) * len(these)
        ys, cs = zip(*recorded)
        xs = [variable.tensor for variable in these]
        return grad(ys, xs, cs, create_graph=create_graph, retain_graph=True, allow_unused=True)

    try:
        gradients = with_respect_to(*variables)
    except RuntimeError:
        for variable in variables:  # one at a time, to tell which it is
            try:
                with_respect_to(variable)
            except RuntimeError as error:
                raise GradientError(str(error), variable.name, order) from error
        raise
    return tuple(
        Tensor(xp.zeros(variable.value.shape)) if x_bar is None else x_bar
        for variable, x_bar in zip(variables, gradients)
    )


# What must hold besides the values ----------------------------------------------------------------------


def _check_arrays(gradients, variables, cotangents, order: int) -> None:
    """Nothing was changed; each gradient has its input's shape and dtype, and memory of its own."""
    for variable in variables + cotangents:
        if not xp.array_equal(variable.tensor.data, variable.value):
            raise GradientError("its values were changed in place", variable.name, order)
    others = [(variable.name, variable.tensor.data) for variable in variables + cotangents]
    for variable, x_bar in zip(variables, gradients):
        if (x_bar.shape, x_bar.dtype) != (variable.value.shape, variable.value.dtype):
            raise GradientError(
                f"expected {variable.value.dtype}{list(variable.value.shape)}, "
                f"got {x_bar.dtype}{list(x_bar.shape)}",
                variable.name,
                order,
            )
        for name, other in others:
            if xp.may_share_memory(x_bar, other):
                raise GradientError(f"it shares memory with {name}", variable.name, order)
        others.append((f"the gradient of {variable.name}", x_bar))


def _check_outputs(outputs, loss: Callable[[], float], cotangents, noise: float) -> None:
    """The outputs are finite, and the same when they are computed again."""
    for k, y in enumerate(outputs):
        if not xp.isfinite(y.data).all():
            raise ValueError(f"f: expected finite outputs, output {k} is not")
    first = sum(float((c.value * y.data).sum()) for c, y in zip(cotangents, outputs))
    if abs(loss() - first) > noise:
        raise ValueError(
            "f: expected the same outputs for the same inputs; it must not change state, and draw random "
            "numbers from the default generator or from one that it makes itself"
        )


def _check_readings(recorded, gradients, variables, noise: float, order: int) -> None:
    """Backward under create_graph gave the numbers of plain backward."""
    for variable, again, x_bar in zip(variables, recorded, gradients):
        excess = abs(again.data - x_bar) * variable.steps - TOLERANCE * abs(x_bar) * variable.steps
        if not (excess <= noise).all():
            worst = int(excess.argmax())
            raise GradientError(
                "backward with create_graph=True differs from plain backward",
                variable.name,
                order,
                _index(worst, x_bar.shape),
                float(x_bar.ravel()[worst]),
                float(again.data.ravel()[worst]),
            )


# Central differences ------------------------------------------------------------------------------------


def _noise(outputs, gradients, variables, cotangents) -> float:
    """About how large the rounding errors in L are, if f computes with numbers of size 1 and of the sizes of
    its inputs and outputs. Smaller changes of L tell nothing."""
    terms = [(c.value, y.data) for c, y in zip(cotangents, outputs)]
    terms += [(x_bar, variable.value) for x_bar, variable in zip(gradients, variables)]
    squares = ((a * xp.maximum(1, abs(b))) ** 2 for a, b in terms)
    return ROUNDINGS * EPSILON * math.sqrt(sum(float(x[xp.isfinite(x)].sum()) for x in squares))


class _Comparison:
    """Of the gradient with respect to one variable with central differences of L."""

    def __init__(self, loss: Callable[[], float], variable: Variable, gradient, noise: float):
        self.loss, self.variable, self.gradient, self.noise = loss, variable, gradient, noise

    def run(self, draws: backend.Generator, order: int) -> None:
        """Raise GradientError for the worst element, if there is a wrong one."""
        worst = self.worst_of_all() if self.gradient.size <= SMALL else self.worst_along(draws)
        if worst is not None:
            expected, got, _ = self.along(self.step(worst))
            size = float(self.variable.steps.ravel()[worst])
            index = _index(worst, self.gradient.shape)
            fault = "backward differs from central differences"
            raise GradientError(fault, self.variable.name, order, index, expected / size, got / size)

    def worst_of_all(self) -> int | None:
        """The number of the element with the largest error, of those that are wrong."""
        size = self.gradient.size
        errors = [self.along(self.step(element)) for element in range(size)]
        wrong = [element for element in range(size) if not errors[element][2]]
        return max(wrong, key=lambda element: _distance(*errors[element][:2]), default=None)

    def worst_along(self, draws: backend.Generator) -> int | None:
        """The number of a wrong element, if the gradient is wrong along one of a few random directions: found
        by halving that step again and again, and keeping the half with the larger error."""
        for _ in range(DIRECTIONS):
            step = draws.normal(self.gradient.shape, "float64") * self.variable.steps
            if not self.along(step)[2]:
                break
        else:
            return None
        elements = xp.arange(self.gradient.size)
        while len(elements) > 1:
            half = len(elements) // 2
            halves = elements[:half], elements[half:]
            elements = max(halves, key=lambda part: _distance(*self.along(self.step(part, step))[:2]))
        return int(elements[0])

    def step(self, elements, step=None):
        """The part of a step that moves certain elements alone; each by the variable's own without one."""
        whole = (self.variable.steps if step is None else step).ravel()
        part = xp.zeros_like(whole)
        part[elements] = whole[elements]
        return part.reshape(self.gradient.shape)

    def along(self, step) -> tuple[float, float, bool]:
        """⟨x̄, δ⟩ by central difference, and by backward, and whether they agree."""
        expected = self.difference(step)
        moved = step != 0  # an element that is no number tells nothing of the others
        change = self.gradient[moved] * step[moved]
        got = float(change.sum())
        allowed = self.noise + TOLERANCE * math.sqrt(float((change * change).sum()))
        if _distance(expected, got) > allowed:
            # Half the step has a quarter of the truncation error: the difference shows how much that is.
            allowed += 2 * abs(expected - 2 * self.difference(step / 2))
        return expected, got, _distance(expected, got) <= allowed < math.inf

    def difference(self, step) -> float:
        """(L(x + δ) − L(x − δ)) / 2."""
        self.variable.move(step)
        above = self.loss()
        self.variable.move(-step)
        below = self.loss()
        self.variable.move(0)
        return (above - below) / 2


def _distance(a: float, b: float) -> float:
    """|a − b|, infinite for what is no number."""
    return abs(a - b) if math.isfinite(a - b) else math.inf


def _index(element: int, shape) -> tuple[int, ...]:
    """The index of element number `element` in an array of that shape."""
    index = []
    for size in reversed(shape):
        element, i = divmod(element, size)
        index.insert(0, i)
    return tuple(index)


# Arguments ----------------------------------------------------------------------------------------------


def _names(f: Callable, count: int) -> list[str]:
    """Names of f's inputs as in its signature, or by their numbers."""
    names = [f"input {k}" for k in range(count)]
    try:
        parameters = inspect.signature(f).parameters.values()
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
    for k, y in enumerate(outputs):
        if type(y) is not Tensor:
            raise TypeError(f"f: expected a Tensor or a tuple of them, output {k} is a {type(y).__name__}")
        if y.dtype != "float64":
            raise TypeError(f"f: expected float64 for float64 inputs, output {k} is {y.dtype}")
    return outputs
